/// What a set of schemas allows, as alternatives that have no alternatives inside.
///
/// Knows keywords and their negations. Does not know shapes or bytes.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "schema.h"
#include "sketches.h"

namespace engine {

constexpr Atom positive_of(std::uint32_t schema) {
    return schema * 2;
}
constexpr Atom negative_of(std::uint32_t schema) {
    return schema * 2 + 1;
}
constexpr Atom opposite(Atom atom) {
    return atom ^ 1;
}

/// Items as one schema describes them. `rest` is that of all others, if it says anything.
struct ArrayMember {
    std::vector<Atom> first;
    std::optional<Atom> rest;
    int scope = 0;
};

/// Properties as one schema describes them.
struct PropertyTable {
    std::vector<std::pair<std::string, Atom>> properties;
    std::unordered_map<std::string, Atom> by_name;
    std::vector<std::pair<Expr, Atom>> patterns;
    std::optional<Atom> additional;

    /// What it demands of the property `name`, written as `spelled`; false if nothing at all.
    bool collect(Expressions& pool, const std::string& name, const std::string& spelled,
                 std::vector<Atom>& atoms) const;
};

struct ObjectMember {
    std::shared_ptr<const PropertyTable> table;
    int scope = 0;
};

struct Clause {
    struct Contains {
        Atom atom;
        std::uint32_t min, max;
        int scope;
    };
    struct Unevaluated {
        Atom atom;
        int scope;
    };
    struct Language {
        Expr text, key; // the same strings as values and as keys
    };
    struct KeyWish { // some key of `keys` has a value that fits
        Expr keys;
        std::optional<Atom> atom;
    };

    std::uint32_t types = types::all;
    std::optional<std::vector<const Json*>> values; // nothing but these, all scalars
    NumberRange number;
    std::uint32_t min_length = 0, max_length = Expressions::forever;
    std::vector<Language> languages; // of a string, without its quotes
    std::vector<std::string> not_strings;

    std::uint32_t min_items = 0, max_items = Expressions::forever;
    std::optional<std::uint32_t> unique_by; // the schema that says so
    std::vector<ArrayMember> items;
    std::vector<std::pair<std::uint32_t, Atom>> items_at;
    std::vector<Contains> contains;
    std::vector<Unevaluated> other_items;

    std::uint32_t min_properties = 0, max_properties = Expressions::forever;
    std::vector<ObjectMember> members;
    std::vector<std::pair<std::string, Atom>> properties; // beside what members say
    std::vector<std::string> required;
    std::vector<std::string> written; // names of a constant, in its order
    std::set<std::string> absent;
    std::vector<std::pair<std::string, std::string>> needs;
    std::vector<Atom> names;
    std::vector<KeyWish> wishes;
    std::vector<Unevaluated> other_properties;

    std::vector<int> scope_parents{-1};
    bool is_inside(int scope, int outer) const {
        for (; scope >= 0; scope = scope_parents[std::size_t(scope)])
            if (scope == outer) return true;
        return false;
    }
};

/// Whether a keyword is of the vocabulary that a dialect can leave out.
bool is_assertion(std::string_view key);

class Branches {
  public:
    explicit Branches(Schemas& schemas) : schemas_(schemas), pool_(schemas.pool_) {}

    /// The clauses whose union the atoms mean. Throws SchemaError, TooComplex.
    std::vector<Clause> of(const std::vector<Atom>& atoms);
    /// The atoms that one leads to by its own keywords: of the same value, and of values in it.
    struct Inside {
        std::vector<Atom> here, within;
    };
    Inside inside(Atom atom);

  private:
    enum class Kind : std::uint8_t {
        atom,
        types,
        value,
        not_value,
        low,
        low_open,
        high,
        high_open,
        multiple,
        not_multiple,
        min_length,
        max_length,
        language,
        min_items,
        max_items,
        item_at,
        unique,
        contains,
        min_properties,
        max_properties,
        required,
        absent,
        property,
        key_exists,
    };
    /// Something that must hold. Which fields count depends on the kind.
    struct Fact {
        Kind kind;
        Atom atom = 0;
        int scope = 0;
        std::uint32_t n = 0, m = 0;
        const Json* json = nullptr;
        std::string name = {};
        Expr expr = Expressions::none, key = Expressions::none;
        bool has_atom = false;
    };
    using Option = std::vector<Fact>;
    struct OneOf {
        std::vector<Atom> parts;
        int scope;
    };
    struct Branch {
        Clause clause;
        std::vector<Fact> todo;
        std::vector<std::vector<Option>> choices;
        std::vector<OneOf> one_ofs;
        std::set<std::pair<Atom, int>> done; // with their scopes
        std::size_t size() const {           // what copying it takes, roughly
            return 1 + done.size() + choices.size() + clause.members.size() +
                   clause.required.size() + clause.properties.size() + clause.languages.size() +
                   clause.not_strings.size() + clause.needs.size();
        }
        bool has(Atom atom) const {
            const auto at = done.lower_bound({atom, -1});
            return at != done.end() && at->first == atom;
        }
    };

    bool settle(Branch& branch);
    bool take_options(Branch& branch);
    bool is_possible(Branch& branch);
    bool has_value(const Clause& clause, const std::string& name);
    bool has_item(const Clause& clause, std::uint32_t index);
    void split(Branch branch, std::vector<Branch>& out);
    void split_one_of(Branch branch, std::vector<Branch>& out);
    bool excludes(const Branch& branch, Atom one, Atom other, int scope);
    bool exclude_each_other(Atom one, Atom other);
    bool apply(Branch& branch, const Fact& fact);
    bool apply_atom(Branch& branch, Atom atom, int scope);
    bool positive(Branch& branch, std::uint32_t schema, int scope);
    void keyword(Branch& branch, std::uint32_t schema, const std::string& key, const Json& value,
                 int scope);
    void one_of(Branch& branch, std::uint32_t schema, const std::string& key, const Json& value,
                int scope);
    void enumeration(Branch& branch, std::uint32_t schema, const std::vector<const Json*>& values);
    bool negative(Branch& branch, std::uint32_t schema);
    void negated_keyword(std::vector<Option>& out, std::uint32_t schema, const std::string& key,
                         const Json& value);
    void negated_object(std::vector<Option>& out, std::uint32_t schema, const std::string& key,
                        const Json& value);
    void negated_array(std::vector<Option>& out, std::uint32_t schema, const std::string& key,
                       const Json& value);
    const std::shared_ptr<const PropertyTable>& properties(std::uint32_t schema);
    void members(Branch& branch, std::uint32_t schema, int scope);
    bool literal(Branch& branch, std::uint32_t schema, bool is_not);
    bool has_unevaluated_around(const Branch& branch, int scope) const;
    Expr other_keys(std::uint32_t schema);
    void check_forms(std::uint32_t schema) const;
    bool few_values(Branch& branch, std::uint32_t schema, const std::vector<Atom>& parts,
                    bool is_one_of);

    bool demand(Branch& branch, const Plain& plain);
    Option facts_of(const Plain& plain);

    Fact atom(Atom atom, int scope = 0) const {
        return {.kind = Kind::atom, .atom = atom, .scope = scope};
    }
    Atom sub(std::uint32_t schema, const std::string& key, const Json& json) const;
    Atom sub(std::uint32_t schema, const std::string& key, const std::string& more,
             const Json& json) const;
    std::uint32_t count(std::uint32_t schema, const std::string& key, const Json& json) const;

    Schemas& schemas_;
    Expressions& pool_;
    bool joins_ = true; // choices of plain schemas become one expression
};

} // namespace engine
