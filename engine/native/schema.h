/// JSON Schema, drafts 4 to 2020-12, as kinds of JSON values.
///
/// Knows keywords, references, and how schemas combine. Does not know how values are matched.
///
/// A `Value` is a set of schemas that must all hold or must not (an atom is one of them with its
/// sign), kept once. What such a set allows is worked out when it is first asked for: the keywords
/// become facts about one JSON type each, `anyOf` and its like become branches, and a negation
/// becomes branches of negated keywords. Each branch then is a shape: an expression for scalars,
/// an object's properties, an array's items, whose own values are sets of schemas again.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "code_points.h"
#include "expressions.h"
#include "grammar.h"
#include "json.h"
#include "numbers.h"
#include "pattern.h"
#include "sketches.h"

namespace engine {

/// A schema that is wrong, or that can't be enforced in full.
struct SchemaError : std::runtime_error {
    SchemaError(std::string where, std::string key, const std::string& why)
        : std::runtime_error(why), pointer(std::move(where)), keyword(std::move(key)) {}
    std::string pointer, keyword;
};

struct SchemaOptions {
    Writing writing = Writing::json_needed;
    bool any_order = false;   // of properties; else as the schema has them, other keys behind
    bool best_effort = false; // weaken what can't be enforced, and report it
    bool checks_formats = true;
    Spacing spacing;
    std::size_t max_depth = 256;
    std::size_t max_properties = 10'000; // of one object
    std::size_t max_enum = 100'000;      // values of one list
    std::size_t max_branches = 2000;     // of one value
    std::size_t max_steps = 1'500'000;   // of working out what one value may be
    std::size_t max_values = 100'000;
    std::size_t max_proofs = 500; // attempts to see that two schemas of a oneOf exclude each other
    std::size_t max_schemas = 100'000; // places of the document, each as often as scopes differ
    PatternOptions pattern;
};

using Atom = std::uint32_t; // twice a schema's number, plus one if it must not hold

/// What a schema means that speaks of nothing but types and strings.
struct Plain {
    std::uint32_t types = 0;       // with `string` if some strings fit
    Expr text = Expressions::none; // those, without their quotes,
    Expr key = Expressions::none;  // and as keys
};

class Schemas : public Values {
  public:
    Schemas(Expressions& expressions, const SchemaOptions& options);

    /// A document that references may name by its URI.
    void add_resource(const std::string& uri, Json document);
    /// The values that a schema allows.
    Value add(Json schema);
    const ValueForms& forms(Value value) override;
    const ObjectShape& object(std::uint32_t shape) const override { return objects_[shape]; }
    const ArrayShape& array(std::uint32_t shape) const override { return arrays_[shape]; }
    const Spacing& spacing() const override { return options_.spacing; }
    Value meet(Value a, Value b) override;
    std::uint32_t literal(std::string_view text) override;
    Value without(Value kind, const std::vector<std::uint32_t>& literals) override;
    bool is_dead(Value value) override;
    bool is_object_dead(std::uint32_t shape) override;
    bool is_array_dead(std::uint32_t shape) override;

    /// The strings of a kind, in the options' writing and without quotes. Looks at every schema by
    /// itself first, so that errors come now.
    Expr texts(Value value);

    /// What was weakened with `best_effort`: pointer and keyword.
    const std::vector<std::pair<std::string, std::string>>& weakened() const { return weakened_; }
    /// Looks at every schema by itself, and works out values that can be reached, up to `most` and
    /// as long as that is cheap, so that errors come now.
    void check(Value root, std::size_t most);
    std::size_t n_values() const { return values_.size(); }

  private:
    friend class Branches;
    bool checks_formats() const { return options_.checks_formats; }

