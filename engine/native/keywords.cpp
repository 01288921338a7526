#include <algorithm>
#include <map>

#include "branches.h"
#include "formats.h"

namespace engine {

namespace {

enum class Form : std::uint8_t { text, flag, list, list_of_schemas, named, named_schemas };

/// What a keyword's value must be, where a wrong one would otherwise go unseen.
const std::map<std::string, Form, std::less<>>& forms_of_keywords() {
    static const std::map<std::string, Form, std::less<>> forms{
        {"pattern", Form::text},
        {"format", Form::text},
        {"uniqueItems", Form::flag},
        {"enum", Form::list},
        {"allOf", Form::list_of_schemas},
        {"anyOf", Form::list_of_schemas},
        {"oneOf", Form::list_of_schemas},
        {"prefixItems", Form::list_of_schemas},
        {"properties", Form::named_schemas},
        {"patternProperties", Form::named_schemas},
        {"dependentSchemas", Form::named_schemas},
        {"dependentRequired", Form::named},
        {"dependencies", Form::named},
        {"$defs", Form::named},
        {"definitions", Form::named},
    };
    return forms;
}

const char* fault_of(const Json& value, Form form) {
    using Type = Json::Type;
    const auto is_schema = [](const Json& json) {
        return json.is(Type::object) || json.is(Type::boolean);
    };
    switch (form) {
    case Form::text:
        return value.is(Type::string) ? nullptr : "must be a string";
    case Form::flag:
        return value.is(Type::boolean) ? nullptr : "must be true or false";
    case Form::list:
        return value.is(Type::array) ? nullptr : "must be a list";
    case Form::list_of_schemas:
        return value.is(Type::array) && std::ranges::all_of(value.items, is_schema)
                   ? nullptr
                   : "must be a list of schemas";
    case Form::named:
        return value.is(Type::object) ? nullptr : "must be an object";
    case Form::named_schemas:
        return value.is(Type::object) &&
                       std::ranges::all_of(value.members,
                                           [&](auto& member) { return is_schema(member.second); })
                   ? nullptr
                   : "must be an object whose values are schemas";
    }
    return nullptr;
}

} // namespace

void Branches::check_forms(std::uint32_t schema) const {
    const auto& own = schemas_.schemas_[schema];
    if (own.is_literal) return;
    for (const auto& [key, value] : own.json->members) {
        const auto form = forms_of_keywords().find(key);
        if (form == forms_of_keywords().end()) continue;
        if (const char* fault = fault_of(value, form->second)) schemas_.fail(schema, key, fault);
    }
}

// Keywords that must hold

bool Branches::positive(Branch& branch, std::uint32_t schema, int scope) {
    const Json& json = *schemas_.schemas_[schema].json;
    if (const Json* ref = json.find("$ref"); ref != nullptr && schemas_.is_old(schema)) {
        branch.todo.push_back(atom(positive_of(schemas_.resolve(schema, *ref, "$ref")), scope));
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
            // For the schemas around, all of them are evaluated here.
            PropertyTable all;
            all.additional = positive_of(schemas_.literal_true());
            clause.members.push_back({std::make_shared<PropertyTable>(std::move(all)), outer});
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
    const bool only_annotates = schemas_.schemas_[schema].only_annotates;
    for (const auto& [key, value] : json.members)
        if (!only_annotates || !is_assertion(key)) keyword(branch, schema, key, value, scope);
    return true;
}

bool Branches::has_unevaluated_around(const Branch& branch, int scope) const {
    const auto sees = [&](const Clause::Unevaluated& each) {
        return branch.clause.is_inside(scope, each.scope);
    };
    return std::ranges::any_of(branch.clause.other_properties, sees) ||
           std::ranges::any_of(branch.clause.other_items, sees);
}

/// properties with its neighbours; null where a schema has none of them.
const std::shared_ptr<const PropertyTable>& Branches::properties(std::uint32_t schema) {
    const auto [at, is_new] = schemas_.tables_.try_emplace(schema);
    if (!is_new) return at->second;
    const Json& json = *schemas_.schemas_[schema].json;
    const Json* named = json.find("properties");
    const Json* patterns = json.find("patternProperties");
    const Json* additional = json.find("additionalProperties");
    if (named == nullptr && patterns == nullptr && additional == nullptr) return at->second;
    auto table = std::make_shared<PropertyTable>();
    if (named != nullptr)
        for (const auto& [name, value] : named->members) {
            const Atom what = sub(schema, "properties", name, value);
            if (table->by_name.insert_or_assign(name, what).second)
                table->properties.emplace_back(name, what);
        }
    if (patterns != nullptr)
        for (const auto& [pattern, value] : patterns->members)
            table->patterns.emplace_back(schemas_.key_pattern(schema, pattern),
                                         sub(schema, "patternProperties", pattern, value));
    if (additional != nullptr) table->additional = sub(schema, "additionalProperties", *additional);
    return at->second = std::move(table);
}

/// properties and items with their neighbours.
void Branches::members(Branch& branch, std::uint32_t schema, int scope) {
    const Json& json = *schemas_.schemas_[schema].json;
    if (const auto& table = properties(schema)) branch.clause.members.push_back({table, scope});
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
            const auto more = types::named(name.text);
            if (more == 0) schemas_.fail(schema, key, "the unknown type " + name.text);
            bits |= more;
        };
        if (value.is(Json::Type::array))
            std::ranges::for_each(value.items, add);
        else
            add(value);
        todo.push_back({.kind = Kind::types, .n = bits});
    } else if (key == "const") {
        todo.push_back(atom(positive_of(schemas_.literal(schema, value))));
    } else if (key == "enum") {
        std::vector<const Json*> all;
        for (const auto& item : value.items) all.push_back(&item);
        enumeration(branch, schema, all);
    } else if (key == "minimum" || key == "maximum") {
        const bool is_low = key == "minimum";
        const Json* open =
            schemas_.schemas_[schema].json->find(is_low ? "exclusiveMinimum" : "exclusiveMaximum");
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
        const Expr language = schemas_.format(value.text);
        if (const auto most = format_length(value.text); most > 0 && schemas_.checks_formats())
            todo.push_back({.kind = Kind::max_length, .n = most});
        if (language != Expressions::everything)
            todo.push_back({.kind = Kind::language,
                            .expr = language,
                            .key = schemas_.format(value.text, true)});
    } else if (key == "minItems") {
        todo.push_back({.kind = Kind::min_items, .n = count(schema, key, value)});
    } else if (key == "maxItems") {
        todo.push_back({.kind = Kind::max_items, .n = count(schema, key, value)});
    } else if (key == "uniqueItems") {
        if (value.is_bool(true)) todo.push_back({.kind = Kind::unique, .n = schema});
    } else if (key == "contains") {
        const Json& all = *schemas_.schemas_[schema].json;
        const Json* min = all.find("minContains");
        const Json* max = all.find("maxContains");
        todo.push_back(
            {.kind = Kind::contains,
             .atom = sub(schema, key, value),
             .scope = schemas_.draft(schemas_.schemas_[schema].base) == 2019 ? -1 : scope,
             .n = min != nullptr ? count(schema, "minContains", *min) : 1,
             .m = max != nullptr ? count(schema, "maxContains", *max) : Expressions::forever});
    } else if (key == "minProperties") {
        todo.push_back({.kind = Kind::min_properties, .n = count(schema, key, value)});
    } else if (key == "maxProperties") {
        todo.push_back({.kind = Kind::max_properties, .n = count(schema, key, value)});
    } else if (key == "required") {
        if (value.is(Json::Type::boolean)) return; // as draft 3 has it
        if (!value.is(Json::Type::array)) schemas_.fail(schema, key, "must be a list");
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
        if (then == nullptr && otherwise == nullptr && !has_unevaluated_around(branch, scope))
            return;
        const Atom condition = sub(schema, key, value);
        if (const auto plain = joins_ ? schemas_.plain_if(schema, value) : std::nullopt) {
            demand(branch, *plain);
            return;
        }
        Option yes{atom(condition, scope)}, no{atom(opposite(condition))};
        if (then != nullptr) yes.push_back(atom(sub(schema, "then", *then), scope));
        if (otherwise != nullptr) no.push_back(atom(sub(schema, "else", *otherwise), scope));
        branch.choices.push_back({yes, no});
    } else if (key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef") {
        todo.push_back(atom(positive_of(schemas_.resolve(schema, value, key.c_str())), scope));
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
        if (is_scalar(*value))
            scalars.push_back(value), bits |= types::of(*value);
        else
            options.push_back({atom(positive_of(schemas_.literal(schema, *value)))});
    }
    if (options.empty()) {
        clause.types &= bits;
        if (clause.values) {
            keep_common(*clause.values, scalars);
            if (clause.values->empty()) clause.types = 0;
        } else {
            clause.values = std::move(scalars);
        }
        return;
    }
    for (const Json* value : scalars)
        options.push_back({atom(positive_of(schemas_.literal(schema, *value)))});
    branch.choices.push_back(std::move(options));
}

