/// Regular expressions over bytes, each kept once, and their derivatives.
///
/// Knows bytes and languages. Does not know UTF-8, JSON, tokens or grammars.
///
/// The derivative of a language by a byte is what may follow that byte (Brzozowski 1964; Owens,
/// Reppy and Turon 2009). Expressions are kept in a normal form, so there are finitely many
/// derivatives, and each is a state of a lazily built automaton. Intersection and complement cost
/// no more than union. A repetition is one node with two counters, however large they are.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "byte_set.h"
#include "fingerprint.h"
#include "interner.h"

namespace engine {

using Expr = std::uint32_t;

/// A limit on work or memory was reached: `what` names it.
struct TooComplex : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Too many steps for one answer.
struct TooMuchWork : TooComplex {
    using TooComplex::TooComplex;
};

class Expressions {
  public:
    static constexpr Expr none = 0;       // no text at all
    static constexpr Expr empty = 1;      // the empty text
    static constexpr Expr everything = 2; // any bytes
    static constexpr std::uint32_t forever = std::numeric_limits<std::uint32_t>::max();

    Expressions() {
        const std::uint32_t any = sets_.intern(ByteSet::all());
        for (const Node& node :
             {Node{Op::none, false, true}, Node{Op::empty, true, true},
              Node{Op::repeat, true, true, 3, 0, forever}, Node{Op::bytes, false, true, any}})
            add(node);
    }
    Expressions(const Expressions&) = delete;
    Expressions& operator=(const Expressions&) = delete;

    // Building. All give the normal form.

    Expr bytes(const ByteSet& set) {
        if (set.empty()) return none;
        return add({Op::bytes, false, true, sets_.intern(set)});
    }
    Expr text(std::string_view literal) {
        Expr out = empty;
        for (std::size_t i = literal.size(); i-- > 0;)
            out = concat(bytes(ByteSet::one(std::uint8_t(literal[i]))), out);
        return out;
    }
    Expr concat(Expr a, Expr b) {
        if (a == none || b == none) return none;
        if (a == empty) return b;
        if (b == empty) return a;
        if (a == everything && b == everything) return a;
        if (const Expr joined = join_powers(a, b); joined != none) return joined;
        return add({Op::concat, nullable(a) && nullable(b), simple(a) && simple(b), a, b});
    }
    Expr concat(std::initializer_list<Expr> parts) {
        Expr out = empty;
        for (auto part = parts.end(); part != parts.begin();) out = concat(*--part, out);
        return out;
    }
    Expr repeat(Expr a, std::uint32_t min, std::uint32_t max);
    Expr star(Expr a) { return repeat(a, 0, forever); }
    Expr plus(Expr a) { return repeat(a, 1, forever); }
    Expr optional(Expr a) { return repeat(a, 0, 1); }
    Expr either(std::span<const Expr> parts);
    Expr either(std::initializer_list<Expr> parts) {
        return either(std::span(parts.begin(), parts.size()));
    }
    Expr both(std::span<const Expr> parts);
    Expr both(Expr a, Expr b) {
        const std::array parts{a, b};
        return both(parts);
    }
    Expr negate(Expr a) {
        if (a == none) return everything;
        if (a == everything) return none;
        if (nodes_[a].op == Op::negate) return nodes_[a].a;
        return add({Op::negate, !nullable(a), false, a});
    }
    Expr minus(Expr a, Expr b) { return both(a, negate(b)); }
    /// One of `literals`; as cheap for ten thousand as for one. They are numbered in the order of
    /// their bytes; `words_left` tells which are still possible.
    Expr words(std::vector<std::string> literals);
    /// Decimal digits, at least one more of them before the end if `first`, whose value leaves
    /// no remainder; see `Multiple`.
    Expr multiple_of(std::uint32_t divisor, std::uint32_t fraction_digits);

    // Asking.

