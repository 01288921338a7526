#include "schema.h"

#include <algorithm>
#include <set>

#include "branches.h"
#include "formats.h"

namespace engine {

namespace {

/// RFC 3986, section 5.2, as far as schemas use it: no scheme-relative references.
std::string resolve_uri(const std::string& base, const std::string& reference) {
    const auto scheme_end = [](const std::string& uri) {
        const std::size_t colon = uri.find(':'), slash = uri.find_first_of("/?#");
        return colon != uri.npos && (slash == uri.npos || colon < slash) ? colon : uri.npos;
    };
    if (reference.empty()) return base.substr(0, base.find('#'));
    if (scheme_end(reference) != reference.npos) return reference;
    const std::string trunk = base.substr(0, base.find_first_of("#"));
    if (reference.front() == '#') return trunk + reference;
    const std::size_t colon = scheme_end(trunk);
    std::size_t path = colon == trunk.npos ? 0 : colon + 1;
    if (trunk.compare(path, 2, "//") == 0) path = std::min(trunk.find('/', path + 2), trunk.size());
    const std::string front = trunk.substr(0, path);
    if (reference.front() == '?') return trunk.substr(0, trunk.find('?')) + reference;
    const std::string old = trunk.substr(path, trunk.find('?', path) - path);
    std::string joined = reference;
    if (reference.front() != '/') {
        const std::size_t slash = old.rfind('/');
        joined = (slash == old.npos ? (front.empty() ? "" : "/") : old.substr(0, slash + 1)) + reference;
    }
    const std::size_t tail = std::min(joined.find_first_of("?#"), joined.size());
    std::vector<std::string> parts;
    std::string part;
    bool is_last_dot = false;
    for (std::size_t i = 0; i <= tail; ++i) {
        if (i < tail && joined[i] != '/') {
            part += joined[i];
            continue;
        }
        is_last_dot = part == "." || part == "..";
        if (part == ".." && parts.size() > 1) parts.pop_back();
        else if (!is_last_dot) parts.push_back(part);
        part.clear();
    }
    std::string out;
    for (std::size_t i = 0; i < parts.size(); ++i) out += (i > 0 ? "/" : "") + parts[i];
    return front + out + (is_last_dot ? "/" : "") + joined.substr(tail);
}

std::string unescape_pointer(std::string_view token) {
    std::string out;
    for (std::size_t i = 0; i < token.size(); ++i) {
        if (token[i] == '%' && i + 2 < token.size()) {
            out += char(std::stoi(std::string(token.substr(i + 1, 2)), nullptr, 16));
            i += 2;
        } else {
            out += token[i];
        }
    }
    std::string plain;
    for (std::size_t i = 0; i < out.size(); ++i) {
        if (out[i] == '~' && i + 1 < out.size()) plain += out[++i] == '1' ? '/' : '~';
        else plain += out[i];
    }
    return plain;
}

int draft_of(std::string_view uri) {
    if (uri.find("draft-03") != uri.npos || uri.find("draft-04") != uri.npos) return 4;
    if (uri.find("draft-06") != uri.npos) return 6;
    if (uri.find("draft-07") != uri.npos) return 7;
    return uri.find("2019-09") != uri.npos ? 2019 : 2020;
}

} // namespace

Schemas::Schemas(Expressions& expressions, const SchemaOptions& options)
    : pool_(expressions), characters_(expressions, options.writing),
      keys_(expressions, Writing::json_needed), options_(options) {}

void Schemas::add_resource(const std::string& uri, Json document) {
    documents_.push_back(std::move(document));
    const Json& root = documents_.back();
    resources_[uri] = {&root, ""};
    if (const Json* draft = root.find("$schema")) drafts_[uri] = draft_of(draft->text);
    find_anchors(root, uri, "", 0);
}

Value Schemas::add(Json schema) {
    const std::string uri = "document:" + std::to_string(documents_.size());
    add_resource(uri, std::move(schema));
    const Json& root = documents_.back();
    return value_of({schema_at(root, "", uri) * 2});
}

void Schemas::fail(std::uint32_t schema, const std::string& keyword, const std::string& why) const {
    throw SchemaError(schemas_[schema].pointer, keyword, why);
}

void Schemas::refuse(std::uint32_t schema, const std::string& keyword, const std::string& why) {
    if (!options_.best_effort) fail(schema, keyword, why);
    const std::pair entry{schemas_[schema].pointer, keyword};
    if (std::ranges::find(weakened_, entry) == weakened_.end()) weakened_.push_back(entry);
}

// Places in the document

/// Notes the ids and anchors of a document. Looks only where schemas are.
void Schemas::find_anchors(const Json& json, const std::string& given, const std::string& pointer,
                           std::size_t depth) {
    if (depth > options_.max_depth) throw SchemaError(pointer, "", "nested too deeply");
    if (!json.is(Json::Type::object)) return;
    std::string base = given;
    const auto draft = [&] {
        const auto found = drafts_.find(base);
        return found != drafts_.end() ? found->second : 0;
    };
    const bool hides = json.find("$ref") != nullptr && draft() != 0 && draft() < 2019;
    for (const char* key : {"$id", "id"}) {
        const Json* id = json.find(key);
        if (id == nullptr || !id->is(Json::Type::string) || hides) continue;
        if (key[0] == 'i' && draft() != 4) continue;
        if (!id->text.empty() && id->text.front() == '#') {
            anchors_[base + id->text] = {&json, pointer};
            continue;
        }
        const int inherited = draft();
        base = resolve_uri(base, id->text);
        base = base.substr(0, base.find('#'));
        resources_.emplace(base, std::pair(&json, pointer));
        drafts_.emplace(base, inherited);
        if (const Json* own = json.find("$schema")) drafts_[base] = draft_of(own->text);
    }
    bases_[&json] = base;
    for (const char* key : {"$anchor", "$dynamicAnchor"}) {
        const Json* anchor = json.find(key);
        if (anchor == nullptr || !anchor->is(Json::Type::string)) continue;
        anchors_[base + "#" + anchor->text] = {&json, pointer};
        if (key[1] == 'd') ++dynamic_anchors_[anchor->text];
    }
    if (const Json* anchor = json.find("$recursiveAnchor"); anchor != nullptr && anchor->truth)
        ++dynamic_anchors_["#"];
    static const std::set<std::string, std::less<>> of_schemas{
        "properties", "patternProperties", "$defs", "definitions", "dependentSchemas",
        "dependencies"};
    static const std::set<std::string, std::less<>> not_schemas{"enum", "const", "default",
                                                                 "examples", "required"};
    for (const auto& [key, value] : json.members) {
        if (not_schemas.contains(key)) continue;
        const std::string here = pointer + "/" + key;
        if (of_schemas.contains(key)) {
            for (const auto& [name, member] : value.members)
                find_anchors(member, base, here + "/" + name, depth + 1);
        } else if (value.is(Json::Type::array)) {
            for (std::size_t i = 0; i < value.items.size(); ++i)
                find_anchors(value.items[i], base, here + "/" + std::to_string(i), depth + 1);
        } else {
            find_anchors(value, base, here, depth + 1);
        }
    }
}

std::uint32_t Schemas::schema_at(const Json& json, const std::string& pointer,
                                 const std::string& base) {
    const auto [at, is_new] = schema_numbers_.emplace(&json, std::uint32_t(schemas_.size()));
    if (is_new) {
        const auto own = bases_.find(&json);
        schemas_.push_back({&json, pointer, own != bases_.end() ? own->second : base});
    }
    return at->second;
}

std::uint32_t Schemas::child(std::uint32_t parent, const Json& json, const std::string& path) {
    const auto known = schema_numbers_.find(&json);
    if (known != schema_numbers_.end()) return known->second;
    return schema_at(json, schemas_[parent].pointer + "/" + path, schemas_[parent].base);
}

std::uint32_t Schemas::literal(std::uint32_t parent, const Json& json) {
    const auto [at, is_new] = literal_numbers_.emplace(&json, std::uint32_t(schemas_.size()));
    if (is_new) schemas_.push_back({&json, schemas_[parent].pointer, schemas_[parent].base, true});
    return at->second;
}

std::uint32_t Schemas::literal_true() { return schema_at(true_, "", ""); }
std::uint32_t Schemas::literal_false() { return schema_at(false_, "", ""); }

bool Schemas::is_old(std::uint32_t schema) const {
    const auto found = drafts_.find(schemas_[schema].base);
    return found != drafts_.end() && found->second != 0 && found->second < 2019;
}

std::uint32_t Schemas::resolve(std::uint32_t from, const std::string& reference,
                               const char* keyword) {
    const bool is_recursive = std::string_view(keyword) == "$recursiveRef";
    const bool is_dynamic = std::string_view(keyword) == "$dynamicRef";
    const std::string uri = resolve_uri(schemas_[from].base, reference);
    if (is_recursive && dynamic_anchors_["#"] > 1)
        refuse(from, keyword, "between several documents that have $recursiveAnchor");
    if (is_dynamic && dynamic_anchors_[reference.substr(reference.find('#') + 1)] > 1)
        refuse(from, keyword, "to an anchor that stands in several places");
    return target(uri, from, keyword);
}

std::uint32_t Schemas::target(const std::string& uri, std::uint32_t from, const char* keyword) {
    const std::size_t hash = std::min(uri.find('#'), uri.size());
    const std::string trunk = uri.substr(0, hash);
    const std::string fragment = hash < uri.size() ? uri.substr(hash + 1) : "";
    if (!fragment.empty() && fragment.front() != '/') {
        const auto anchor = anchors_.find(trunk + "#" + fragment);
        if (anchor != anchors_.end())
            return schema_at(*anchor->second.first, anchor->second.second, trunk);
        fail(from, keyword, "no schema is called " + uri);
    }
    auto resource = resources_.find(trunk);
    if (resource == resources_.end() && !trunk.empty()) {
        // The root's own URI may differ by what it is called from outside.
        resource = resources_.find(trunk + "#");
    }
    if (resource == resources_.end())
        fail(from, keyword, "the document " + trunk + " is not known here");
    const Json* at = resource->second.first;
    std::string pointer = resource->second.second, base = trunk;
    for (std::size_t i = 0; i < fragment.size();) {
        const std::size_t end = std::min(fragment.find('/', i + 1), fragment.size());
        const std::string key = unescape_pointer(std::string_view(fragment).substr(i + 1, end - i - 1));
        const Json* inside = nullptr;
        if (at->is(Json::Type::array)) {
            const bool is_number = !key.empty() && key.size() < 9 &&
                                   key.find_first_not_of("0123456789") == key.npos;
            if (is_number && std::stoul(key) < at->items.size()) inside = &at->items[std::stoul(key)];
        } else {
            inside = at->find(key);
        }
        if (inside == nullptr) fail(from, keyword, "nothing is at " + uri);
        at = inside;
        if (const auto own = bases_.find(at); own != bases_.end()) base = own->second;
        pointer += "/" + key;
        i = end;
    }
    return schema_at(*at, pointer, base);
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
        refuse(schema, keyword, "the pattern " + text + ", character " +
                                    std::to_string(error.offset) + ": " + error.what());
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
            if (schema.is_literal || schema.json->members.size() != 1) break;
            const Json* ref = schema.json->find("$ref");
            if (ref == nullptr || !ref->is(Json::Type::string)) break;
            atom = resolve(atom / 2, ref->text, "$ref") * 2 + atom % 2;
        }
        const Schema& schema = schemas_[atom / 2];
        const Json& json = *schema.json;
        if (!schema.is_literal) {
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

const ValueForms& Schemas::forms(Value value) {
    ValueData& data = data_[value];
    if (data.forms) return *data.forms;
    if (data.is_working)
        throw SchemaError(schemas_[values_[value].atoms.front() / 2].pointer, "",
                          "a schema that depends on itself");
    if (++depth_ > options_.max_depth) {
        depth_ = 0;
        throw TooComplex("schemas that depend on each other too deeply");
    }
    data.is_working = true;
    const std::vector<Atom> atoms = values_[value].atoms;
    try {
        ValueForms out = work_out(atoms);
        data_[value].forms = std::move(out);
    } catch (...) {
        data_[value].is_working = false;
        throw;
    }
    data_[value].is_working = false;
    --depth_;
    return *data_[value].forms;
}

Expr Schemas::key_names(Value value) {
    std::vector<Expr> parts;
    for (const Clause& clause : Branches(*this).of(values_[value].atoms)) {
        if ((clause.types & types::string) == 0) continue;
        if (!clause.values) {
            parts.push_back(string_language(clause, true));
            continue;
        }
        std::vector<std::string> words;
        for (const Json* json : *clause.values)
            if (json->is(Json::Type::string) && fits(clause, *json)) words.push_back(json->text);
        parts.push_back(keys_.words(words));
    }
    return pool_.either(parts);
}

// Whether anything is of a kind

bool Schemas::is_dead(Value value) {
    bool is_open = false;
    return !is_alive(value, is_open);
}

/// By a proof that some value exists. A kind that is asked about inside its own proof counts as
/// dead there, since the smallest proof doesn't need it; `is_open` then says that a denial holds
/// for this question only.
bool Schemas::is_alive(Value value, bool& is_open) {
    ValueData& data = data_[value];
    if (data.life == Life::alive || data.life == Life::dead) return data.life == Life::alive;
    if (data.life == Life::asking) {
        is_open = true;
        return false;
    }
    const ValueForms found = forms(value);
    bool alive = found.scalar != Expressions::none && !pool_.is_dead(found.scalar);
    bool depends = false;
    data_[value].life = Life::asking;
    for (std::size_t i = 0; !alive && i < found.arrays.size(); ++i)
        alive = is_array_alive(arrays_[found.arrays[i]], depends);
    for (std::size_t i = 0; !alive && i < found.objects.size(); ++i)
        alive = is_object_alive(objects_[found.objects[i]], depends);
    data_[value].life = alive ? Life::alive : depends ? Life::unasked : Life::dead;
    is_open |= depends && !alive;
    return alive;
}

bool Schemas::is_object_alive(const ObjectShape& shape, bool& is_open) {
    std::vector<bool> must;
    std::vector<std::size_t> open;
    for (const auto& property : shape.properties) must.push_back(property.is_required);
    for (std::size_t i = 0; i < must.size(); ++i)
        if (must[i]) open.push_back(i);
    std::uint64_t count = std::uint64_t(std::popcount(shape.wishes));
    while (!open.empty()) {
        const auto& property = shape.properties[open.back()];
        open.pop_back();
        ++count;
        if (!is_alive(property.value, is_open)) return false;
        for (const auto needed : property.needs)
            if (!must[needed]) must[needed] = true, open.push_back(needed);
    }
    if (count > shape.max || shape.min > shape.max) return false;
    std::uint32_t wishes = 0;
    bool others = false;
    for (const auto& other : shape.others) {
        if (other.wish == 0 && (others || count >= shape.min)) continue;
        if (!is_alive(other.value, is_open)) continue;
        wishes |= other.wish;
        others = true;
    }
    if ((shape.wishes & ~wishes) != 0) return false;
    if (others || count >= shape.min) return true;
    for (std::size_t i = 0; i < must.size() && count < shape.min; ++i)
        if (!must[i] && is_alive(shape.properties[i].value, is_open)) ++count;
    return count >= shape.min;
}

bool Schemas::is_array_alive(const ArrayShape& shape, bool& is_open) {
    std::uint32_t needed = shape.min;
    for (const auto& each : shape.contains) needed = std::max(needed, each.min);
    if (needed > shape.max || shape.min > shape.max) return false;
    for (std::uint32_t i = 0; i < needed; ++i) {
        const bool is_rest = i >= shape.first.size();
        if (!is_alive(is_rest ? shape.rest : shape.first[i], is_open)) return false;
        if (is_rest) break;
    }
    for (const auto& each : shape.contains) {
        if (each.min == 0) continue;
        bool some = false;
        for (std::size_t i = 0; i < shape.first.size() && i < shape.max; ++i)
            some = some || is_alive(meet(shape.first[i], each.counted), is_open);
        if (shape.first.size() < shape.max)
            some = some || is_alive(meet(shape.rest, each.counted), is_open);
        if (!some) return false;
    }
    return true;
}

void Schemas::check(Value root, std::size_t most) {
    std::vector<Value> open{root};
    std::set<Value> seen{root};
    const auto add = [&](Value value) {
        if (seen.insert(value).second) open.push_back(value);
    };
    while (!open.empty() && seen.size() < most) {
        const Value value = open.back();
        open.pop_back();
        const ValueForms found = forms(value);
        for (const auto shape : found.objects) {
            for (const auto& property : objects_[shape].properties) add(property.value);
            for (const auto& other : objects_[shape].others) add(other.value);
        }
        for (const auto shape : found.arrays) {
            for (const auto item : arrays_[shape].first) add(item);
            if (arrays_[shape].max > arrays_[shape].first.size()) add(arrays_[shape].rest);
        }
    }
}

} // namespace engine
