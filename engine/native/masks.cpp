#include "masks.h"

#include <algorithm>
#include <string>

namespace engine {

Masks::Masks(const TokenTrie& trie, const Slices& slices, Machine& machine,
             std::vector<Expr> free_units)
    : trie_(trie), slices_(slices), machine_(machine), pool_(machine.expressions()),
      free_units_(std::move(free_units)), words_(mask_words(trie.n_vocab())) {}

ConstMask Masks::of(Place place) {
    auto& mask = known_[place];
    if (!mask) {
        auto fresh = std::make_unique<std::uint32_t[]>(words_);
        compute(place, {fresh.get(), words_});
        mask = std::move(fresh);
    }
    return {mask.get(), words_};
}

void Masks::compute(Place place, Mask mask) {
    std::ranges::fill(mask, 0U);
    const auto threads = machine_.threads(place);
    const std::vector<Machine::Thread> all(threads.begin(), threads.end());
    for (const auto& thread : all) {
        if ((thread.state & Machine::token_thread) != 0)
            set_bit(mask, thread.state & ~Machine::token_thread);
        else add_thread(thread, mask);
    }
}

bool Masks::is_free(const Expressions::Run& run) const {
    return run.unit != Expressions::none &&
           std::ranges::find(free_units_, run.unit) != free_units_.end();
}

void Masks::add_thread(Machine::Thread thread, Mask mask) {
    const auto parts = pool_.alternatives(thread.state);
    const bool some_free = std::ranges::any_of(parts, [&](Expr e) { return is_free(pool_.run(e)); });
    if (!some_free) return walk_root(trie_, thread, mask);
    const std::vector<Expr> all(parts.begin(), parts.end());
    for (const Expr part : all) {
        const Machine::Thread one{part, thread.cont};
        const auto run = pool_.run(part);
        if (is_free(run)) add_free_text(one, run, mask);
        else walk_root(trie_, one, mask);
    }
}

/// Inside a string of any characters, perhaps of a bounded length, perhaps not one of some words.
void Masks::add_free_text(const Machine::Thread& thread, const Expressions::Run& run, Mask mask) {
    std::vector<std::uint32_t> own;
    Mask target = mask;
    if (run.without != Expressions::none) { // other threads' bits must not be cleared
        own.assign(words_, 0U);
        target = own;
    }
    slices_.add_plain(run.max, target);
    const bool is_far = run.max >= slices_.longest();
    if (is_far && run.min <= 1) {
        Machine::Thread inner = thread;
        if (run.min == 1) inner.state = pool_.concat(pool_.repeat(run.unit, 0, run.max), run.tail);
        add_rests(slices_.rests(0), thread, target);
        add_rests(slices_.inner_rests(), inner, target);
    } else {
        for (std::uint32_t k = 0; k < slices_.n_rests() && k <= run.max; ++k) {
            Machine::Thread after = thread;
            const std::uint32_t max = run.max == Expressions::forever ? run.max : run.max - k;
            after.state = pool_.concat(pool_.repeat(run.unit, run.min > k ? run.min - k : 0, max), run.tail);
            add_rests(slices_.rests(k), after, target);
        }
    }
    if (run.without == Expressions::none) return;
    const auto [low, high, is_complete] = pool_.words_left(run.without);
    for (std::uint32_t word = low; word < high; ++word) {
        // Below the whole word and the end of the string: none of these, unless the end differs.
        const std::string closed = std::string(pool_.word_rest(run.without, word));
        const std::size_t node = trie_.find(closed);
        if (closed.empty() ? false : node == TokenTrie::none) continue;
        ByteSet ends = pool_.first_bytes(run.tail);
        ends.each([&](std::uint8_t byte) {
            const std::size_t end = trie_.child(closed.empty() ? TokenTrie::none : node, byte);
            if (end == TokenTrie::none) return;
            for (const auto id : trie_.ids_below(end))
                target[std::size_t(id) / mask_bits] &= ~(1U << (std::size_t(id) % mask_bits));
        });
    }
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= own[word];
}

void Masks::add_rests(const TokenTrie& rests, const Machine::Thread& thread, Mask mask) {
    walk_root(rests, thread, mask);
}

void Masks::walk_root(const TokenTrie& trie, const Machine::Thread& thread, Mask mask) {
    pool_.first_bytes(thread.state).each([&](std::uint8_t byte) {
        const std::size_t node = trie.child(TokenTrie::none, byte);
        if (node != TokenTrie::none) walk(trie, node, trie.end(node), thread, mask);
    });
}

/// The nodes from `first` to `last`, which are siblings with all that is below them.
void Masks::walk(const TokenTrie& trie, std::size_t first, std::size_t last,
                 Machine::Thread thread, Mask mask) {
    struct Open {
        std::size_t end;
        Machine::Thread thread;
    };
    std::vector<Open> path;
    const bool has_keys = machine_.has_keys(thread);
    for (std::size_t node = first; node < last;) {
        while (!path.empty() && path.back().end <= node) path.pop_back();
        Machine::Thread at = path.empty() ? thread : path.back().thread;
        const Expr state = pool_.next(at.state, trie.byte(node));
        bool is_alive = state != Expressions::none;
        if (is_alive && has_keys) is_alive = machine_.move(at, state);
        at.state = state;
        if (!is_alive) {
            node = trie.end(node);
            continue;
        }
        for (const auto id : trie.ids(node)) set_bit(mask, std::size_t(id));
        if (trie.end(node) > node + 1) {
            if (pool_.nullable(state)) walk_behind(trie, node + 1, trie.end(node), at, mask);
            path.push_back({trie.end(node), at});
        }
        ++node;
    }
}

void Masks::walk_behind(const TokenTrie& trie, std::size_t first, std::size_t last,
                        const Machine::Thread& thread, Mask mask) {
    const Place place = machine_.behind(thread);
    const auto threads = machine_.threads(place);
    const std::vector<Machine::Thread> all(threads.begin(), threads.end());
    for (const auto& next : all)
        if ((next.state & Machine::token_thread) == 0) walk(trie, first, last, next, mask);
}

} // namespace engine
