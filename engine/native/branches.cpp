#include "branches.h"

#include <algorithm>
#include <array>

#include "excess.h"
#include "uris.h"

namespace engine {

bool is_assertion(std::string_view key) {
    static constexpr std::array keys{
        "type",        "const",     "enum",          "multipleOf",    "maximum",
        "minimum",     "maxLength", "minLength",     "pattern",       "exclusiveMaximum",
        "maxItems",    "minItems",  "uniqueItems",   "maxContains",   "exclusiveMinimum",
        "minContains", "required",  "maxProperties", "minProperties", "dependentRequired"};
    return std::ranges::find(keys, key) != keys.end();
}

// Running

std::vector<Clause> Branches::of(const std::vector<Atom>& atoms) {
    std::vector<Branch> open(1);
    for (auto each = atoms.rbegin(); each != atoms.rend(); ++each)
        open.front().todo.push_back(atom(*each));
    std::vector<Clause> out;
    std::size_t count = 1;
    while (!open.empty()) {
        Branch branch = std::move(open.back());
        open.pop_back();
        ++schemas_.n_branches_;
        if (!settle(branch)) continue;
        if (branch.choices.empty() && branch.one_ofs.empty()) {
            out.push_back(std::move(branch.clause));
            continue;
        }
        const std::size_t before = open.size();
        split(std::move(branch), open);
        count += open.size() - before;
        if (count > schemas_.options_.max_branches)
            throw LimitExceeded("branches", schemas_.options_.max_branches,
                                schemas_.options_.max_branches + 1,
                                "combinations of anyOf, oneOf, not and if in one place");
    }
    return out;
}

/// The ways to take one choice: that with the fewest options, which decides the most.
void Branches::split(Branch branch, std::vector<Branch>& out) {
    const auto smallest = std::ranges::min_element(
        branch.choices, {}, [](const std::vector<Option>& options) { return options.size(); });
    const bool has_choice = smallest != branch.choices.end();
    if (!branch.one_ofs.empty() &&
        (!has_choice || branch.one_ofs.back().parts.size() <= smallest->size()))
        return split_one_of(std::move(branch), out);
    const std::vector<Option> options = std::move(*smallest);
    branch.choices.erase(smallest);
    for (auto option = options.rbegin(); option != options.rend(); ++option) {
        schemas_.count_steps(branch.size());
        Branch next = branch;
        next.todo.assign(option->rbegin(), option->rend());
        out.push_back(std::move(next));
    }
}

/// One part holds and the others don't, which needs saying only of those that could.
void Branches::split_one_of(Branch branch, std::vector<Branch>& out) {
    const auto [parts, scope] = std::move(branch.one_ofs.back());
    branch.one_ofs.pop_back();
    for (auto one = parts.rbegin(); one != parts.rend(); ++one) {
        schemas_.count_steps(branch.size());
        Branch next = branch;
        next.todo = {atom(*one, scope)};
        if (!settle(next)) continue;
        std::vector<Fact> others;
        for (const Atom other : parts)
            if (other != *one && !excludes(next, *one, other, scope))
                others.push_back(atom(opposite(other)));
        if (std::ranges::count(parts, *one) > 1) continue; // it would hold twice
        next.todo = std::move(others);
        out.push_back(std::move(next));
    }
}

/// Whether `other` can't hold in a branch in which `one` does.
bool Branches::excludes(const Branch& branch, Atom one, Atom other, int scope) {
    if (exclude_each_other(one, other)) return true;
    schemas_.count_steps(branch.size());
    Branch both = branch;
    both.todo = {atom(other, scope)};
    return !settle(both);
}

bool Branches::exclude_each_other(Atom one, Atom other) {
    const std::pair key = std::minmax(one, other);
    const auto known = schemas_.exclusive_.find(key);
    if (known != schemas_.exclusive_.end()) return known->second;
    Branch both;
    both.todo = {atom(one), atom(other)};
    bool out = !settle(both);
    if (!out) out = schemas_.is_surely_dead(schemas_.value_of({one, other}), 3);
    schemas_.exclusive_.emplace(key, out);
    return out;
}

/// Works off what must hold, in the order of the schema; false if it can't.
bool Branches::settle(Branch& branch) {
    do {
        while (!branch.todo.empty()) {
            const Fact fact = std::move(branch.todo.back());
            branch.todo.pop_back();
            const auto before = std::ptrdiff_t(branch.todo.size());
            schemas_.count_steps(1);
            if (!apply(branch, fact) || branch.clause.types == 0) return false;
            std::reverse(branch.todo.begin() + before, branch.todo.end());
        }
        if (!take_options(branch)) return false;
    } while (!branch.todo.empty());
    return is_possible(branch);
}

/// An option that no longer fits is none; of one that is left alone we needn't choose.
bool Branches::take_options(Branch& branch) {
    for (std::size_t i = 0; i < branch.choices.size(); ++i) {
        auto& options = branch.choices[i];
        std::erase_if(options, [&](const Option& option) {
            return std::ranges::any_of(option, [&](const Fact& fact) {
                if (fact.kind == Kind::types) return (fact.n & branch.clause.types) == 0;
                if (fact.kind == Kind::absent)
                    return std::ranges::find(branch.clause.required, fact.name) !=
                           branch.clause.required.end();
                return fact.kind == Kind::atom && branch.has(opposite(fact.atom));
            });
        });
        if (options.empty()) return false;
        if (options.size() > 1) continue;
        branch.todo.insert(branch.todo.end(), options.front().rbegin(), options.front().rend());
        branch.choices.erase(branch.choices.begin() + std::ptrdiff_t(i--));
    }
    return true;
}

/// Leaves out types that can't be, as far as that is cheap to see; false if none is left.
bool Branches::is_possible(Branch& branch) {
    Clause& clause = branch.clause;
    if (clause.values) {
        std::erase_if(*clause.values,
                      [&](const Json* v) { return (types::of(*v) & clause.types) == 0; });
        if (clause.values->empty()) return false;
    }
    if ((clause.types & types::object) != 0)
        for (const auto& name : clause.required)
            if (!has_value(clause, name)) clause.types &= ~types::object;
    if (clause.min_items > clause.max_items) clause.types &= ~types::array;
    constexpr std::uint32_t looked_at = 4;
    if ((clause.types & types::array) != 0)
        for (std::uint32_t i = 0; i < std::min(clause.min_items, looked_at); ++i)
            if (!has_item(clause, i)) clause.types &= ~types::array;
    return clause.types != 0;
}

bool Branches::has_value(const Clause& clause, const std::string& name) {
    const std::string spelled = schemas_.keys_.spelled(name);
    std::vector<Atom> atoms;
    for (const auto& member : clause.members) member.table->collect(pool_, name, spelled, atoms);
    for (const auto& [other, atom] : clause.properties)
        if (other == name) atoms.push_back(atom);
    Sketch sketch;
    for (const Atom each : atoms) sketch.meet(schemas_.sketch(each));
    return !sketch.is_dead();
}

bool Branches::has_item(const Clause& clause, std::uint32_t index) {
    Sketch sketch;
    for (const auto& member : clause.items) {
        if (index < member.first.size())
            sketch.meet(schemas_.sketch(member.first[index]));
        else if (member.rest)
            sketch.meet(schemas_.sketch(*member.rest));
    }
    for (const auto& [at, atom] : clause.items_at)
        if (at == index) sketch.meet(schemas_.sketch(atom));
    return !sketch.is_dead();
}

bool PropertyTable::collect(Expressions& pool, const std::string& name, const std::string& spelled,
                            std::vector<Atom>& atoms) const {
    bool is_named = false;
    if (const auto own = by_name.find(name); own != by_name.end())
        atoms.push_back(own->second), is_named = true;
    for (const auto& [keys, atom] : patterns)
        if (pool.matches(keys, spelled)) atoms.push_back(atom), is_named = true;
    if (!is_named && additional) atoms.push_back(*additional);
    return is_named || additional;
}

bool Branches::apply(Branch& branch, const Fact& fact) {
    Clause& clause = branch.clause;
    switch (fact.kind) {
    case Kind::atom:
        return apply_atom(branch, fact.atom, fact.scope);
    case Kind::types:
        clause.types &= fact.n;
        return true;
    case Kind::value: {
        clause.types &= types::of(*fact.json);
        if (!clause.values) {
            clause.values = {fact.json};
            return true;
        }
        std::erase_if(*clause.values, [&](const Json* v) { return !equal(*v, *fact.json); });
        return !clause.values->empty();
    }
    case Kind::not_value:
        if (fact.json->is(Json::Type::string))
            clause.not_strings.push_back(fact.json->text);
        else if (fact.json->is(Json::Type::number))
            clause.number.excluded.push_back(Decimal::parse(fact.json->text));
        else
            clause.types &= ~types::of(*fact.json);
        return true;
    case Kind::low:
    case Kind::low_open:
    case Kind::high:
    case Kind::high_open: {
        const bool is_low = fact.kind == Kind::low || fact.kind == Kind::low_open;
        const Bound bound{Decimal::parse(fact.json->text),
                          fact.kind == Kind::low_open || fact.kind == Kind::high_open};
        auto& there = is_low ? clause.number.low : clause.number.high;
        const int order = there ? compare(bound.at, there->at) * (is_low ? 1 : -1) : 1;
        if (order > 0 || (order == 0 && bound.is_open)) there = bound;
        return true;
    }
    case Kind::multiple:
        clause.number.multiples.push_back(Decimal::parse(fact.json->text));
        return true;
    case Kind::not_multiple:
        clause.number.not_multiples.push_back(Decimal::parse(fact.json->text));
        return true;
    case Kind::min_length:
        clause.min_length = std::max(clause.min_length, fact.n);
        return true;
    case Kind::max_length:
        clause.max_length = std::min(clause.max_length, fact.n);
        return true;
    case Kind::language:
        clause.languages.push_back({fact.expr, fact.key});
        return true;
    case Kind::min_items:
        clause.min_items = std::max(clause.min_items, fact.n);
        return true;
    case Kind::max_items:
        clause.max_items = std::min(clause.max_items, fact.n);
        return true;
    case Kind::unique:
        clause.unique_by = fact.n;
        return true;
    case Kind::item_at:
        clause.items_at.emplace_back(fact.n, fact.atom);
        return true;
    case Kind::contains:
        clause.contains.push_back({fact.atom, fact.n, fact.m, fact.scope});
        return true;
    case Kind::min_properties:
        clause.min_properties = std::max(clause.min_properties, fact.n);
        return true;
    case Kind::max_properties:
        clause.max_properties = std::min(clause.max_properties, fact.n);
        return true;
    case Kind::required:
        clause.required.push_back(fact.name);
        return !clause.absent.contains(fact.name) || (clause.types &= ~types::object) != 0;
    case Kind::absent:
        clause.absent.insert(fact.name);
        return std::ranges::find(clause.required, fact.name) == clause.required.end() ||
               (clause.types &= ~types::object) != 0;
    case Kind::property:
        clause.properties.emplace_back(fact.name, fact.atom);
        return true;
    case Kind::key_exists:
        clause.wishes.push_back(
            {fact.expr, fact.has_atom ? std::optional(fact.atom) : std::nullopt});
        return true;
    }
    return true;
}

bool Branches::apply_atom(Branch& branch, Atom atom, int scope) {
    if (!branch.done.insert({atom, scope}).second) return true;
    if (branch.has(opposite(atom))) return false;
    const std::uint32_t schema = atom / 2;
    const bool is_not = atom % 2 != 0;
    const Json* json = schemas_.schemas_[schema].json;
    if (schemas_.schemas_[schema].is_literal) return literal(branch, schema, is_not);
    if (const auto parts = schemas_.schemas_[schema].any_of; !parts.empty()) {
        std::vector<Option> options;
        for (const Atom part : parts) options.push_back({this->atom(part)});
        if (!is_not) branch.choices.push_back(std::move(options));
        for (const Atom part : parts)
            if (is_not) branch.todo.push_back(this->atom(opposite(part)));
        return true;
    }
    if (json->is(Json::Type::boolean)) return json->truth != is_not;
    if (!json->is(Json::Type::object))
        schemas_.fail(schema, "", "a schema must be an object or a boolean");
    return is_not ? negative(branch, schema) : positive(branch, schema, scope);
}

/// A value itself, or anything else.
bool Branches::literal(Branch& branch, std::uint32_t schema, bool is_not) {
    const Json& json = *schemas_.schemas_[schema].json;
    if (is_scalar(json)) {
        branch.todo.push_back({.kind = is_not ? Kind::not_value : Kind::value, .json = &json});
        return true;
    }
    const bool is_array = json.is(Json::Type::array);
    const std::uint32_t type = is_array ? types::array : types::object;
    std::vector<std::pair<std::string, const Json*>> members; // of equal keys the last counts
    for (const auto& [key, value] : json.members)
        if (json.find(key) == &value) members.emplace_back(key, &value);
    const auto size = std::uint32_t(is_array ? json.items.size() : members.size());
    const Kind min = is_array ? Kind::min_items : Kind::min_properties;
    const Kind max = is_array ? Kind::max_items : Kind::max_properties;
    std::vector<std::pair<Fact, Fact>> parts; // what makes the part be there, and what it is
    for (std::uint32_t i = 0; i < json.items.size(); ++i)
        parts.push_back({{.kind = min, .n = i + 1},
                         {.kind = Kind::item_at,
                          .atom = positive_of(schemas_.literal(schema, json.items[i])),
                          .n = i}});
    for (const auto& [key, value] : members)
        parts.push_back({{.kind = Kind::required, .name = key},
                         {.kind = Kind::property,
                          .atom = positive_of(schemas_.literal(schema, *value)),
                          .name = key}});
    if (!is_not) {
        if (branch.clause.written.empty())
            for (const auto& [key, value] : members) branch.clause.written.push_back(key);
        branch.todo.push_back({.kind = Kind::types, .n = type});
        branch.todo.push_back({.kind = min, .n = size});
        branch.todo.push_back({.kind = max, .n = size});
        for (const auto& [there, what] : parts) {
            if (!is_array) branch.todo.push_back(there);
            branch.todo.push_back(what);
        }
        return true;
    }
    const Fact is_type{.kind = Kind::types, .n = type};
    std::vector<Option> options{{{.kind = Kind::types, .n = types::all & ~type}},
                                {is_type, {.kind = min, .n = size + 1}}};
    if (size > 0) options.push_back({is_type, {.kind = max, .n = size - 1}});
    for (auto [there, what] : parts) {
        what.atom = opposite(what.atom);
        options.push_back({is_type, there, what});
        if (!is_array) options.push_back({is_type, {.kind = Kind::absent, .name = there.name}});
    }
    branch.choices.push_back(std::move(options));
    return true;
}

Atom Branches::sub(std::uint32_t schema, const std::string& key, const Json& json) const {
    return positive_of(schemas_.child(schema, json, key));
}

Atom Branches::sub(std::uint32_t schema, const std::string& key, const std::string& more,
                   const Json& json) const {
    std::string escaped;
    for (const char c : more) escaped += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    return positive_of(schemas_.child(schema, json, key + "/" + escaped));
}

std::uint32_t Branches::count(std::uint32_t schema, const std::string& key,
                              const Json& json) const {
    const Decimal value = Decimal::parse(json.text);
    if (!json.is(Json::Type::number) || !value.is_integer() || value.is_negative)
        schemas_.fail(schema, key, "must be a whole number of at least 0");
    if (value.exponent > 9) return Expressions::forever - 1;
    return value.is_zero() ? 0U : std::uint32_t(std::stoul(value.whole()));
}

} // namespace engine
