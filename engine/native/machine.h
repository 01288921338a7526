/// A grammar at work: where a match can stand, byte by byte.
///
/// Knows grammars, expressions and stacks. Does not know tokens' bytes, masks or logits.
///
/// A place in a grammar is a set of threads. A thread is what is left of the word being read, as an
/// expression, and the frames to go on with behind it. Frames, sets of frames and sets of threads
/// are each kept once, so equal places have equal numbers, and a step that was taken once is a
/// look-up ever after: the table of steps is a lazily built automaton. Frames with several parents
/// make the stacks a graph, as in generalised LR parsing, so ambiguity doesn't multiply them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar.h"
#include "interner.h"

namespace engine {

using Place = std::uint32_t; // a set of threads; 0 is the dead one

class Machine {
  public:
    Machine(Expressions& expressions, const Grammar& grammar, Values* values);

    static constexpr Place dead = 0;

    Place start() const { return start_; }
    Place step(Place place, std::uint8_t byte) {
        const std::uint64_t key = std::uint64_t(place) << 8 | byte;
        const std::uint64_t hash = mix(key);
        const std::uint32_t known =
            steps_index_.find(hash, [&](std::uint32_t i) { return steps_[i].key == key; });
        return known != Index::none ? steps_[known].to : take(place, byte, key, hash);
    }
    Place step_token(Place place, std::uint32_t token);
    /// Where one is that may be at either place.
    Place either(Place a, Place b);
    bool is_accepting(Place place) const { return places_[place].is_accepting; }
    /// The ids of tokens that a grammar names and that may come next.
    std::vector<std::uint32_t> tokens(Place place) const;
    /// The bytes that may come next.
    const ByteSet& bytes(Place place);

    struct Thread {
        std::uint32_t state; // an expression, or token_thread | id
        std::uint32_t cont;  // the frames behind it
        bool operator==(const Thread&) const = default;
    };
    std::span<const Thread> threads(Place place) const {
        return std::span(threads_).subspan(places_[place].first, places_[place].count);
    }
    /// Where it goes on behind a thread whose word is complete.
    Place behind(const Thread& thread);
    /// Whether the frames behind a thread follow its word byte by byte: which keys may come, or
    /// which text an item is. Else `step` only moves its state.
    bool follows(const Thread& thread) const { return lists_[thread.cont].follows; }
    /// Moves a thread on by one byte of its word; false where nothing that it may still become is
    /// allowed.
    bool step(Thread& thread, std::uint8_t byte) {
        thread.state = pool_.next(thread.state, byte);
        if (thread.state == Expressions::none) return false;
        if (follows(thread)) thread.cont = follow(thread.cont, thread.state, byte);
        return lists_[thread.cont].count != 0;
    }
    /// Of a thread that reads the key of an object: the words that may still come, as bits. Nothing
    /// for any other.
    bool keys(const Thread& thread, std::vector<std::uint64_t>& words);
    /// How the text of a thread's word matters behind it: not at all, only for a whole item behind
    /// it, or for whatever comes next.
    enum class Memory : std::uint8_t { none, items, all };
    Memory memory(const Thread& thread) const { return lists_[thread.cont].memory; }
    /// Of a thread in a string that must differ from the items before it: the same one as if no
    /// text of it was remembered. Behind its string, the next item may be equal to it then; all
    /// else is as it was, if there is another string that it may become. The thread itself where
    /// this doesn't hold, as in keys.
    Thread forgetting(const Thread& thread);
    static constexpr std::uint32_t token_thread = 0x80000000U;

    Expressions& expressions() { return pool_; }
    std::size_t n_places() const { return places_.size(); }
    std::size_t memory_bytes() const;
    /// How much one step may spawn.
    std::size_t step_limit = 200'000;

  private:
    enum class Kind : std::uint8_t {
        root,
        sequence,
        repeat,
        capture,
        unordered, // in the part (phase value) or the separator (phase next); b and c: seen
        object,
        array,
        text
    };
    enum Phase : std::uint32_t { opened, quote, named, colon, value, next };

