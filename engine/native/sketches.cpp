#include "sketches.h"

#include <algorithm>
#include <unordered_set>

namespace engine {

std::uint32_t types::named(std::string_view name) {
    if (name == "null") return types::null;
    if (name == "boolean") return types::boolean;
    if (name == "integer") return types::integer;
    if (name == "number") return types::number;
    if (name == "string") return types::string;
    if (name == "array") return types::array;
    return name == "object" ? types::object : 0;
}

std::uint32_t types::of(const Json& json) {
    switch (json.type) {
    case Json::Type::null:
        return types::null;
    case Json::Type::boolean:
        return json.truth ? types::yes : types::no;
    case Json::Type::number:
        return Decimal::parse(json.text).is_integer() ? types::integer : types::fraction;
    case Json::Type::string:
        return types::string;
    case Json::Type::array:
        return types::array;
    case Json::Type::object:
        return types::object;
    }
    return 0;
}

std::string key_of(const Json& json) {
    std::string key(1, char('0' + int(json.type)));
    if (json.is(Json::Type::number)) {
        const Decimal value = Decimal::parse(json.text);
        return key + (value.is_negative ? "-" : "") + value.digits + "e" +
               std::to_string(value.is_zero() ? 0 : value.exponent);
    }
    if (json.is(Json::Type::boolean)) return key + (json.truth ? "t" : "f");
    return key + json.text;
}

namespace {

void filter(std::vector<const Json*>& values, const std::vector<const Json*>& others, bool keeps) {
    std::unordered_set<std::string> keys;
    for (const Json* other : others) keys.insert(key_of(*other));
    std::erase_if(values, [&](const Json* value) {
        bool is_there = keys.contains(key_of(*value));
        if (is_there && !is_scalar(*value))
            is_there =
                std::ranges::any_of(others, [&](auto* other) { return equal(*value, *other); });
        return is_there != keeps;
    });
}

} // namespace

void keep_common(std::vector<const Json*>& values, const std::vector<const Json*>& others) {
    filter(values, others, true);
}

void drop_common(std::vector<const Json*>& values, const std::vector<const Json*>& others) {
    if (!others.empty()) filter(values, others, false);
}

void Sketch::tidy() {
    if (!values) return;
    std::erase_if(*values, [&](const Json* value) { return (types::of(*value) & types) == 0; });
    drop_common(*values, excluded);
    excluded.clear();
    types = 0;
    for (const Json* value : *values) types |= types::of(*value);
}

void Sketch::meet(const Sketch& other) {
    types &= other.types;
    is_exact = is_exact && other.is_exact;
    excluded.insert(excluded.end(), other.excluded.begin(), other.excluded.end());
    if (values && other.values)
        keep_common(*values, *other.values);
    else if (other.values)
        values = other.values;
    tidy();
}

Sketch Sketch::opposite() const {
    Sketch out;
    out.is_exact = is_exact;
    if (!is_exact) return out;
    if (values)
        out.excluded = *values;
    else if (excluded.empty())
        out.types = types::all & ~types;
    else
        out.is_exact = false;
    return out;
}

} // namespace engine