    struct Schema {
        const Json* json;
        std::string pointer, base;
        std::uint32_t scope = 0;     // the dynamic one, in scopes_
        bool is_literal = false;     // the value itself is meant, not a schema
        bool only_annotates = false; // its dialect has no assertions
        std::vector<Atom> any_of = {};
    };
    struct Location {
        const Json* json;
        std::string pointer;
        bool operator==(const Location& other) const { return json == other.json; }
    };
    struct AtomSet {
        std::vector<Atom> atoms;
        bool operator==(const AtomSet&) const = default;
        std::uint64_t hash() const {
            std::uint64_t out = atoms.size();
            for (const Atom atom : atoms) out = mix(out, atom);
            return out;
        }
    };
    enum class Life : std::uint8_t { unasked, asking, alive, dead };
    struct ValueData {
        std::optional<ValueForms> forms;
        Life life = Life::unasked;
        bool is_working = false;
    };

    int draft(const std::string& base) const;
    void note_dialect(const std::string& base, const Json& json);
    std::string note_id(const Json& json, std::string base, const std::string& pointer);
    std::uint32_t scope_in(std::uint32_t scope, const std::string& base);
    bool only_annotates(const std::string& base) const;
    void find_anchors(const Json& json, const std::string& base, const std::string& pointer,
                      std::size_t depth);
    void check_sizes(const Json& json, const std::string& pointer) const;
    void count_steps(std::size_t more);
    std::uint32_t schema_at(const Json& json, const std::string& pointer, const std::string& base,
                            std::uint32_t scope);
    std::uint32_t child(std::uint32_t parent, const Json& json, const std::string& path);
    std::uint32_t literal(std::uint32_t parent, const Json& json);
    std::uint32_t any_of(std::vector<Atom> atoms);
    std::uint32_t literal_true();
    std::uint32_t literal_false();
    std::uint32_t resolve(std::uint32_t from, const Json& reference, const char* keyword);
    std::uint32_t target(const std::string& uri, std::uint32_t from, const std::string& given,
                         const char* keyword);
    bool is_old(std::uint32_t schema) const; // draft 7 and before: $ref hides what is beside it
    Value value_of(std::vector<Atom> atoms);
    const std::optional<Plain>& plain(Atom atom);
    std::optional<Plain> plain_of(std::uint32_t schema);
    std::optional<Plain> plain_keyword(std::uint32_t schema, const std::string& key,
                                       const Json& value);
    std::optional<Plain> plain_one_of(const std::vector<Atom>& parts);
    std::optional<Plain> plain_any_of(const std::vector<Atom>& parts);
    std::optional<Plain> plain_if(std::uint32_t schema, const Json& condition);
    std::optional<Plain> plain_values(const std::vector<const Json*>& values);
    Plain of_types(std::uint32_t types);
    Plain of_strings(Expr text, Expr key);
    Plain complement(const Plain& plain);
    Plain join(const Plain& a, const Plain& b);
    Plain meet(const Plain& a, const Plain& b);
    std::vector<Atom> children(std::uint32_t schema, const std::string& key, const Json& list);
    const Sketch& sketch(Atom atom);
    Sketch sketch_of(std::uint32_t schema, std::size_t depth, std::size_t& budget);
    Sketch sketch_of_any(std::uint32_t schema, const std::string& key, const Json& list,
                         std::size_t depth, std::size_t& budget);
    ValueForms forms_here(Value value);
    void survey(Value root);
    bool is_surely_dead(Value value, std::size_t depth);
    template <class Shape>
    bool is_shape_dead(const Shape& shape, Life& life);
    void prove(Value root);
    bool is_known_alive(Value value);
    template <class ValueAt>
    bool are_known_alive(std::size_t n, ValueAt&& value);
    bool is_alive(const ValueForms& forms);
    bool is_alive(const ObjectShape& shape);
    bool is_alive(const ArrayShape& shape);
    Expr pattern(std::uint32_t schema, const std::string& pattern, const char* keyword);
    Expr key_pattern(std::uint32_t schema, const std::string& pattern);
    Expr pattern(std::uint32_t schema, const std::string& text, const char* keyword,
                 Characters& characters, std::map<std::string, Expr>& known);
    Expr format(const std::string& name, bool is_key = false);
    Expr strings(Value value, bool is_key); // of a kind, without quotes
    bool is_hopeless(Expr expression);
    ValueForms work_out(const std::vector<Atom>& atoms);
    Expr string_language(const struct Clause& clause, bool is_key);
    Expr scalars(const struct Clause& clause);
    bool fits(const struct Clause& clause, const Json& json);
    void add_array(ValueForms& forms, const struct Clause& clause);
    bool check_unique(const ArrayShape& shape, std::uint32_t from);
    std::uint32_t count_values(Value value, std::uint32_t enough);
    void add_objects(ValueForms& forms, const struct Clause& clause);
    bool add_object(ObjectShape& shape, const struct Clause& clause,
                    const std::vector<std::pair<std::string, std::optional<Atom>>>& wished,
                    const std::vector<std::size_t>& open_wishes);
    void add_others(ObjectShape& shape, const struct Clause& clause,
                    const std::vector<std::size_t>& open_wishes);
    [[noreturn]] void fail(std::uint32_t schema, const std::string& keyword,
                           const std::string& why) const;
    /// Throws, or with `best_effort` reports and returns.
    void refuse(std::uint32_t schema, const std::string& keyword, const std::string& why);