    struct Frame {
        Kind kind;
        Phase phase = opened;
        std::uint32_t a = 0, b = 0, c = 0;
        std::uint32_t cont = 0;
        bool operator==(const Frame&) const = default;
        bool is_same_but_parents(const Frame& o) const {
            return kind == o.kind && phase == o.phase && a == o.a && b == o.b && c == o.c;
        }
        std::uint64_t hash() const {
            return mix(mix(std::uint64_t(kind) << 32 | phase, std::uint64_t(a) << 32 | b),
                       std::uint64_t(c) << 32 | cont);
        }
    };
    struct List { // frames of a set, in frame_lists_
        std::uint32_t first, count;
        bool follows;
        Memory memory;
    };
    struct PlaceData {
        std::uint32_t first, count; // in threads_
        bool is_accepting;
        std::int32_t bytes = -1; // in byte_sets_
    };
    struct Step {
        std::uint64_t key;
        Place to;
    };
    /// What an object has had: which properties by the order of their words, how many in all.
    struct Seen {
        std::vector<std::uint64_t> words;
        std::uint32_t count = 0, last = 0; // last: one past the latest property, where order counts
        std::uint32_t wishes = 0;          // those that are fulfilled
        bool operator==(const Seen&) const = default;
        std::uint64_t hash() const {
            std::uint64_t out = mix(std::uint64_t(count) << 32 | last, wishes);
            for (const auto word : words) out = mix(out, word);
            return out;
        }
    };
    /// What may come next in an object that has had `Seen`.
    struct Choice {
        std::vector<std::uint64_t> words;
        std::vector<std::uint32_t> others; // of the shape's
        bool has_words = false, end = false;
    };
    struct Counts {
        std::vector<std::uint32_t> items; // how many, then how many each `contains` has counted
        std::vector<std::uint32_t> seen;  // literals, in order, where all must differ
        bool operator==(const Counts&) const = default;
        std::uint64_t hash() const {
            std::uint64_t out = 0;
            for (const auto n : items) out = mix(out, n);
            for (const auto literal : seen) out = mix(out, ~std::uint64_t(literal));
            return out;
        }
    };
    struct Text {
        std::string read;
        bool operator==(const Text&) const = default;
        std::uint64_t hash() const { return std::hash<std::string>()(read); }
    };
    static constexpr std::uint32_t other_key = 0x80000000U;
    static constexpr std::uint32_t forgotten = 0xffffffffU; // a text that is not followed
    static constexpr std::uint32_t no_frames = 0;           // the empty set of frames, made first

    Place take(Place place, std::uint8_t byte, std::uint64_t key, std::uint64_t hash);
    struct Work {
        enum class Kind : std::uint8_t { state, node } kind;
        std::uint32_t what, cont;
        bool operator==(const Work&) const = default;
        std::uint64_t hash() const {
            return mix(std::uint64_t(kind), std::uint64_t(what) << 32 | cont);
        }
    };
    void add_work(const Work& work);
    void clear_work();
    void spawn(std::uint32_t state, std::uint32_t cont);
    void expand(Node node, std::uint32_t cont);
    void run();
    void resume(std::uint32_t state, const Frame& frame);
    void resume_unordered(Frame frame);
    void expand_parts(Frame frame);
    void resume_object(std::uint32_t state, Frame frame);
    void resume_array(Frame frame);
    void expand_value(Value value, std::uint32_t cont);
    void object_options(Frame frame, bool is_first);
    void array_options(Frame frame, bool is_first);
    void array_item(const Frame& frame);
    const Choice& choice(std::uint32_t shape, std::uint32_t seen);
    Choice work_out(const ObjectShape& shape, const Seen& seen);
    Place finish();

    std::uint32_t push(const Frame& frame);
    std::uint32_t push(Frame frame, Phase phase, std::uint32_t c) {
        frame.phase = phase;
        frame.c = c;
        return push(frame);
    }
    std::uint32_t list_of(std::vector<std::uint32_t>& frames);
    std::uint32_t join(std::uint32_t a, std::uint32_t b);
    std::uint32_t follow(std::uint32_t cont, std::uint32_t state, std::uint8_t byte);
    bool is_forgettable(const Frame& frame, bool is_string) const;
    void resume_text(const Frame& frame);
    Value item_kind(const ArrayShape& shape, const Counts& counts);
    bool can_end(std::uint32_t shape, std::uint32_t at, std::vector<ArrayShape::Left> left);
    std::vector<std::pair<Value, std::uint32_t>> item_ways(const Frame& frame);
    std::span<const std::uint32_t> frames(std::uint32_t cont) const {
        return std::span(frame_lists_).subspan(lists_[cont].first, lists_[cont].count);
    }

    Expressions& pool_;
    const Grammar& grammar_;
    Values* values_;
    Expr open_object_, close_object_, open_array_, close_array_, quote_, next_key_;
    Expr empty_object_, empty_array_; // how they end right behind what opens them

    Interner<Frame> frames_;
    std::vector<std::uint32_t> frame_lists_;
    std::vector<List> lists_;
    Index lists_index_;
    std::vector<Thread> threads_;
    std::vector<PlaceData> places_;
    Index places_index_;
    std::vector<Step> steps_;
    Index steps_index_;
    std::vector<Step> behind_; // by state and cont
    Index behind_index_;
    std::vector<ByteSet> byte_sets_;
    Interner<Seen> seen_;
    Interner<Counts> counts_;
    Interner<Text> texts_; // of items that must differ, as far as they were read
    std::map<std::vector<std::uint32_t>, bool> can_end_; // by its arguments
    std::vector<std::pair<std::uint64_t, Choice>> choices_;
    Index choices_index_;

    std::unordered_map<std::uint64_t, std::uint32_t> joins_;      // of two sets of frames
    std::unordered_map<std::uint64_t, std::uint32_t> forgetting_; // by cont and whether in a string
    std::size_t join_depth_ = 0;
    Index work_index_;       // of work_, when it is long
    std::vector<Work> work_; // of the step being taken: all of it, `done_` of them done
    std::size_t done_ = 0;
    bool accepts_ = false;
    std::uint32_t root_ = 0;
    Place start_ = dead;
};

} // namespace engine