    bool nullable(Expr e) const { return nodes_[e].nullable; }
    /// What may follow `byte`; `none` as soon as nothing does.
    Expr next(Expr e, std::uint8_t byte) {
        std::uint32_t row = e < rows_of_.size() ? rows_of_[e] : Index::none;
        if (row == Index::none) row = new_row(e);
        const Expr known = (*rows_[row])[byte];
        return known != unknown ? known : fill(e, row, byte);
    }
    /// The table of `next` for one expression, with `unknown` where it was never asked for. Stays
    /// where it is until `forget`.
    const Expr* row(Expr e) {
        const std::uint32_t row = e < rows_of_.size() ? rows_of_[e] : Index::none;
        return rows_[row != Index::none ? row : new_row(e)]->data();
    }
    static constexpr Expr unknown = std::numeric_limits<Expr>::max();
    /// Whether no text matches.
    bool is_dead(Expr e);
    /// The bytes with which a text can begin.
    ByteSet first_bytes(Expr e) {
        ByteSet out;
        for (unsigned byte = 0; byte < 256; ++byte)
            if (next(e, std::uint8_t(byte)) != none) out.add(std::uint8_t(byte));
        return out;
    }
    /// Of an expression made by `words`: the words that are still possible, as numbers in the order
    /// of their bytes, and whether the first of them is complete. Empty for any other.
    struct Words {
        std::uint32_t low = 0, high = 0;
        bool is_complete = false;
    };
    Words words_left(Expr e) const {
        const Node& node = nodes_[e];
        return node.op == Op::words ? Words{node.b, node.c, node.nullable} : Words{};
    }
    /// An expression as unit{min,max} tail, with some words left out: how free text looks.
    struct Run {
        Expr unit = none, tail = none;
        std::uint32_t min = 0, max = 0;
        Expr without = none; // one of finitely many texts
    };
    Run run(Expr e) const;
    /// Whether it surely matches finitely many texts.
    bool is_finite(Expr e) const;
    /// An expression whose large counters are gone, and how many bytes it takes at least until that
    /// makes a difference: as many bytes as that go on here exactly where they go on there.
    struct Loose {
        Expr expr;
        std::uint32_t bytes;
    };
    Loose loose(Expr e);
    /// Of simple expressions: one that alone decides how their intersection goes on for so many
    /// bytes, since the others only bound how long it may be. `part` is `none` if none does.
    struct Spare {
        Expr part = none;
        std::uint32_t bytes = 0;
    };
    Spare spare(std::span<const Expr> parts);
    bool are_simple(std::span<const Expr> parts) const {
        return std::ranges::all_of(parts, [&](Expr e) { return simple(e); });
    }
    /// Expressions of which `e` is the intersection; only itself where there are no others.
    std::vector<Expr> conjuncts(Expr e);
    /// The alternatives of a union; any other expression is its own only one.
    std::span<const Expr> alternatives(const Expr& e) const {
        return nodes_[e].op == Op::either ? list(nodes_[e]) : std::span(&e, 1);
    }
    /// A repetition without end with which a text of `e` may begin before one of the alternatives
    /// goes on: whatever it takes `e` takes. `none` where there is none.
    Expr loop(Expr e) const {
        if (!simple(e)) return none;
        const Node& node = nodes_[e];
        const bool is_either_first = node.op == Op::concat && nodes_[node.a].op == Op::either;
        const Expr first = is_either_first ? node.a : e;
        for (const Expr part : alternatives(first)) {
            const Expr head = nodes_[part].op == Op::concat ? nodes_[part].a : part;
            const Node& run = nodes_[head];
            if (run.op == Op::repeat && run.b == 0 && run.c == forever) return head;
        }
        return none;
    }
    /// What is left of words still possible, from the depth that was read on.
    std::string_view word_rest(Expr e, std::uint32_t word) const {
        return std::string_view(word_lists_[nodes_[e].a][word]).substr(nodes_[e].d);
    }
    /// What is left behind a word that is still possible.
    Expr behind_word(Expr e, std::uint32_t word) {
        const Node node = nodes_[e];
        const auto& words = word_lists_[node.a];
        std::uint32_t high = word + 1;
        while (high < node.c && words[high].starts_with(words[word])) ++high;
        return add_words(node.a, word, high, std::uint32_t(words[word].size()));
    }
    bool matches(Expr e, std::string_view data) {
        for (const char byte : data) {
            e = next(e, std::uint8_t(byte));
            if (e == none) return false;
        }
        return nullable(e);
    }

