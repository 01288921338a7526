#include <algorithm>
#include <map>

#include "branches.h"
#include "schema.h"

namespace engine {

namespace {

/// How many texts match: at least that many, and no more than `enough`.
std::uint32_t count_texts(Expressions& pool, Expr language, std::uint32_t enough) {
    constexpr std::size_t longest = 64, widest = 500;
    std::map<Expr, std::uint32_t> level{{language, 1}};
    std::uint64_t found = 0;
    for (std::size_t length = 0; length < longest && !level.empty() && found < enough; ++length) {
        std::map<Expr, std::uint32_t> next;
        for (const auto& [state, ways] : level) {
            if (pool.nullable(state)) found += ways;
            for (unsigned byte = 0; byte < 256; ++byte) {
                const Expr to = pool.next(state, std::uint8_t(byte));
                if (to == Expressions::none || (next.size() >= widest && !next.contains(to)))
                    continue;
                auto& count = next[to];
                count = std::uint32_t(std::min<std::uint64_t>(std::uint64_t(count) + ways, enough));
            }
        }
        level = std::move(next);
    }
    return std::uint32_t(std::min<std::uint64_t>(found, enough));
}

} // namespace

/// That a match can remember the items, and never has to look ahead so as not to run out of them.
bool Schemas::check_unique(const ArrayShape& shape, std::uint32_t from) {
    const auto scalars_only = [&](Value value) {
        Sketch sketch;
        for (const Atom atom : values_[value].atoms) sketch.meet(this->sketch(atom));
        return (sketch.types & (types::array | types::object)) == 0;
    };
    bool is_fine = shape.max <= shape.first.size() || scalars_only(shape.rest);
    for (const Value value : shape.first) is_fine = is_fine && scalars_only(value);
    if (!is_fine) {
        refuse(from, "uniqueItems", "of arrays or objects, or of any items at all");
        return false;
    }
    constexpr std::uint32_t looked_at = 1000;
    std::uint32_t enough = std::min(shape.min, looked_at);
    for (std::size_t i = 0; i < shape.first.size() && i < enough; ++i)
        is_fine = is_fine && count_values(shape.first[i], std::uint32_t(i + 1)) > i;
    if (shape.first.size() < enough)
        is_fine = is_fine && count_values(shape.rest, enough) >= enough;
    for (const auto& each : shape.contains) is_fine = is_fine && each.min <= 1;
    is_fine = is_fine && shape.min <= looked_at;
    if (!is_fine)
        refuse(from, "uniqueItems", "beside a demand for more items than may surely be distinct");
    return is_fine;
}

/// How many JSON scalars are of a kind: at least that many, and no more than `enough`.
std::uint32_t Schemas::count_values(Value value, std::uint32_t enough) {
    std::uint32_t most = 0;
    for (const Clause& clause : Branches(*this).of(values_[value].atoms)) {
        std::uint32_t count = 0;
        if (clause.values) {
            for (const Json* json : *clause.values) count += fits(clause, *json);
        } else {
            for (const auto type : {types::null, types::yes, types::no})
                count += (clause.types & type) != 0;
            if ((clause.types & types::string) != 0)
                count += count_texts(pool_, string_language(clause, true), enough);
            if ((clause.types & types::integer) != 0) {
                NumberRange range = clause.number;
                range.with_fractions = false;
                count +=
                    count_texts(pool_, number_language(pool_, range, Writing::json_needed), enough);
            }
        }
        most = std::max(most, count);
    }
    return std::min(most, enough);
}

} // namespace engine
