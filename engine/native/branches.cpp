#include "branches.h"

#include <algorithm>

namespace engine {

namespace {

constexpr Atom positive_of(std::uint32_t schema) { return schema * 2; }
constexpr Atom negative_of(std::uint32_t schema) { return schema * 2 + 1; }
constexpr Atom opposite(Atom atom) { return atom ^ 1; }

std::uint32_t type_bits(std::string_view name) {
    if (name == "null") return types::null;
    if (name == "boolean") return types::boolean;
    if (name == "integer") return types::integer;
    if (name == "number") return types::number;
    if (name == "string") return types::string;
    if (name == "array") return types::array;
    return name == "object" ? types::object : 0;
}

std::uint32_t type_of(const Json& json) {
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

bool is_scalar(const Json& json) {
    return !json.is(Json::Type::array) && !json.is(Json::Type::object);
}

} // namespace

// Running

std::vector<Clause> Branches::of(const std::vector<Atom>& atoms) {
    std::vector<Branch> open(1);
    for (const Atom each : atoms) open.front().todo.push_back(atom(each));
    std::vector<Clause> out;
    std::size_t count = 1;
    while (!open.empty()) {
        Branch branch = std::move(open.back());
        open.pop_back();
        if (!settle(branch)) continue;
        if (branch.choices.empty()) {
            out.push_back(std::move(branch.clause));
            continue;
        }
        // The choice with the fewest options first: it decides the most.
        const auto smallest = std::ranges::min_element(
            branch.choices, {}, [](const std::vector<Option>& options) { return options.size(); });
        const std::vector<Option> options = std::move(*smallest);
        branch.choices.erase(smallest);
        count += options.size();
        if (count > schemas_.options_.max_branches)
            throw TooComplex("more than " + std::to_string(schemas_.options_.max_branches) +
                             " combinations of anyOf, oneOf, not and if in one place");
        for (auto option = options.rbegin(); option != options.rend(); ++option) {
            Branch next = branch;
            next.todo = *option;
            open.push_back(std::move(next));
        }
    }
    return out;
}

/// Works off what must hold; false if it can't.
bool Branches::settle(Branch& branch) {
    while (!branch.todo.empty()) {
        const Fact fact = std::move(branch.todo.back());
        branch.todo.pop_back();
        if (!apply(branch, fact) || branch.clause.types == 0) return false;
    }
    // An option that no longer fits is none; of one that is left alone we needn't choose.
    for (std::size_t i = 0; i < branch.choices.size(); ++i) {
        auto& options = branch.choices[i];
        std::erase_if(options, [&](const Option& option) {
            return std::ranges::any_of(option, [&](const Fact& fact) {
                if (fact.kind == Kind::types) return (fact.n & branch.clause.types) == 0;
                return fact.kind == Kind::atom && branch.done.contains(opposite(fact.atom));
            });
        });
        if (options.empty()) return false;
        if (options.size() > 1) continue;
        branch.todo = std::move(options.front());
        branch.choices.erase(branch.choices.begin() + std::ptrdiff_t(i));
        return settle(branch);
    }
    return true;
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
        clause.types &= type_of(*fact.json);
        if (!clause.values) {
            clause.values = {fact.json};
            return true;
        }
        std::erase_if(*clause.values, [&](const Json* v) { return !equal(*v, *fact.json); });
        return !clause.values->empty();
    }
    case Kind::not_value:
        if (fact.json->is(Json::Type::string)) clause.not_strings.push_back(fact.json->text);
        else if (fact.json->is(Json::Type::number))
            clause.number.excluded.push_back(Decimal::parse(fact.json->text));
        else clause.types &= ~type_of(*fact.json);
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
    if (!branch.done.insert(atom).second) return true;
    if (branch.done.contains(opposite(atom))) return false;
    const std::uint32_t schema = atom / 2;
    const bool is_not = atom % 2 != 0;
    const auto& [json, pointer, base, is_literal] = schemas_.schemas_[schema];
    if (is_literal) return literal(branch, schema, is_not);
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
    // The last of equal keys counts.
    std::map<std::string, const Json*> members;
    for (const auto& [key, value] : json.members) members[key] = &value;
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

// Keywords that must hold

bool Branches::positive(Branch& branch, std::uint32_t schema, int scope) {
    const Json& json = *schemas_.schemas_[schema].json;
    if (const Json* ref = json.find("$ref"); ref != nullptr && schemas_.is_old(schema)) {
        branch.todo.push_back(atom(positive_of(schemas_.resolve(schema, ref->text, "$ref")), scope));
        return true;
    }
    const Json* other_properties = json.find("unevaluatedProperties");
    const Json* other_items = json.find("unevaluatedItems");
    if (other_properties != nullptr || other_items != nullptr) {
        Clause& clause = branch.clause;
        const int outer = scope;
        scope = int(clause.scope_parents.size());
        clause.scope_parents.push_back(outer);
        if (other_properties != nullptr) {
            const Atom what = sub(schema, "unevaluatedProperties", *other_properties);
            clause.other_properties.push_back({what, scope});
            ObjectMember all; // for the schemas around, all of them are evaluated here
            all.additional = positive_of(schemas_.literal_true());
            all.scope = outer;
            clause.members.push_back(std::move(all));
        }
        if (other_items != nullptr) {
            clause.other_items.push_back({sub(schema, "unevaluatedItems", *other_items), scope});
            ArrayMember all;
            all.rest = positive_of(schemas_.literal_true());
            all.scope = outer;
            clause.items.push_back(std::move(all));
        }
    }
    members(branch, schema, scope);
    for (const auto& [key, value] : json.members) keyword(branch, schema, key, value, scope);
    return true;
}

bool Branches::has_unevaluated_around(const Branch& branch, int scope) const {
    const auto sees = [&](const Clause::Unevaluated& each) {
        return branch.clause.is_inside(scope, each.scope);
    };
    return std::ranges::any_of(branch.clause.other_properties, sees) ||
           std::ranges::any_of(branch.clause.other_items, sees);
}

/// properties and items with their neighbours.
void Branches::members(Branch& branch, std::uint32_t schema, int scope) {
    const Json& json = *schemas_.schemas_[schema].json;
    const Json* properties = json.find("properties");
    const Json* patterns = json.find("patternProperties");
    const Json* additional = json.find("additionalProperties");
    if (properties != nullptr || patterns != nullptr || additional != nullptr) {
        ObjectMember member;
        member.scope = scope;
        if (properties != nullptr)
            for (const auto& [name, value] : properties->members)
                member.properties.emplace_back(name, sub(schema, "properties", name, value));
        if (patterns != nullptr)
            for (const auto& [pattern, value] : patterns->members)
                member.patterns.emplace_back(schemas_.key_pattern(schema, pattern),
                                             sub(schema, "patternProperties", pattern, value));
        if (additional != nullptr)
            member.additional = sub(schema, "additionalProperties", *additional);
        branch.clause.members.push_back(std::move(member));
    }
    const Json* items = json.find("items");
    const Json* first = json.find("prefixItems");
    const Json* rest = items;
    std::string first_key = "prefixItems", rest_key = "items";
    if (first == nullptr && items != nullptr && items->is(Json::Type::array)) {
        first = items, rest = json.find("additionalItems");
        first_key = "items", rest_key = "additionalItems";
    }
    if (first == nullptr && rest == nullptr) return;
    ArrayMember member;
    member.scope = scope;
    if (first != nullptr)
        for (std::size_t i = 0; i < first->items.size(); ++i)
            member.first.push_back(sub(schema, first_key, std::to_string(i), first->items[i]));
    if (rest != nullptr) member.rest = sub(schema, rest_key, *rest);
    branch.clause.items.push_back(std::move(member));
}

void Branches::keyword(Branch& branch, std::uint32_t schema, const std::string& key,
                       const Json& value, int scope) {
    auto& todo = branch.todo;
    const auto number = [&]() -> const Json* {
        if (!value.is(Json::Type::number)) schemas_.fail(schema, key, "must be a number");
        return &value;
    };
    const auto strings = [&](const Json& list) {
        for (const auto& item : list.items)
            if (!item.is(Json::Type::string)) schemas_.fail(schema, key, "must list strings");
    };
    if (key == "type") {
        std::uint32_t bits = 0;
        const auto add = [&](const Json& name) {
            const auto more = type_bits(name.text);
            if (more == 0) schemas_.fail(schema, key, "the unknown type " + name.text);
            bits |= more;
        };
        if (value.is(Json::Type::array)) std::ranges::for_each(value.items, add);
        else add(value);
        todo.push_back({.kind = Kind::types, .n = bits});
    } else if (key == "const") {
        todo.push_back(atom(positive_of(schemas_.literal(schema, value))));
    } else if (key == "enum") {
        std::vector<const Json*> all;
        for (const auto& item : value.items) all.push_back(&item);
        enumeration(branch, schema, all);
    } else if (key == "minimum" || key == "maximum") {
        const bool is_low = key == "minimum";
        const Json* open = schemas_.schemas_[schema].json->find(is_low ? "exclusiveMinimum"
                                                                       : "exclusiveMaximum");
        const bool is_open = open != nullptr && open->is_bool(true); // as draft 4 has it
        todo.push_back({.kind = is_low ? (is_open ? Kind::low_open : Kind::low)
                                       : (is_open ? Kind::high_open : Kind::high),
                        .json = number()});
    } else if (key == "exclusiveMinimum" || key == "exclusiveMaximum") {
        if (value.is(Json::Type::boolean)) return;
        todo.push_back({.kind = key == "exclusiveMinimum" ? Kind::low_open : Kind::high_open,
                        .json = number()});
    } else if (key == "multipleOf") {
        if (Decimal::parse(number()->text).is_zero() || Decimal::parse(value.text).is_negative)
            schemas_.fail(schema, key, "must be above 0");
        todo.push_back({.kind = Kind::multiple, .json = &value});
    } else if (key == "minLength") {
        todo.push_back({.kind = Kind::min_length, .n = count(schema, key, value)});
    } else if (key == "maxLength") {
        todo.push_back({.kind = Kind::max_length, .n = count(schema, key, value)});
    } else if (key == "pattern") {
        todo.push_back({.kind = Kind::language,
                        .expr = schemas_.pattern(schema, value.text, "pattern"),
                        .key = schemas_.key_pattern(schema, value.text)});
    } else if (key == "format") {
        if (const Expr language = schemas_.format(value.text); language != Expressions::everything)
            todo.push_back({.kind = Kind::language,
                            .expr = language,
                            .key = schemas_.format(value.text, true)});
    } else if (key == "minItems") {
        todo.push_back({.kind = Kind::min_items, .n = count(schema, key, value)});
    } else if (key == "maxItems") {
        todo.push_back({.kind = Kind::max_items, .n = count(schema, key, value)});
    } else if (key == "uniqueItems") {
        if (value.is_bool(true)) schemas_.refuse(schema, key, "needs the memory of all items");
    } else if (key == "contains") {
        const Json& all = *schemas_.schemas_[schema].json;
        const Json* min = all.find("minContains");
        const Json* max = all.find("maxContains");
        todo.push_back({.kind = Kind::contains,
                        .atom = sub(schema, key, value),
                        .scope = scope,
                        .n = min != nullptr ? count(schema, "minContains", *min) : 1,
                        .m = max != nullptr ? count(schema, "maxContains", *max)
                                            : Expressions::forever});
    } else if (key == "minProperties") {
        todo.push_back({.kind = Kind::min_properties, .n = count(schema, key, value)});
    } else if (key == "maxProperties") {
        todo.push_back({.kind = Kind::max_properties, .n = count(schema, key, value)});
    } else if (key == "required") {
        if (!value.is(Json::Type::array)) return; // a boolean in draft 3
        strings(value);
        for (const auto& name : value.items)
            todo.push_back({.kind = Kind::required, .name = name.text});
    } else if (key == "propertyNames") {
        branch.clause.names.push_back(sub(schema, key, value));
    } else if (key == "dependentRequired" || key == "dependencies" || key == "dependentSchemas") {
        for (const auto& [name, needed] : value.members) {
            if (needed.is(Json::Type::array)) {
                strings(needed);
                for (const auto& other : needed.items)
                    branch.clause.needs.emplace_back(name, other.text);
            } else {
                branch.choices.push_back({{{.kind = Kind::types, .n = types::all & ~types::object}},
                                          {{.kind = Kind::absent, .name = name}},
                                          {{.kind = Kind::required, .name = name},
                                           atom(sub(schema, key, name, needed), scope)}});
            }
        }
    } else if (key == "allOf") {
        for (std::size_t i = 0; i < value.items.size(); ++i)
            todo.push_back(atom(sub(schema, key, std::to_string(i), value.items[i]), scope));
    } else if (key == "anyOf" || key == "oneOf") {
        one_of(branch, schema, key, value, scope);
    } else if (key == "not") {
        todo.push_back(atom(opposite(sub(schema, key, value))));
    } else if (key == "if") {
        const Json& all = *schemas_.schemas_[schema].json;
        const Json* then = all.find("then");
        const Json* otherwise = all.find("else");
        if (then == nullptr && otherwise == nullptr && !has_unevaluated_around(branch, scope)) return;
        const Atom condition = sub(schema, key, value);
        Option yes{atom(condition, scope)}, no{atom(opposite(condition))};
        if (then != nullptr) yes.push_back(atom(sub(schema, "then", *then), scope));
        if (otherwise != nullptr) no.push_back(atom(sub(schema, "else", *otherwise), scope));
        branch.choices.push_back({yes, no});
    } else if (key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef") {
        todo.push_back(atom(positive_of(schemas_.resolve(schema, value.text, key.c_str())), scope));
    }
}

/// Only these values: the scalars among them together, the others one by one.
void Branches::enumeration(Branch& branch, std::uint32_t schema,
                           const std::vector<const Json*>& values) {
    Clause& clause = branch.clause;
    std::vector<const Json*> scalars;
    std::vector<Option> options;
    std::uint32_t bits = 0;
    for (const Json* value : values) {
        if (is_scalar(*value)) scalars.push_back(value), bits |= type_of(*value);
        else options.push_back({atom(positive_of(schemas_.literal(schema, *value)))});
    }
    if (options.empty()) {
        clause.types &= bits;
        if (clause.values) {
            std::erase_if(*clause.values, [&](const Json* v) {
                return std::ranges::none_of(scalars, [&](const Json* w) { return equal(*v, *w); });
            });
            if (clause.values->empty()) clause.types = 0;
        } else {
            clause.values = std::move(scalars);
        }
        return;
    }
    for (const Json* value : scalars) options.push_back({atom(positive_of(schemas_.literal(schema, *value)))});
    branch.choices.push_back(std::move(options));
}

void Branches::one_of(Branch& branch, std::uint32_t schema, const std::string& key,
                      const Json& value, int scope) {
    std::vector<Atom> parts;
    for (std::size_t i = 0; i < value.items.size(); ++i)
        parts.push_back(sub(schema, key, std::to_string(i), value.items[i]));
    std::vector<Option> options;
    if (key == "oneOf") {
        for (const Atom one : parts) {
            Option option{atom(one, scope)};
            for (const Atom other : parts) {
                if (other == one) continue;
                // Where two can't both hold, the one says that the other doesn't.
                if (!schemas_.is_dead(schemas_.value_of({one, other})))
                    option.push_back(atom(opposite(other)));
            }
            options.push_back(std::move(option));
        }
    } else if (has_unevaluated_around(branch, scope) && parts.size() <= 8) {
        // All that hold have a say in what is evaluated.
        for (std::uint32_t which = 1; which < 1U << parts.size(); ++which) {
            Option option;
            for (std::size_t i = 0; i < parts.size(); ++i)
                if ((which >> i & 1) != 0) option.push_back(atom(parts[i], scope));
            options.push_back(std::move(option));
        }
    } else {
        for (const Atom one : parts) options.push_back({atom(one, scope)});
    }
    branch.choices.push_back(std::move(options));
}

// Keywords of a schema of which at least one must not hold

bool Branches::negative(Branch& branch, std::uint32_t schema) {
    const Json& json = *schemas_.schemas_[schema].json;
    std::vector<Option> options;
    const Json* ref = json.find("$ref");
    if (ref != nullptr && schemas_.is_old(schema)) {
        negated_keyword(options, schema, "$ref", *ref);
    } else {
        for (const auto& [key, value] : json.members) {
            negated_keyword(options, schema, key, value);
            negated_object(options, schema, key, value);
            negated_array(options, schema, key, value);
        }
    }
    if (options.empty()) return false;
    branch.choices.push_back(std::move(options));
    return true;
}

void Branches::negated_keyword(std::vector<Option>& out, std::uint32_t schema,
                               const std::string& key, const Json& value) {
    const auto typed = [&](std::uint32_t bits, Fact fact) {
        out.push_back({{.kind = Kind::types, .n = bits}, std::move(fact)});
    };
    if (key == "type") {
        std::uint32_t bits = 0;
        if (value.is(Json::Type::array))
            for (const auto& name : value.items) bits |= type_bits(name.text);
        else bits = type_bits(value.text);
        if (bits != types::all) out.push_back({{.kind = Kind::types, .n = types::all & ~bits}});
    } else if (key == "const") {
        out.push_back({atom(negative_of(schemas_.literal(schema, value)))});
    } else if (key == "enum") {
        Option none;
        for (const auto& item : value.items)
            none.push_back(atom(negative_of(schemas_.literal(schema, item))));
        out.push_back(std::move(none));
    } else if (key == "minimum" || key == "maximum") {
        const bool is_low = key == "minimum";
        const Json* open = schemas_.schemas_[schema].json->find(is_low ? "exclusiveMinimum"
                                                                       : "exclusiveMaximum");
        const bool is_open = open != nullptr && open->is_bool(true);
        typed(types::number, {.kind = is_low ? (is_open ? Kind::high : Kind::high_open)
                                             : (is_open ? Kind::low : Kind::low_open),
                              .json = &value});
    } else if (key == "exclusiveMinimum" && value.is(Json::Type::number)) {
        typed(types::number, {.kind = Kind::high, .json = &value});
    } else if (key == "exclusiveMaximum" && value.is(Json::Type::number)) {
        typed(types::number, {.kind = Kind::low, .json = &value});
    } else if (key == "multipleOf") {
        typed(types::number, {.kind = Kind::not_multiple, .json = &value});
    } else if (key == "minLength") {
        if (const auto n = count(schema, key, value); n > 0)
            typed(types::string, {.kind = Kind::max_length, .n = n - 1});
    } else if (key == "maxLength") {
        typed(types::string, {.kind = Kind::min_length, .n = count(schema, key, value) + 1});
    } else if (key == "pattern" || key == "format") {
        const bool is_pattern = key == "pattern";
        const Expr language = is_pattern ? schemas_.pattern(schema, value.text, "pattern")
                                         : schemas_.format(value.text);
        const Expr of_keys = is_pattern ? schemas_.key_pattern(schema, value.text)
                                        : schemas_.format(value.text, true);
        if (language != Expressions::everything)
            typed(types::string, {.kind = Kind::language,
                                  .expr = pool_.minus(schemas_.characters_.text(), language),
                                  .key = pool_.minus(schemas_.keys_.text(), of_keys)});
    } else if (key == "allOf") {
        for (std::size_t i = 0; i < value.items.size(); ++i)
            out.push_back({atom(opposite(sub(schema, key, std::to_string(i), value.items[i])))});
    } else if (key == "anyOf" || key == "oneOf") {
        std::vector<Atom> parts;
        for (std::size_t i = 0; i < value.items.size(); ++i)
            parts.push_back(sub(schema, key, std::to_string(i), value.items[i]));
        Option none;
        for (const Atom part : parts) none.push_back(atom(opposite(part)));
        out.push_back(std::move(none));
        if (key == "anyOf") return;
        for (std::size_t i = 0; i < parts.size(); ++i)
            for (std::size_t j = i + 1; j < parts.size(); ++j)
                out.push_back({atom(parts[i]), atom(parts[j])});
    } else if (key == "not") {
        out.push_back({atom(sub(schema, key, value))});
    } else if (key == "if") {
        const Json& all = *schemas_.schemas_[schema].json;
        const Atom condition = sub(schema, key, value);
        if (const Json* then = all.find("then"))
            out.push_back({atom(condition), atom(opposite(sub(schema, "then", *then)))});
        if (const Json* otherwise = all.find("else"))
            out.push_back({atom(opposite(condition)), atom(opposite(sub(schema, "else", *otherwise)))});
    } else if (key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef") {
        out.push_back({atom(negative_of(schemas_.resolve(schema, value.text, key.c_str())))});
    }
}

/// The keys that neither properties nor patternProperties of a schema name.
Expr Branches::other_keys(std::uint32_t schema) {
    const Json& json = *schemas_.schemas_[schema].json;
    Expr keys = schemas_.keys_.text();
    if (const Json* properties = json.find("properties")) {
        std::vector<std::string> names;
        for (const auto& member : properties->members) names.push_back(member.first);
        keys = pool_.minus(keys, schemas_.keys_.words(names));
    }
    if (const Json* patterns = json.find("patternProperties"))
        for (const auto& member : patterns->members)
            keys = pool_.minus(keys, schemas_.key_pattern(schema, member.first));
    return keys;
}

void Branches::negated_object(std::vector<Option>& out, std::uint32_t schema,
                              const std::string& key, const Json& value) {
    const auto add = [&](Option facts) {
        facts.insert(facts.begin(), {.kind = Kind::types, .n = types::object});
        out.push_back(std::move(facts));
    };
    if (key == "required") {
        for (const auto& name : value.items) add({{.kind = Kind::absent, .name = name.text}});
    } else if (key == "properties") {
        for (const auto& [name, what] : value.members)
            add({{.kind = Kind::required, .name = name},
                 {.kind = Kind::property, .atom = opposite(sub(schema, key, name, what)), .name = name}});
    } else if (key == "patternProperties") {
        for (const auto& [pattern, what] : value.members)
            add({{.kind = Kind::key_exists,
                  .atom = opposite(sub(schema, key, pattern, what)),
                  .expr = schemas_.key_pattern(schema, pattern),
                  .has_atom = true}});
    } else if (key == "additionalProperties") {
        add({{.kind = Kind::key_exists,
              .atom = opposite(sub(schema, key, value)),
              .expr = other_keys(schema),
              .has_atom = true}});
    } else if (key == "propertyNames") {
        const Value names = schemas_.value_of({opposite(sub(schema, key, value))});
        add({{.kind = Kind::key_exists, .expr = schemas_.key_names(names)}});
    } else if (key == "dependentRequired" || key == "dependencies" || key == "dependentSchemas") {
        for (const auto& [name, needed] : value.members) {
            const Fact there{.kind = Kind::required, .name = name};
            if (!needed.is(Json::Type::array))
                add({there, atom(opposite(sub(schema, key, name, needed)))});
            for (const auto& other : needed.items)
                add({there, {.kind = Kind::absent, .name = other.text}});
        }
    } else if (key == "minProperties") {
        if (const auto n = count(schema, key, value); n > 0)
            add({{.kind = Kind::max_properties, .n = n - 1}});
    } else if (key == "maxProperties") {
        add({{.kind = Kind::min_properties, .n = count(schema, key, value) + 1}});
    } else if (key == "unevaluatedProperties") {
        schemas_.refuse(schema, key, "under a negation");
    }
}

void Branches::negated_array(std::vector<Option>& out, std::uint32_t schema,
                             const std::string& key, const Json& value) {
    const auto add = [&](Option facts) {
        facts.insert(facts.begin(), {.kind = Kind::types, .n = types::array});
        out.push_back(std::move(facts));
    };
    const auto each = [&](const Json& list) {
        for (std::uint32_t i = 0; i < list.items.size(); ++i)
            add({{.kind = Kind::min_items, .n = i + 1},
                 {.kind = Kind::item_at,
                  .atom = opposite(sub(schema, key, std::to_string(i), list.items[i])),
                  .n = i}});
    };
    const Json& all = *schemas_.schemas_[schema].json;
    const auto some_rest = [&](const Json* first) {
        const Atom what = opposite(sub(schema, key, value));
        if (first == nullptr || first->items.empty())
            add({{.kind = Kind::contains, .atom = what, .n = 1, .m = Expressions::forever}});
        else if (value.is_bool(false))
            add({{.kind = Kind::min_items, .n = std::uint32_t(first->items.size()) + 1}});
        else
            schemas_.refuse(schema, key, "beside items of their own, under a negation");
    };
    if (key == "prefixItems" || (key == "items" && value.is(Json::Type::array))) {
        each(value);
    } else if (key == "items") {
        some_rest(all.find("prefixItems"));
    } else if (key == "additionalItems") {
        const Json* first = all.find("items");
        if (first != nullptr && first->is(Json::Type::array)) some_rest(first);
    } else if (key == "minItems") {
        if (const auto n = count(schema, key, value); n > 0) add({{.kind = Kind::max_items, .n = n - 1}});
    } else if (key == "maxItems") {
        add({{.kind = Kind::min_items, .n = count(schema, key, value) + 1}});
    } else if (key == "contains") {
        const Json* min = all.find("minContains");
        const Json* max = all.find("maxContains");
        const std::uint32_t least = min != nullptr ? count(schema, "minContains", *min) : 1;
        const Atom what = sub(schema, key, value);
        if (least > 0) add({{.kind = Kind::contains, .atom = what, .n = 0, .m = least - 1}});
        if (max != nullptr)
            add({{.kind = Kind::contains,
                  .atom = what,
                  .n = count(schema, "maxContains", *max) + 1,
                  .m = Expressions::forever}});
    } else if (key == "uniqueItems" && value.is_bool(true)) {
        schemas_.refuse(schema, key, "under a negation");
    } else if (key == "unevaluatedItems") {
        schemas_.refuse(schema, key, "under a negation");
    }
}

} // namespace engine