    /// The same for an expression that was built alike by any other `Expressions`.
    Fingerprint fingerprint(Expr e) const { return fingerprints_[e]; }
    std::size_t size() const { return nodes_.size(); }
    std::size_t memory_bytes() const {
        return nodes_.capacity() * sizeof(Node) + fingerprints_.capacity() * sizeof(Fingerprint) +
               lists_.capacity() * sizeof(Expr) + index_.memory_bytes() +
               rows_.size() * sizeof(Row) + rows_of_.capacity() * sizeof(std::uint32_t) +
               sets_.memory_bytes();
    }
    /// Drops the table of derivatives, which is most of the memory and fills itself again.
    void forget() {
        rows_of_.clear();
        rows_.clear();
    }
    /// How many states a search for a match may visit.
    std::size_t search_limit = 50'000;
    /// How many parts of expressions one step, or one search for a match, may look at.
    std::size_t work_limit = 5'000'000;
    /// How deep expressions may be nested; derivatives of them take twice as much and more.
    static constexpr std::uint16_t max_depth = 4000;

  private:
    enum class Op : std::uint8_t {
        none,
        empty,
        bytes,    // a: set
        concat,   // a, b
        repeat,   // a, at least b times, at most c
        either,   // lists_[a .. a + b)
        both,     // lists_[a .. a + b)
        negate,   // a
        words,    // word_lists_[a][b .. c), their first d bytes behind us
        multiple, // multiples_[a], remainder b, phase c
    };
    struct Node {
        Op op;
        bool nullable : 1;
        bool simple : 1; // no intersection, complement or arithmetic inside: some text matches
        bool positive : 1 = true; // no complement lets in bytes of which none is written here
        bool counted : 1 = false; // a large counter is inside, and not in a complement
        std::uint16_t depth = 1;  // how deep `derive` calls itself
        std::uint32_t a, b, c, d;
        Node(Op of, bool is_nullable, bool is_simple, std::uint32_t a_ = 0, std::uint32_t b_ = 0,
             std::uint32_t c_ = 0, std::uint32_t d_ = 0)
            : op(of), nullable(is_nullable), simple(is_simple), a(a_), b(b_), c(c_), d(d_) {}
        bool operator==(const Node&) const = default;
    };
    /// Numbers that are a multiple of divisor / 10^fraction_digits.
    struct Multiple {
        std::uint32_t divisor, fraction_digits;
        bool operator==(const Multiple&) const = default;
    };
    using Row = std::array<Expr, 256>;

    static std::uint64_t hash(const Node& n) {
        std::uint64_t out = mix(std::uint64_t(n.op), std::uint64_t(n.a) << 32 | n.b);
        return mix(out, std::uint64_t(n.c) << 32 | n.d);
    }
    Expr add(Node node) {
        node.depth = depth_of(node);
        node.positive = is_positive(node);
        node.counted = is_counted(node);
        const std::uint64_t h = hash(node);
        const Expr known = index_.find(h, [&](Expr e) { return nodes_[e] == node; });
        if (known != Index::none) return known;
        return append(node, h);
    }
    Expr append(const Node& node, std::uint64_t hash) {
        fingerprints_.push_back(fingerprint_of(node));
        nodes_.push_back(node);
        index_.insert(hash, Expr(nodes_.size() - 1));
        return Expr(nodes_.size() - 1);
    }
    Fingerprint fingerprint_of(const Node& node) const;
    Expr add_list(Op op, std::span<const Expr> parts, bool is_nullable, bool is_simple);
    bool is_positive(const Node& node) const;
    bool is_counted(const Node& node) const;
    std::uint16_t depth_of(const Node& node) const;
    bool simple(Expr e) const { return nodes_[e].simple; }
    std::span<const Expr> list(const Node& node) const {
        return std::span(lists_).subspan(node.a, node.b);
    }

