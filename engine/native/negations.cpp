#include <algorithm>

#include "branches.h"
#include "formats.h"

namespace engine {

// Keywords of a schema of which at least one must not hold

bool Branches::negative(Branch& branch, std::uint32_t schema) {
    const Json& json = *schemas_.schemas_[schema].json;
    std::vector<Option> options;
    const Json* ref = json.find("$ref");
    if (ref != nullptr && schemas_.is_old(schema)) {
        negated_keyword(options, schema, "$ref", *ref);
    } else {
        const bool only_annotates = schemas_.schemas_[schema].only_annotates;
        for (const auto& [key, value] : json.members) {
            if (only_annotates && is_assertion(key)) continue;
            negated_keyword(options, schema, key, value);
            negated_object(options, schema, key, value);
            negated_array(options, schema, key, value);
        }
    }
    if (options.empty()) return false;
    if (joins_ && options.size() > 1)
        if (const auto& plain = schemas_.plain(negative_of(schema))) return demand(branch, *plain);
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
            for (const auto& name : value.items) bits |= types::named(name.text);
        else
            bits = types::named(value.text);
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
        const Json* open =
            schemas_.schemas_[schema].json->find(is_low ? "exclusiveMinimum" : "exclusiveMaximum");
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
        const std::uint32_t most = is_pattern ? 0 : format_length(value.text);
        if (most > 0 && schemas_.checks_formats())
            typed(types::string, {.kind = Kind::min_length, .n = most + 1});
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
            out.push_back(
                {atom(opposite(condition)), atom(opposite(sub(schema, "else", *otherwise)))});
    } else if (key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef") {
        out.push_back({atom(negative_of(schemas_.resolve(schema, value, key.c_str())))});
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
    // "Not there, or there with another value" is one option, not two.
    const Json& all = *schemas_.schemas_[schema].json;
    if (key == "required") {
        const Json* properties = all.find("properties");
        for (const auto& name : value.items)
            if (properties == nullptr || properties->find(name.text) == nullptr)
                add({{.kind = Kind::absent, .name = name.text}});
    } else if (key == "properties") {
        const Json* required = all.find("required");
        for (const auto& [name, what] : value.members) {
            const bool must =
                required != nullptr && std::ranges::any_of(required->items, [&](const Json& item) {
                    return item.text == name;
                });
            Option option{{.kind = Kind::property,
                           .atom = opposite(sub(schema, key, name, what)),
                           .name = name}};
            if (!must) option.push_back({.kind = Kind::required, .name = name});
            add(std::move(option));
        }
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
        add({{.kind = Kind::key_exists, .expr = schemas_.strings(names, true)}});
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

void Branches::negated_array(std::vector<Option>& out, std::uint32_t schema, const std::string& key,
                             const Json& value) {
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
        if (const auto n = count(schema, key, value); n > 0)
            add({{.kind = Kind::max_items, .n = n - 1}});
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
