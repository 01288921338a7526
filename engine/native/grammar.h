/// A grammar as numbers: what the matcher runs.
///
/// Knows rules, expressions for their words, and the shapes of JSON values. Does not know where
/// they came from (Lark, GBNF, JSON Schema) or how they are matched.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "expressions.h"

namespace engine {

using Node = std::uint32_t;  // an index of Grammar::nodes
using Value = std::uint32_t; // a JSON value of a certain kind, see Values

struct GrammarNode {
    enum class Kind : std::uint8_t {
        word,      ///< text of an expression: a
        token,     ///< a token by its id: a
        sequence,  ///< lists[a .. a + b), one after the other
        choice,    ///< lists[a .. a + b), one of them
        repeat,    ///< node a, at least b times, at most c
        rule,      ///< node rules[a]
        value,     ///< a JSON value: a
        capture,   ///< node b, reported under captures[a]
        unordered, ///< the parts of unordered[a], in any order
    };
    Kind kind;
    std::uint32_t a = 0, b = 0, c = 0;
};

/// Parts that come in any order: each at most once, unless it is `endless`; those that are
/// `required` must all have come before the end. A bit for each part.
struct Unordered {
    static constexpr std::size_t most = 62;
    std::vector<Node> parts;
    std::uint64_t required = 0, endless = 0;
    Node separator = 0;    // between two neighbours
    bool is_alone = false; // no text separates, so that one part is all

    bool can_end(std::uint64_t seen) const { return (required & ~seen) == 0; }
    /// What was seen, once part `i` came too.
    std::uint64_t with(std::uint64_t seen, std::size_t i) const {
        return seen | (1ULL << i & ~endless);
    }
    /// Calls `each(i)` for the parts that may come where `seen` came.
    template <class Each>
    void left(std::uint64_t seen, Each&& each) const {
        for (std::size_t i = 0; i < parts.size(); ++i)
            if ((seen >> i & 1) == 0) each(i);
    }
    /// Whether another part may come behind one.
    bool can_go_on(std::uint64_t seen) const {
        return !is_alone && seen != (1ULL << parts.size()) - 1;
    }
};

/// What stands between the parts of a JSON text; each an expression.
struct Spacing {
    Expr open = Expressions::empty;  // behind [ and {
    Expr close = Expressions::empty; // before ] and }
    Expr comma = Expressions::none;  // with the comma
    Expr colon = Expressions::none;  // with the colon
};

/// Keys that no property names, and what their values must be.
struct OtherKeys {
    Expr keys; // behind the opening quote, with the closing one
    Value value;
    std::uint32_t wish = 0; // bits of the wishes that such a key fulfils
};

struct ObjectShape {
    struct Property {
        std::string name;
        Value value;
        bool is_required;
        std::vector<std::uint32_t> needs; // properties that must come too
    };
    std::vector<Property> properties;   // in the schema's order
    Expr names = Expressions::none;     // Op::words over `spelled`, each with the closing quote
    std::vector<std::uint32_t> by_word; // the property of each word of `names`
    std::vector<OtherKeys> others;
    std::uint32_t wishes = 0; // each bit must be fulfilled by some other key
    std::uint32_t min = 0, max = Expressions::forever;
    bool is_ordered = false; // properties as in the schema, other keys behind them

    /// Adds to `wanted` what the properties `open`, which are in it, need.
    void close_needs(std::vector<bool>& wanted, std::vector<std::uint32_t> open) const {
        while (!open.empty()) {
            const auto i = open.back();
            open.pop_back();
            for (const auto needed : properties[i].needs)
                if (!wanted[needed]) wanted[needed] = true, open.push_back(needed);
        }
    }

    /// Takes out of `can` the properties that need one that can't come and wasn't there.
    void drop_lacking(std::vector<bool>& can, const std::vector<bool>& had) const {
        const auto lacks = [&](std::uint32_t needed) { return !had[needed] && !can[needed]; };
        for (bool again = true; again;) {
            again = false;
            for (std::size_t i = 0; i < properties.size(); ++i) {
                if (!can[i] || std::ranges::none_of(properties[i].needs, lacks)) continue;
                can[i] = false;
                again = true;
            }
        }
    }

    static constexpr std::uint32_t max_wishes = 8;
    /// How many other keys it takes at least to fulfil `wanted`, where only some of `others` can
    /// come; `forever` if those can't.
    template <class CanCome>
    std::uint32_t fewest_keys(std::uint32_t wanted, CanCome&& can_come) const {
        if (wanted == 0) return 0;
        std::vector<std::uint32_t> sets;
        for (const auto& other : others)
            if ((other.wish & wanted) != 0 && can_come(other)) sets.push_back(other.wish & wanted);
        std::vector<bool> reached(std::size_t(wanted) + 1);
        std::vector<std::uint32_t> open{0};
        for (std::uint32_t count = 1; !open.empty(); ++count) {
            std::vector<std::uint32_t> next;
            for (const auto from : open)
                for (const auto set : sets) {
                    const std::uint32_t to = from | set;
                    if (to == wanted) return count;
                    if (!reached[to]) reached[to] = true, next.push_back(to);
                }
            open = std::move(next);
        }
        return Expressions::forever;
    }
};

struct ArrayShape {
    struct Contains {
        Value counted, other; // an item that counts, one that doesn't
        std::uint32_t min, max;
    };
    std::vector<Value> first; // the items at the front, each with its own kind
    Value rest = 0;           // all others
    std::uint32_t min = 0, max = Expressions::forever;
    std::vector<Contains> contains;
    bool is_unique = false; // no two equal; then all of them are scalars