    /// A part of a union as r{min,max} t: what neighbours must share to become one.
    struct Power {
        Expr tail, base;
        std::uint32_t min, max;
    };
    Power power(Expr e) const;
    Expr join_powers(Expr a, Expr b);
    void count_work() {
        if (++work_ > work_limit)
            throw TooComplex("one step through an expression looks at more than " +
                             std::to_string(work_limit) + " parts of it");
    }
    void merge_powers(std::vector<Expr>& parts);
    void merge_bytes(std::vector<Expr>& parts);

    Expr derive(Expr e, std::uint8_t byte, ByteSet& same);
    Expr derive_inside(Expr e, std::uint8_t byte, ByteSet& same);
    Expr derive_part(Expr e, std::uint8_t byte, ByteSet& same);
    Expr look_up(Expr e, std::uint8_t byte, ByteSet& same);
    Expr derive_words(const Node& node, std::uint8_t byte, ByteSet& same);
    Expr derive_multiple(const Node& node, std::uint8_t byte, ByteSet& same);
    Expr add_words(std::uint32_t list, std::uint32_t low, std::uint32_t high, std::uint32_t depth);
    Expr add_multiple(std::uint32_t which, std::uint64_t remainder, std::uint32_t phase);
    Expr loosen(Expr e, std::uint32_t& bytes, unsigned depth);
    Expr loosen_both(const Node& node, std::uint32_t& bytes, unsigned depth);
    Loose endless(Expr e);
    std::optional<std::uint32_t> characters(Expr e, Expr unit, Expr tail, unsigned depth);
    bool is_one_of(Expr e, Expr unit);
    bool is_within(Expr inner, Expr outer);
    struct Ends {
        std::uint32_t least, most;
    };
    Ends ends(Expr e, unsigned depth);
    std::uint32_t slack(Expr e);
    std::uint32_t shortest(Expr e, unsigned depth) const;
    std::optional<bool> is_dead_by_parts(Expr e);
    std::uint8_t verdict(Expr e);
    void keep_found(std::string text);
    bool finds_again(Expr e);
    std::uint32_t new_row(Expr e);
    Expr fill(Expr e, std::uint32_t row, std::uint8_t byte);

    std::vector<Node> nodes_;
    std::vector<Fingerprint> fingerprints_; // per expression
    std::vector<Expr> lists_;
    Index index_;
    Interner<ByteSet> sets_;
    std::vector<std::vector<std::string>> word_lists_;
    std::vector<Fingerprint> word_fingerprints_; // per list
    std::vector<Multiple> multiples_;
    std::vector<std::uint32_t> rows_of_; // per expression: its row, Index::none if it has none yet
    std::vector<std::unique_ptr<Row>> rows_;
    std::unordered_map<Expr, Loose> loose_;
    std::unordered_map<Expr, std::uint32_t> slack_;
    std::unordered_map<Expr, Ends> ends_;
    std::unordered_map<std::uint64_t, bool> within_; // by both expressions
    std::map<std::tuple<Expr, Expr, Expr>, std::optional<std::uint32_t>> characters_;
    std::size_t work_ = 0;
    std::vector<std::uint8_t> alive_; // per expression: 0 not asked, 1 alive, 2 dead
    std::vector<std::string> found_;  // the latest texts that searches for a match found
};

} // namespace engine
