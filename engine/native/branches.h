/// What a set of schemas allows, as alternatives that have no alternatives inside.
///
/// Knows keywords and their negations. Does not know shapes or bytes.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "schema.h"

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

/// JSON's types as bits; numbers are integers or fractions, by value.
namespace types {
inline constexpr std::uint32_t null = 1, yes = 2, no = 4, integer = 8, fraction = 16, string = 32,
                               array = 64, object = 128, number = integer | fraction,
                               boolean = yes | no, all = 255;
/// Of a type's name; 0 where there is no such type.
std::uint32_t named(std::string_view name);
std::uint32_t of(const Json& json);
} // namespace types

inline bool is_scalar(const Json& json) {
    return !json.is(Json::Type::array) && !json.is(Json::Type::object);
}

/// Items as one schema describes them. `rest` is that of all others, if it says anything.
struct ArrayMember {
    std::vector<Atom> first;
    std::optional<Atom> rest;
    int scope = 0;
};

/// Properties as one schema describes them.
struct ObjectMember {
    std::vector<std::pair<std::string, Atom>> properties;
    std::vector<std::pair<Expr, Atom>> patterns;
    std::optional<Atom> additional;
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
    std::vector<ArrayMember> items;
    std::vector<std::pair<std::uint32_t, Atom>> items_at;
    std::vector<Contains> contains;
    std::vector<Unevaluated> other_items;

    std::uint32_t min_properties = 0, max_properties = Expressions::forever;
    std::vector<ObjectMember> members;
    std::vector<std::pair<std::string, Atom>> properties; // beside what members say
    std::vector<std::string> required;
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
    struct Branch {
        Clause clause;
        std::vector<Fact> todo;
        std::vector<std::vector<Option>> choices;
        std::set<Atom> done;
    };

    bool settle(Branch& branch);
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
    void members(Branch& branch, std::uint32_t schema, int scope);
    bool literal(Branch& branch, std::uint32_t schema, bool is_not);
    bool has_unevaluated_around(const Branch& branch, int scope) const;
    Expr other_keys(std::uint32_t schema);

    Fact atom(Atom atom, int scope = 0) const {
        return {.kind = Kind::atom, .atom = atom, .scope = scope};
    }
    Atom sub(std::uint32_t schema, const std::string& key, const Json& json) const;
    Atom sub(std::uint32_t schema, const std::string& key, const std::string& more,
             const Json& json) const;
    std::uint32_t count(std::uint32_t schema, const std::string& key, const Json& json) const;

    Schemas& schemas_;
    Expressions& pool_;
};

} // namespace engine