    /// How many more items must and may count for one of `contains`.
    struct Left {
        std::uint32_t must, may;
        auto operator<=>(const Left&) const = default;
    };
    static constexpr std::uint32_t exact_up_to = 32; // beyond, more of them are taken to fit
    static constexpr std::uint32_t any_number = exact_up_to + 1;
    static Left left_of(const Contains& each, std::uint32_t counted) {
        return {std::min(each.min > counted ? each.min - counted : 0, exact_up_to),
                std::min(each.max - counted, any_number)};
    }
    /// Whether the items from `at` on can be such that the array can end, where `can_be` tells
    /// whether there may be an item at a place that counts for just these `contains`.
    template <class CanBe>
    bool can_end(std::uint32_t at, const std::vector<Left>& from, CanBe&& can_be) const {
        constexpr std::size_t most = 50'000;
        const std::uint32_t ways = 1U << contains.size();
        const auto is_free = [&](std::uint32_t way) {
            for (std::size_t i = 0; i < from.size(); ++i)
                if ((way >> i & 1) != 0 && from[i].may != any_number) return false;
            return true;
        };
        std::set<std::vector<Left>> open{from}, seen;
        for (std::size_t work = 0;; ++at) {
            const bool is_rest = at >= first.size();
            // Items that use nothing up fill an array to any length.
            bool is_padded = false;
            for (std::uint32_t way = 0; is_rest && way < ways && !is_padded; ++way)
                is_padded = is_free(way) && can_be(at, way);
            for (const auto& left : open)
                if ((at >= min || (is_padded && min <= max)) &&
                    std::ranges::all_of(left, [](const Left& one) { return one.must == 0; }))
                    return true;
            if (at >= max) return false;
            std::set<std::vector<Left>> next;
            for (std::uint32_t way = 0; way < ways; ++way) {
                if (!can_be(at, way)) continue;
                for (auto left : open) {
                    bool fits = true;
                    for (std::size_t i = 0; i < left.size(); ++i) {
                        if ((way >> i & 1) == 0) continue;
                        fits = fits && left[i].may > 0;
                        if (left[i].must > 0) --left[i].must;
                        if (left[i].may != any_number) --left[i].may;
                    }
                    if (!fits || (is_padded && !seen.insert(left).second)) continue;
                    if (++work > most) throw TooComplex("too many ways for what an array contains");
                    next.insert(std::move(left));
                }
            }
            if (next.empty()) return false;
            open = std::move(next);
        }
    }
};

/// A JSON value in full: scalars as one expression, arrays and objects by their shapes.
struct ValueForms {
    Expr scalar = Expressions::none;
    std::vector<std::uint32_t> arrays, objects;
};

/// Where shapes come from: worked out when a match first needs them.
class Values {
  public:
    virtual ~Values() = default;
    virtual const ValueForms& forms(Value value) = 0;
    virtual const ObjectShape& object(std::uint32_t shape) const = 0;
    virtual const ArrayShape& array(std::uint32_t shape) const = 0;
    virtual const Spacing& spacing() const = 0;
    /// What is of both kinds.
    virtual Value meet(Value a, Value b) = 0;
    /// A number for the scalar that `text` spells; the same for equal ones.
    virtual std::uint32_t literal(std::string_view text) = 0;
    /// What is of a kind and none of these.
    virtual Value without(Value kind, const std::vector<std::uint32_t>& literals) = 0;
    /// Whether no JSON value is of this kind, or of this shape.
    virtual bool is_dead(Value value) = 0;
    virtual bool is_object_dead(std::uint32_t shape) = 0;
    virtual bool is_array_dead(std::uint32_t shape) = 0;
    /// What an item is that counts for just these `contains`, as bits. Where nothing limits how
    /// many count, one that counts may go as one that doesn't.
    Value item(const ArrayShape& shape, Value kind, std::uint32_t way) {
        for (std::size_t i = 0; i < shape.contains.size(); ++i) {
            const auto& each = shape.contains[i];
            if ((way >> i & 1) != 0)
                kind = meet(kind, each.counted);
            else if (each.max != Expressions::forever)
                kind = meet(kind, each.other);
        }
        return kind;
    }
};

struct Grammar {
    std::vector<GrammarNode> nodes;
    std::vector<Node> lists;
    std::vector<Node> rules;
    std::vector<std::string> captures;
    std::vector<Unordered> unordered;
    Node start = 0;
};

} // namespace engine
