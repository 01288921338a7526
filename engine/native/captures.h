/// Which part of a text each capture took.
///
/// Knows grammars, expressions and the order in which alternatives count. Does not know tokens'
/// bytes, masks or matchers.
///
/// The machine only asks whether a text may go on, and joins what it needn't tell apart. This one
/// keeps every way of reading the text by itself, with the captures it has been through, best
/// first: words and repetitions as long as can be, alternatives in the grammar's order (Pike 1987).
/// JSON values have no captures inside, so each is a machine of its own here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "grammar.h"
#include "interner.h"
#include "machine.h"

namespace engine {

class Captures {
  public:
    Captures(Expressions& expressions, const Grammar& grammar, Values* values);

    /// Ways of reading a text so far, best first.
    struct Reading {
        Node leaf;             // a word, a token or a value; `accepted` behind the whole text
        std::uint32_t state;   // the word's expression, the value's place
        std::uint32_t stack;   // what goes on behind it
        std::uint32_t history; // the captures begun and ended
    };
    static constexpr Node accepted = 0xffffffffU;
    using Readings = std::vector<Reading>;

    Readings start();
    /// Both throw TooComplex where there are too many ways of reading the text. `at` counts the
    /// text's bytes before this one.
    Readings step(const Readings& before, std::uint8_t byte, std::uint32_t at);
    Readings step_token(const Readings& before, std::uint32_t token, std::uint32_t at);
    /// Of a text that can be taken in two ways.
    Readings either(Readings better, const Readings& others);

    struct Span {
        std::uint32_t capture, begin, end;
        bool operator==(const Span&) const = default;
    };
    /// The captures that are complete in the best way of reading a whole text, in the order of
    /// their ends.
    std::vector<Span> of_whole(const Readings& readings) const;
    /// Those that are complete however the text goes on.
    std::vector<Span> of_part(const Readings& readings) const;

    /// Where a capture begins or ends.
    struct Mark {
        std::uint32_t capture, at;
        bool is_end;
        bool operator==(const Mark&) const = default;
    };
    /// The marks that all ways of reading a text of `length` bytes have in common, in order, and
    /// the place before which there are no others: the first of any way that is not common. The
    /// first `skip` of them, known to be common, are left out, and not looked at.
    struct Progress {
        std::vector<Mark> marks;
        std::uint32_t certain_to;
    };
    Progress progress(std::span<const Reading> readings, std::uint32_t length,
                      std::size_t skip) const;
    /// The way in which the text is whole; none if it isn't.
    static std::span<const Reading> whole(const Readings& readings);

    std::size_t memory_bytes() const;
    std::size_t limit = 5000; // ways of reading

  private:
    struct Frame {
        Node node;           // a sequence, a repeat, a capture, or parts in any order
        std::uint32_t count; // the part of the sequence, how often, or what is complete
        std::uint32_t below;
        std::uint64_t seen = 0; // of parts in any order
        bool operator==(const Frame&) const = default;
        std::uint64_t hash() const {
            return mix(mix(std::uint64_t(node) << 32 | count, below), seen);
        }
    };
    struct Event {
        std::uint32_t before; // the event before it; 0 is none
        std::uint32_t count;  // of events up to this one
        Mark mark;
    };
    struct Json { // one value as a grammar
        Grammar grammar;
        std::unique_ptr<Machine> machine;
    };
    struct Open { // a node to begin with, or a leaf that is complete
        Node node;
        std::uint32_t stack, history;
        bool is_complete;
    };

    Machine& machine(Node leaf);
    void add(const Reading& reading);
    void run(std::vector<Open>& open, std::uint32_t at);
    void begin(const Open& one, std::vector<Open>& open, std::uint32_t at);
    void go_on(const Open& one, std::vector<Open>& open, std::uint32_t at);
    void go_on_unordered(const Open& one, const Frame& frame, std::vector<Open>& open);
    void begin_parts(const Open& one, const Frame& frame, std::vector<Open>& open);
    std::uint32_t push(Node node, std::uint32_t count, std::uint32_t below);
    std::uint32_t note(std::uint32_t before, std::uint32_t capture, std::uint32_t at, bool is_end);
    std::vector<Span> spans(std::uint32_t history) const;

    Expressions& pool_;
    const Grammar& grammar_;
    Values* values_;
    Interner<Frame> frames_;
    std::vector<Event> events_;
    std::map<Value, Json> machines_;
    Readings out_; // of the step under way
    Index known_;  // what is in it
    Index begun_;  // nodes that were begun
    std::vector<std::pair<std::uint64_t, bool>> begun_keys_;
};

} // namespace engine
