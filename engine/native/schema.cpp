#include "schema.h"

#include <algorithm>
#include <set>

#include "branches.h"
#include "excess.h"
#include "formats.h"

namespace engine {

Schemas::Schemas(Expressions& expressions, const SchemaOptions& options)
    : pool_(expressions), characters_(expressions, options.writing),
      keys_(expressions, Writing::json_needed), options_(options) {}

void Schemas::add_resource(const std::string& uri, Json document) {
    documents_.push_back(std::move(document));
    const Json& root = documents_.back();
    resources_[uri] = {&root, ""};
    note_dialect(uri, root);
    find_anchors(root, uri, "", 0);
}

Value Schemas::add(Json schema) {
    const std::string uri = "document:" + std::to_string(documents_.size());
    add_resource(uri, std::move(schema));
    const Json& root = documents_.back();
    return value_of({schema_at(root, "", uri, 0) * 2});
}

void Schemas::fail(std::uint32_t schema, const std::string& keyword, const std::string& why) const {
    throw SchemaError(schemas_[schema].pointer, keyword, why);
}

void Schemas::refuse(std::uint32_t schema, const std::string& keyword, const std::string& why) {
    if (!options_.best_effort) fail(schema, keyword, why);
    const std::pair entry{schemas_[schema].pointer, keyword};
    if (std::ranges::find(weakened_, entry) == weakened_.end()) weakened_.push_back(entry);
}

// Strings

Expr Schemas::pattern(std::uint32_t schema, const std::string& text, const char* keyword) {
    return pattern(schema, text, keyword, characters_, patterns_);
}

Expr Schemas::key_pattern(std::uint32_t schema, const std::string& text) {
    return pattern(schema, text, "patternProperties", keys_, key_patterns_);
}

Expr Schemas::pattern(std::uint32_t schema, const std::string& text, const char* keyword,
                      Characters& characters, std::map<std::string, Expr>& known) {
    if (const auto found = known.find(text); found != known.end()) return found->second;
    Expr out;
    try {
        out = pattern_language(parse_pattern(text, options_.pattern), characters, false);
    } catch (const PatternError& error) {
        constexpr std::size_t shown = 80;
        const std::string excerpt = text.size() > shown ? text.substr(0, shown) + "..." : text;
        refuse(schema, keyword,
               "the pattern " + excerpt + ", character " + std::to_string(error.offset) + ": " +
                   error.what());
        out = characters.text();
    }
    known.emplace(text, out);
    return out;
}

/// `everything` where the format says nothing.
Expr Schemas::format(const std::string& name, bool is_key) {
    if (!options_.checks_formats) return Expressions::everything;
    auto& known = is_key ? key_formats_ : formats_;
    if (const auto found = known.find(name); found != known.end()) return found->second;
    const std::string text = format_pattern(name);
    Expr out = Expressions::everything;
    if (!text.empty())
        out = pattern_language(parse_pattern(text, options_.pattern), is_key ? keys_ : characters_,
                               false);
    known.emplace(name, out);
    return out;
}

// Sets of schemas

Value Schemas::value_of(std::vector<Atom> given) {
    std::vector<Atom> atoms;
    bool is_false = false;
    for (Atom atom : given) {
        // A schema that is only a reference is what it refers to.
        for (int hops = 0; hops < 32; ++hops) {
            const Schema& schema = schemas_[atom / 2];
            if (schema.is_literal || schema.json->members.size() != 1)
                break; // nor any_of: it is `true`
            const Json* ref = schema.json->find("$ref");
            if (ref == nullptr || !ref->is(Json::Type::string)) break;
            atom = resolve(atom / 2, *ref, "$ref") * 2 + atom % 2;
        }
        const Schema& schema = schemas_[atom / 2];
        const Json& json = *schema.json;
        if (!schema.is_literal && schema.any_of.empty()) {
            const bool is_empty = json.is(Json::Type::object) && json.members.empty();
            if (json.is_bool(true) || json.is_bool(false) || is_empty) {
                const bool holds = (json.truth || is_empty) != (atom % 2 != 0);
                is_false |= !holds;
                continue;
            }
        }
        atoms.push_back(atom);
    }
    std::ranges::sort(atoms);
    atoms.erase(std::unique(atoms.begin(), atoms.end()), atoms.end());
    for (std::size_t i = 1; i < atoms.size(); ++i) is_false |= atoms[i] == (atoms[i - 1] ^ 1);
    if (is_false) atoms = {literal_false() * 2};
    const Value out = values_.intern({std::move(atoms)});
    if (out >= options_.max_values)
        throw TooComplex("more than " + std::to_string(options_.max_values) + " kinds of values");
    while (data_.size() < values_.size()) data_.emplace_back();
    return out;
}

Value Schemas::meet(Value a, Value b) {
    std::vector<Atom> atoms = values_[a].atoms;
    atoms.insert(atoms.end(), values_[b].atoms.begin(), values_[b].atoms.end());
    return value_of(std::move(atoms));
}

std::uint32_t Schemas::literal(std::string_view text) {
    Json json = parse_json(text);
    const auto [at, is_new] = seen_literals_.emplace(key_of(json), std::uint32_t(schemas_.size()));
    if (is_new) {
        documents_.push_back(std::move(json));
        Schema made{&documents_.back(), "", ""};
        made.is_literal = true;
        schemas_.push_back(std::move(made));
    }
    return at->second;
}

Value Schemas::without(Value kind, const std::vector<std::uint32_t>& literals) {
    std::vector<Atom> atoms = values_[kind].atoms;
    for (const auto literal : literals) atoms.push_back(negative_of(literal));
    return value_of(std::move(atoms));
}

const ValueForms& Schemas::forms(Value value) {
    ValueData& data = data_[value];
    if (data.forms) return *data.forms;
    if (data.is_working)
        throw SchemaError(schemas_[values_[value].atoms.front() / 2].pointer, "",
                          "a schema that depends on itself");
    if (depth_ >= options_.max_depth)
        throw TooComplex("schemas that depend on each other too deeply");
    struct Working {
        bool& flag;
        std::size_t& depth;
        Working(bool& f, std::size_t& d) : flag(f), depth(d) { flag = true, ++depth; }
        ~Working() { flag = false, --depth; }
    } const working(data.is_working, depth_); // data_ is a deque: it stays where it is
    if (depth_ == 1) n_steps_ = 0;
    const std::vector<Atom> atoms = values_[value].atoms;
    try {
        ValueForms out = work_out(atoms);
        data.forms = std::move(out);
    } catch (LimitExceeded& error) {
        if (error.pointer.empty() && !atoms.empty())
            error.pointer = schemas_[atoms.front() / 2].pointer;
        throw;
    }
    return *data.forms;
}

Expr Schemas::texts(Value value) {
    survey(value);
    n_steps_ = 0;
    return strings(value, false);
}

Expr Schemas::strings(Value value, bool is_key) {
    std::vector<Expr> parts;
    for (const Clause& clause : Branches(*this).of(values_[value].atoms)) {
        if ((clause.types & types::string) == 0) continue;
        if (!clause.values) {
            parts.push_back(string_language(clause, is_key));
            continue;
        }
        std::vector<std::string> words;
        for (const Json* json : *clause.values)
            if (json->is(Json::Type::string) && fits(clause, *json)) words.push_back(json->text);
        parts.push_back((is_key ? keys_ : characters_).words(words));
    }
    return pool_.either(parts);
}

// Sketches

const Sketch& Schemas::sketch(Atom atom) {
    const auto [at, is_new] = sketches_.try_emplace(atom);
    if (is_new) {
        std::size_t budget = 2000;
        Sketch made = sketch_of(atom / 2, 0, budget);
        sketches_[atom] = atom % 2 == 0 ? std::move(made) : made.opposite();
    }
    return sketches_[atom];
}

Sketch Schemas::sketch_of(std::uint32_t schema, std::size_t depth, std::size_t& budget) {
    constexpr std::size_t most = 8;
    static const std::set<std::string, std::less<>> notes{
        "title",   "description", "default", "$comment", "examples",   "$id",      "id",
        "$schema", "definitions", "$defs",   "$anchor",  "deprecated", "readOnly", "writeOnly"};
    Sketch out;
    const Schema& own = schemas_[schema];
    const Json& json = *own.json;
    if (own.is_literal) {
        out.types = types::of(json);
        out.values = {&json};
        return out;
    }
    if (json.is_bool(false)) out.types = 0;
    out.is_exact = json.is(Json::Type::boolean) && own.any_of.empty();
    if (!json.is(Json::Type::object) || own.only_annotates || depth > most || budget == 0)
        return out;
    --budget;
    out.is_exact = true;
    const Json* ref = json.find("$ref");
    const bool is_hidden = ref != nullptr && is_old(schema);
    for (const auto& [key, value] : json.members) {
        if (is_hidden && key != "$ref") continue;
        Sketch part;
        if (key == "type") {
            part.types = value.is(Json::Type::string) ? types::named(value.text) : 0;
            for (const auto& name : value.items) part.types |= types::named(name.text);
        } else if (key == "const") {
            part.values = {&value};
        } else if (key == "enum") {
            part.values.emplace();
            for (const auto& item : value.items) part.values->push_back(&item);
        } else if (key == "$ref") {
            part = sketch_of(resolve(schema, value, "$ref"), depth + 1, budget);
        } else if (key == "allOf") {
            for (std::size_t i = 0; i < value.items.size(); ++i)
                part.meet(sketch_of(child(schema, value.items[i], "allOf/" + std::to_string(i)),
                                    depth + 1, budget));
        } else if (key == "anyOf" || key == "oneOf") {
            part = sketch_of_any(schema, key, value, depth, budget);
        } else {
            part.is_exact = notes.contains(key);
        }
        out.meet(part);
    }
    return out;
}

Sketch Schemas::sketch_of_any(std::uint32_t schema, const std::string& key, const Json& list,
                              std::size_t depth, std::size_t& budget) {
    Sketch out;
    out.is_exact = false;
    out.types = 0;
    for (std::size_t i = 0; i < list.items.size() && out.types != types::all; ++i)
        out.types |= sketch_of(child(schema, list.items[i], key + "/" + std::to_string(i)),
                               depth + 1, budget)
                         .types;
    return out;
}

} // namespace engine