    Expressions& pool_;
    Characters characters_; // of strings
    Characters keys_;       // of keys: escaped only where they must be
    SchemaOptions options_;
    std::vector<Schema> schemas_;
    std::map<std::pair<const Json*, std::uint32_t>, std::uint32_t> schema_numbers_; // with scope
    std::map<const Json*, std::uint32_t> literal_numbers_;
    std::map<std::string, std::uint32_t> seen_literals_; // of texts, by what they mean
    std::map<std::vector<Atom>, std::uint32_t> unions_;
    std::map<std::uint32_t, std::shared_ptr<const struct PropertyTable>> tables_; // by schema
    std::map<Atom, Sketch> sketches_;
    std::map<Atom, std::optional<Plain>> plains_;
    std::map<std::pair<Atom, Atom>, bool> exclusive_;
    std::map<std::string, Location> resources_;                      // by URI
    std::map<std::string, Location> anchors_;                        // by URI#name
    std::map<std::string, std::map<std::string, Location>> dynamic_; // anchors, by URI and name
    bool has_dynamic_references_ = false;
    std::vector<std::map<std::string, Location>> scopes_{{}};
    std::map<const Json*, std::string> bases_;
    std::map<std::string, std::string> dialects_; // $schema, by URI of the resource
    std::map<std::string, Expr> patterns_, key_patterns_;
    std::map<std::string, Expr> formats_, key_formats_;
    std::map<std::string, int> drafts_; // by URI of the resource: 4, 6, 7, 2019, 2020
    Interner<AtomSet> values_;
    std::deque<ValueData> data_;
    std::deque<ObjectShape> objects_;
    std::deque<ArrayShape> arrays_;
    std::deque<Life> object_lives_, array_lives_; // of these shapes
    std::vector<Value> questions_; // of the proof under way: kinds that it needs to know about
    std::vector<std::pair<std::string, std::string>> weakened_;
    std::size_t n_branches_ = 0; // that were ever looked at
    std::size_t depth_ = 0, n_proofs_ = 0, n_nested_proofs_ = 0;
    std::size_t n_steps_ = 0; // since a value was asked for from outside
    std::size_t plain_depth_ = 0;
    std::deque<Json> documents_;
    Json true_ = [] {
        Json out;
        out.type = Json::Type::boolean;
        out.truth = true;
        return out;
    }();
    Json false_ = [] {
        Json out;
        out.type = Json::Type::boolean;
        return out;
    }();
};

} // namespace engine
