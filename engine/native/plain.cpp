#include <algorithm>
#include <array>

#include "branches.h"
#include "formats.h"
#include "schema.h"

namespace engine {

// Schemas that speak of nothing but types and strings. Those are closed under all that combines
// schemas, so that combinations of them are one expression instead of many branches.

namespace {

constexpr std::uint32_t not_strings = types::all & ~types::string;
constexpr std::size_t max_plain_depth = 64; // of schemas inside each other

/// Whether a keyword says something that a `Plain` can't.
bool is_beyond(std::string_view key) {
    static constexpr std::array keys{"minimum",
                                     "maximum",
                                     "exclusiveMinimum",
                                     "exclusiveMaximum",
                                     "multipleOf",
                                     "minItems",
                                     "maxItems",
                                     "uniqueItems",
                                     "contains",
                                     "items",
                                     "prefixItems",
                                     "additionalItems",
                                     "unevaluatedItems",
                                     "minProperties",
                                     "maxProperties",
                                     "required",
                                     "propertyNames",
                                     "properties",
                                     "patternProperties",
                                     "additionalProperties",
                                     "unevaluatedProperties",
                                     "dependencies",
                                     "dependentRequired",
                                     "dependentSchemas",
                                     "$dynamicRef",
                                     "$recursiveRef"};
    return std::ranges::find(keys, key) != keys.end();
}

} // namespace

Plain Schemas::of_types(std::uint32_t types) {
    Plain out{types};
    if ((types & types::string) != 0) out.text = characters_.text(), out.key = keys_.text();
    return out;
}

Plain Schemas::of_strings(Expr text, Expr key) {
    return {types::all, text, key};
}

Plain Schemas::complement(const Plain& plain) {
    const auto all_but = [&](Characters& characters, Expr expression) {
        if (expression == Expressions::none) return characters.text();
        if (expression == characters.text()) return Expressions::none;
        return pool_.minus(characters.text(), expression);
    };
    Plain out{not_strings & ~plain.types, all_but(characters_, plain.text),
              all_but(keys_, plain.key)};
    if (out.text != Expressions::none) out.types |= types::string;
    return out;
}

Plain Schemas::join(const Plain& a, const Plain& b) {
    const auto either = [&](Characters& characters, Expr x, Expr y) {
        const Expr all = characters.text();
        return x == all || y == all ? all : pool_.either({x, y});
    };
    return {a.types | b.types, either(characters_, a.text, b.text), either(keys_, a.key, b.key)};
}

Plain Schemas::meet(const Plain& a, const Plain& b) {
    const auto both = [&](Characters& characters, Expr x, Expr y) {
        const Expr all = characters.text();
        return x == all ? y : y == all ? x : pool_.both(x, y);
    };
    Plain out{a.types & b.types, both(characters_, a.text, b.text), both(keys_, a.key, b.key)};
    if ((out.types & types::string) == 0) out.text = out.key = Expressions::none;
    if (out.text == Expressions::none) out.types &= ~types::string;
    return out;
}

/// Nothing where the schema says more, or where finding out takes long.
const std::optional<Plain>& Schemas::plain(Atom atom) {
    const auto [at, is_new] = plains_.try_emplace(atom); // inside its own definition it is not
    if (!is_new || plain_depth_ >= max_plain_depth) return at->second;
    ++plain_depth_;
    std::optional<Plain> out;
    if (atom % 2 == 0) {
        out = plain_of(atom / 2);
    } else if (const auto& inner = plain(atom ^ 1)) {
        out = complement(*inner);
    }
    --plain_depth_;
    return plains_[atom] = std::move(out);
}

std::optional<Plain> Schemas::plain_of(std::uint32_t schema) {
    const Schema own = schemas_[schema];
    const Json& json = *own.json;
    if (own.is_literal) return plain_values({&json});
    if (!own.any_of.empty()) return plain_any_of(own.any_of);
    if (json.is(Json::Type::boolean)) return of_types(json.truth ? types::all : 0);
    if (!json.is(Json::Type::object) || own.only_annotates) return {};
    const Json* ref = json.find("$ref");
    const bool is_hidden = ref != nullptr && is_old(schema);
    Plain out = of_types(types::all);
    for (const auto& [key, value] : json.members) {
        if (is_hidden && key != "$ref") continue;
        if (is_beyond(key)) return {};
        const auto part = plain_keyword(schema, key, value);
        if (!part) return {};
        out = meet(out, *part);
    }
    return out;
}

std::optional<Plain> Schemas::plain_keyword(std::uint32_t schema, const std::string& key,
                                            const Json& value) {
    const auto length = [&](std::uint32_t least, std::uint32_t most) {
        return of_strings(pool_.repeat(characters_.any(), least, most),
                          pool_.repeat(keys_.any(), least, most));
    };
    if (key == "type") {
        std::uint32_t bits = types::named(value.text);
        for (const auto& name : value.items) bits |= types::named(name.text);
        return of_types(bits);
    }
    if (key == "const") return plain_values({&value});
    if (key == "enum") {
        std::vector<const Json*> values;
        for (const auto& item : value.items) values.push_back(&item);
        return plain_values(values);
    }
    if (key == "pattern")
        return of_strings(pattern(schema, value.text, "pattern"), key_pattern(schema, value.text));
    if (key == "format") {
        const Expr language = format(value.text);
        Plain out = of_types(types::all);
        if (language != Expressions::everything)
            out = of_strings(language, format(value.text, true));
        const std::uint32_t most = checks_formats() ? format_length(value.text) : 0;
        return most > 0 ? meet(out, length(0, most)) : out;
    }
    if (key == "minLength" || key == "maxLength") {
        const Decimal count = Decimal::parse(value.text);
        if (!value.is(Json::Type::number) || !count.is_integer() || count.is_negative ||
            count.exponent > 9)
            return {};
        const auto n = count.is_zero() ? 0U : std::uint32_t(std::stoul(count.whole()));
        return key == "minLength" ? length(n, Expressions::forever) : length(0, n);
    }
    if (key == "allOf") {
        Plain out = of_types(types::all);
        for (const Atom part : children(schema, key, value)) {
            const auto& own = plain(part);
            if (!own) return {};
            out = meet(out, *own);
        }
        return out;
    }
    if (key == "anyOf") return plain_any_of(children(schema, key, value));
    if (key == "oneOf") return plain_one_of(children(schema, key, value));
    if (key == "not") return plain(negative_of(child(schema, value, key)));
    if (key == "$ref") return plain(positive_of(resolve(schema, value, "$ref")));
    if (key == "if") return plain_if(schema, value);
    return of_types(types::all);
}

std::vector<Atom> Schemas::children(std::uint32_t schema, const std::string& key,
                                    const Json& list) {
    std::vector<Atom> out;
    for (std::size_t i = 0; i < list.items.size(); ++i)
        out.push_back(positive_of(child(schema, list.items[i], key + "/" + std::to_string(i))));
    return out;
}

std::optional<Plain> Schemas::plain_any_of(const std::vector<Atom>& parts) {
    Plain out;
    for (const Atom part : parts) {
        const auto& own = plain(part);
        if (!own) return {};
        out = join(out, *own);
    }
    return out;
}

std::optional<Plain> Schemas::plain_one_of(const std::vector<Atom>& parts) {
    Plain once, twice;
    for (const Atom part : parts) {
        const auto& own = plain(part);
        if (!own) return {};
        twice = join(twice, meet(once, *own));
        once = join(once, *own);
    }
    if (is_hopeless(twice.text)) twice.text = Expressions::none;
    if (is_hopeless(twice.key)) twice.key = Expressions::none;
    if (twice.text == Expressions::none && twice.key == Expressions::none)
        twice.types &= ~types::string;
    return meet(once, complement(twice));
}

std::optional<Plain> Schemas::plain_if(std::uint32_t schema, const Json& condition) {
    const Json& json = *schemas_[schema].json;
    const std::uint32_t when = child(schema, condition, "if");
    const auto branch = [&](Atom atom, const char* key) -> std::optional<Plain> {
        const std::optional<Plain> holds = plain(atom);
        const Json* then = json.find(key);
        if (!holds || then == nullptr) return holds;
        const std::optional<Plain> more = plain(positive_of(child(schema, *then, key)));
        return more ? std::optional(meet(*holds, *more)) : std::nullopt;
    };
    const auto yes = branch(positive_of(when), "then"), no = branch(negative_of(when), "else");
    return yes && no ? std::optional(join(*yes, *no)) : std::nullopt;
}

std::optional<Plain> Schemas::plain_values(const std::vector<const Json*>& values) {
    Plain out;
    std::vector<std::string> words;
    for (const Json* value : values) {
        if (!is_scalar(*value) || value->is(Json::Type::number)) return {};
        out.types |= types::of(*value);
        if (value->is(Json::Type::string)) words.push_back(value->text);
    }
    if (words.empty()) return out;
    out.text = characters_.words(words);
    out.key = keys_.words(words);
    return out;
}

/// What a plain schema demands.
Branches::Option Branches::facts_of(const Plain& plain) {
    Option out{{.kind = Kind::types, .n = plain.types}};
    const bool has_strings = (plain.types & types::string) != 0;
    if (has_strings && plain.text != schemas_.characters_.text())
        out.push_back({.kind = Kind::language, .expr = plain.text, .key = plain.key});
    return out;
}

bool Branches::demand(Branch& branch, const Plain& plain) {
    for (auto& fact : facts_of(plain)) branch.todo.push_back(std::move(fact));
    return true;
}

} // namespace engine
