#include <algorithm>
#include <set>

#include "excess.h"
#include "schema.h"
#include "uris.h"

namespace engine {

namespace {

int draft_of(std::string_view uri) {
    if (uri.find("draft-03") != uri.npos || uri.find("draft-04") != uri.npos) return 4;
    if (uri.find("draft-06") != uri.npos) return 6;
    if (uri.find("draft-07") != uri.npos) return 7;
    return uri.find("2019-09") != uri.npos ? 2019 : 2020;
}

const Json* text_at(const Json& json, std::string_view key) {
    const Json* found = json.find(key);
    return found != nullptr && found->is(Json::Type::string) ? found : nullptr;
}

using Keys = std::set<std::string, std::less<>>;

const Keys& with_named_schemas() {
    static const Keys keys{"properties",  "patternProperties", "$defs",
                           "definitions", "dependentSchemas",  "dependencies"};
    return keys;
}

const Keys& without_schemas() {
    static const Keys keys{"enum", "const", "default", "examples", "required"};
    return keys;
}

} // namespace

// Places in the document

int Schemas::draft(const std::string& base) const {
    const auto found = drafts_.find(base);
    return found != drafts_.end() ? found->second : 0;
}

void Schemas::note_dialect(const std::string& base, const Json& json) {
    const Json* own = text_at(json, "$schema");
    if (own == nullptr) return;
    drafts_[base] = draft_of(own->text);
    dialects_[base] = own->text;
}

/// The URI that references inside `json` build on; its `$id` is noted.
std::string Schemas::note_id(const Json& json, std::string base, const std::string& pointer) {
    const int around = draft(base);
    if (json.find("$ref") != nullptr && around != 0 && around < 2019) return base;
    for (const char* key : {"$id", "id"}) {
        const Json* id = text_at(json, key);
        if (id == nullptr || (key[0] == 'i' && draft(base) != 4)) continue;
        if (!id->text.empty() && id->text.front() == '#') {
            anchors_[base + id->text] = {&json, pointer};
            continue;
        }
        const int inherited = draft(base);
        base = resolve_uri(base, id->text);
        base = base.substr(0, base.find('#'));
        resources_.emplace(base, Location{&json, pointer});
        drafts_.emplace(base, inherited);
        note_dialect(base, json);
    }
    return base;
}

/// Notes the ids and anchors of a document. Looks only where schemas are.
void Schemas::find_anchors(const Json& json, const std::string& given, const std::string& pointer,
                           std::size_t depth) {
    if (depth > options_.max_depth)
        throw LimitExceeded("depth", options_.max_depth, depth, "schemas inside each other",
                            pointer);
    if (!json.is(Json::Type::object)) return;
    check_sizes(json, pointer);
    const std::string base = note_id(json, given, pointer);
    bases_[&json] = base;
    for (const char* key : {"$anchor", "$dynamicAnchor"}) {
        const Json* anchor = text_at(json, key);
        if (anchor == nullptr) continue;
        anchors_[base + "#" + anchor->text] = {&json, pointer};
        if (key[1] == 'd') dynamic_[base][anchor->text] = {&json, pointer};
    }
    if (const Json* anchor = json.find("$recursiveAnchor"); anchor != nullptr && anchor->truth)
        dynamic_[base]["#"] = {&json, pointer};
    has_dynamic_references_ = has_dynamic_references_ || json.find("$dynamicRef") != nullptr ||
                              json.find("$recursiveRef") != nullptr;
    for (const auto& [key, value] : json.members) {
        if (without_schemas().contains(key)) continue;
        const std::string here = pointer + "/" + escape_pointer(key);
        if (with_named_schemas().contains(key)) {
            for (const auto& [name, member] : value.members)
                find_anchors(member, base, here + "/" + escape_pointer(name), depth + 1);
        } else if (value.is(Json::Type::array)) {
            for (std::size_t i = 0; i < value.items.size(); ++i)
                find_anchors(value.items[i], base, here + "/" + std::to_string(i), depth + 1);
        } else {
            find_anchors(value, base, here, depth + 1);
        }
    }
}

/// Throws LimitExceeded for lists and patterns that are too long.
void Schemas::check_sizes(const Json& json, const std::string& pointer) const {
    const auto check = [&](const char* option, std::size_t most, std::size_t found,
                           const char* what, const std::string& key) {
        if (found > most)
            throw LimitExceeded(option, most, found, what, pointer + "/" + escape_pointer(key));
    };
    const std::size_t longest = options_.pattern.max_length;
    for (const auto& [key, value] : json.members) {
        if (with_named_schemas().contains(key) || key == "dependentRequired" || key == "required")
            check("properties", options_.max_properties,
                  std::max(value.members.size(), value.items.size()), "properties", key);
        if (key == "enum")
            check("enum_values", options_.max_enum, value.items.size(), "values", key);
        if (key == "pattern")
            check("pattern_length", longest, value.text.size(), "bytes of a pattern", key);
        if (key == "patternProperties")
            for (const auto& [pattern, schema] : value.members)
                check("pattern_length", longest, pattern.size(), "bytes of a pattern", key);
    }
}

void Schemas::count_steps(std::size_t more) {
    n_steps_ += more;
    if (n_steps_ > options_.max_steps)
        throw LimitExceeded("steps", options_.max_steps, options_.max_steps + 1,
                            "steps to combine anyOf, oneOf, not and if");
}

/// The dynamic scope once a schema of the document `base` is entered: for each dynamic anchor, the
/// outermost document that has it. Only where something refers to one.
std::uint32_t Schemas::scope_in(std::uint32_t scope, const std::string& base) {
    if (!has_dynamic_references_) return 0;
    const auto own = dynamic_.find(base);
    if (own == dynamic_.end()) return scope;
    auto wider = scopes_[scope];
    wider.insert(own->second.begin(), own->second.end()); // those that are there stay
    const auto known = std::ranges::find(scopes_, wider);
    if (known != scopes_.end()) return std::uint32_t(known - scopes_.begin());
    scopes_.push_back(std::move(wider));
    return std::uint32_t(scopes_.size() - 1);
}

std::uint32_t Schemas::schema_at(const Json& json, const std::string& pointer,
                                 const std::string& base, std::uint32_t scope) {
    const auto found = bases_.find(&json);
    const std::string& own = found != bases_.end() ? found->second : base;
    scope = scope_in(scope, own);
    const auto [at, is_new] =
        schema_numbers_.emplace(std::pair(&json, scope), std::uint32_t(schemas_.size()));
    if (!is_new) return at->second;
    if (schemas_.size() >= options_.max_schemas)
        throw SchemaError(pointer, "",
                          "more than " + std::to_string(options_.max_schemas) + " schemas");
    Schema made{&json, pointer, own};
    made.scope = scope;
    made.only_annotates = only_annotates(own);
    schemas_.push_back(std::move(made));
    return at->second;
}

/// Whether a document's dialect leaves out the vocabulary of assertions.
bool Schemas::only_annotates(const std::string& base) const {
    const auto dialect = dialects_.find(base);
    if (dialect == dialects_.end()) return false;
    const auto meta = resources_.find(dialect->second);
    if (meta == resources_.end()) return false;
    const Json* vocabularies = meta->second.json->find("$vocabulary");
    return vocabularies != nullptr && std::ranges::none_of(vocabularies->members, [](auto& member) {
               return member.first.ends_with("/vocab/validation");
           });
}

std::uint32_t Schemas::child(std::uint32_t parent, const Json& json, const std::string& path) {
    const Schema& above = schemas_[parent];
    if (const auto known = schema_numbers_.find(std::pair(&json, above.scope));
        known != schema_numbers_.end())
        return known->second;
    return schema_at(json, above.pointer + "/" + path, std::string(above.base), above.scope);
}

std::uint32_t Schemas::literal(std::uint32_t parent, const Json& json) {
    const auto [at, is_new] = literal_numbers_.emplace(&json, std::uint32_t(schemas_.size()));
    if (is_new) {
        Schema made{&json, schemas_[parent].pointer, schemas_[parent].base};
        made.is_literal = true;
        schemas_.push_back(std::move(made));
    }
    return at->second;
}

/// A schema that means that one of `atoms` holds.
std::uint32_t Schemas::any_of(std::vector<Atom> atoms) {
    std::ranges::sort(atoms);
    atoms.erase(std::unique(atoms.begin(), atoms.end()), atoms.end());
    const auto [at, is_new] = unions_.emplace(atoms, std::uint32_t(schemas_.size()));
    if (is_new) {
        const Schema& first = schemas_[atoms.front() / 2];
        Schema made{&true_, first.pointer, first.base};
        made.any_of = std::move(atoms);
        schemas_.push_back(std::move(made));
    }
    return at->second;
}

std::uint32_t Schemas::literal_true() {
    return schema_at(true_, "", "", 0);
}
std::uint32_t Schemas::literal_false() {
    return schema_at(false_, "", "", 0);
}

bool Schemas::is_old(std::uint32_t schema) const {
    const int own = draft(schemas_[schema].base);
    return own != 0 && own < 2019;
}

// References

std::uint32_t Schemas::resolve(std::uint32_t from, const Json& reference, const char* keyword) {
    if (!reference.is(Json::Type::string)) fail(from, keyword, "must be a string");
    const std::string uri = resolve_uri(schemas_[from].base, reference.text);
    const std::uint32_t there = target(uri, from, reference.text, keyword);
    const std::string_view key = keyword;
    if (key == "$ref") return there;
    // The outermost document that has the same dynamic anchor, if it is one here at all.
    const std::size_t hash = std::min(uri.find('#'), uri.size());
    const std::string name = key == "$recursiveRef" ? "#"
                             : hash < uri.size()    ? uri.substr(hash + 1)
                                                    : "";
    const auto own = dynamic_.find(schemas_[there].base);
    if (name.empty() || own == dynamic_.end()) return there;
    const auto anchor = own->second.find(name);
    if (anchor == own->second.end() || anchor->second.json != schemas_[there].json) return there;
    const std::uint32_t scope = schemas_[from].scope;
    const auto outer = scopes_[scope].find(name);
    if (outer == scopes_[scope].end()) return there;
    const Location place = outer->second;
    return schema_at(*place.json, place.pointer, schemas_[there].base, scope);
}

std::uint32_t Schemas::target(const std::string& uri, std::uint32_t from, const std::string& given,
                              const char* keyword) {
    const std::uint32_t scope = schemas_[from].scope;
    const std::size_t hash = std::min(uri.find('#'), uri.size());
    const std::string trunk = uri.substr(0, hash);
    const std::string fragment = hash < uri.size() ? uri.substr(hash + 1) : "";
    const auto resource = resources_.find(trunk);
    if (!fragment.empty() && fragment.front() != '/') {
        auto anchor = anchors_.find(trunk + "#" + fragment);
        if (anchor == anchors_.end() && resource != resources_.end()) // by its own name for itself
            anchor = anchors_.find(bases_.at(resource->second.json) + "#" + fragment);
        if (anchor == anchors_.end()) fail(from, keyword, "no schema is called " + given);
        return schema_at(*anchor->second.json, anchor->second.pointer, trunk, scope);
    }
    if (resource == resources_.end())
        fail(from, keyword, "the document of " + given + " is not known here");
    const Json* at = resource->second.json;
    std::string pointer = resource->second.pointer, base = trunk;
    for (std::size_t i = 0; i < fragment.size();) {
        const std::size_t end = std::min(fragment.find('/', i + 1), fragment.size());
        const std::string_view token = std::string_view(fragment).substr(i + 1, end - i - 1);
        const std::string key = unescape_pointer(token);
        const Json* inside = nullptr;
        if (at->is(Json::Type::array)) {
            const bool is_number =
                !key.empty() && key.size() < 9 && key.find_first_not_of("0123456789") == key.npos;
            if (is_number && std::stoul(key) < at->items.size())
                inside = &at->items[std::stoul(key)];
        } else {
            inside = at->find(key);
        }
        if (inside == nullptr) fail(from, keyword, "nothing is at " + given);
        at = inside;
        if (const auto own = bases_.find(at); own != bases_.end()) base = own->second;
        pointer += "/" + escape_pointer(key);
        i = end;
    }
    return schema_at(*at, pointer, base, scope);
}

} // namespace engine
