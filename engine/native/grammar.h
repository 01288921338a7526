/// A grammar as numbers: what the matcher runs.
///
/// Knows rules, expressions for their words, and the shapes of JSON values. Does not know where
/// they came from (Lark, GBNF, JSON Schema) or how they are matched.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "expressions.h"

namespace engine {

using Node = std::uint32_t;  // an index of Grammar::nodes
using Value = std::uint32_t; // a JSON value of a certain kind, see Values

struct GrammarNode {
    enum class Kind : std::uint8_t {
        word,     ///< text of an expression: a
        token,    ///< a token by its id: a
        sequence, ///< lists[a .. a + b), one after the other
        choice,   ///< lists[a .. a + b), one of them
        repeat,   ///< node a, at least b times, at most c
        rule,     ///< node rules[a]
        value,    ///< a JSON value: a
        capture,  ///< node b, reported under captures[a]
    };
    Kind kind;
    std::uint32_t a = 0, b = 0, c = 0;
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
    /// Whether no JSON value is of this kind.
    virtual bool is_dead(Value value) = 0;
};

struct Grammar {
    std::vector<GrammarNode> nodes;
    std::vector<Node> lists;
    std::vector<Node> rules;
    std::vector<std::string> captures;
    Node start = 0;
};

} // namespace engine