/// Alternatives that are single values each, or lists of some, are one list.
bool Branches::few_values(Branch& branch, std::uint32_t schema, const std::vector<Atom>& parts,
                          bool is_one_of) {
    std::vector<const Json*> all;
    for (const Atom part : parts) {
        const Sketch& sketch = schemas_.sketch(part);
        if (!sketch.is_exact || !sketch.values ||
            !std::ranges::all_of(*sketch.values, [](auto* v) { return is_scalar(*v); }))
            return false;
        std::vector<const Json*> fresh = *sketch.values;
        if (is_one_of) {
            std::vector<const Json*> twice = fresh; // in two of them, so in none for oneOf
            keep_common(twice, all);
            if (!twice.empty()) return false;
        }
        all.insert(all.end(), fresh.begin(), fresh.end());
    }
    enumeration(branch, schema, all);
    return true;
}

void Branches::one_of(Branch& branch, std::uint32_t schema, const std::string& key,
                      const Json& value, int scope) {
    std::vector<Atom> parts;
    for (std::size_t i = 0; i < value.items.size(); ++i)
        parts.push_back(sub(schema, key, std::to_string(i), value.items[i]));
    if (few_values(branch, schema, parts, key == "oneOf")) return;
    const auto plain = !joins_          ? std::nullopt
                       : key == "oneOf" ? schemas_.plain_one_of(parts)
                                        : schemas_.plain_any_of(parts);
    if (plain) {
        demand(branch, *plain);
        return;
    }
    std::vector<Option> options;
    if (key == "oneOf") {
        branch.one_ofs.push_back({std::move(parts), scope});
        return;
    }
    if (has_unevaluated_around(branch, scope) && parts.size() <= 8) {
        // All that hold have a say in what is evaluated.
        for (std::uint32_t which = 1; which < 1U << parts.size(); ++which) {
            Option option;
            for (std::size_t i = 0; i < parts.size(); ++i)
                if ((which >> i & 1) != 0) option.push_back(atom(parts[i], scope));
            options.push_back(std::move(option));
        }
    } else {
        std::vector<Atom> plain_parts; // these are one option
        for (const Atom one : parts) {
            if (joins_ && schemas_.plain(one))
                plain_parts.push_back(one);
            else
                options.push_back({atom(one, scope)});
        }
        if (const auto joined = schemas_.plain_any_of(plain_parts); !plain_parts.empty())
            options.push_back(plain_parts.size() == 1 ? Option{atom(plain_parts.front(), scope)}
                                                      : facts_of(*joined));
    }
    branch.choices.push_back(std::move(options));
}

} // namespace engine
