/// Which tokens may come next at a place of a grammar.
///
/// Knows tokens' bytes and places. Does not know sampling.
///
/// The mask of a place is the union of its threads' masks. A thread is followed into the trie with
/// its expression's automaton alone; only where its word is complete does the rest of a token ask
/// the machine what comes behind. Inside free text the plain tokens come from `Slices`.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "machine.h"
#include "mask.h"
#include "slices.h"
#include "token_trie.h"

namespace engine {

class Masks {
  public:
    /// `free_units` are the expressions for any character, as strings repeat them.
    Masks(const TokenTrie& trie, const Slices& slices, Machine& machine,
          std::vector<Expr> free_units, Expr plain_text);

    /// The mask of `place`, kept; end tokens are not in it. Valid until `forget`.
    ConstMask of(Place place);
    /// The same into `mask`, without keeping it.
    void compute(Place place, Mask mask);
    /// Whether `of` has nothing to work out.
    bool knows(Place place) {
        const auto threads = machine_.threads(place);
        if (threads.size() == 1 && (threads[0].state & Machine::token_thread) == 0) {
            const auto [loose, bytes] = pool_.loose(threads[0].state);
            if (loose != threads[0].state && slices_.longer_than(bytes).empty())
                return wide_.contains(std::uint64_t(loose) << 32 | threads[0].cont);
        }
        return known_.contains(place);
    }
    void forget() {
        known_.clear();
        wide_.clear();
        words_known_.clear();
    }
    std::size_t memory_bytes() const {
        return (known_.size() + wide_.size() + words_known_.size()) * words_ * 4;
    }

  private:
    void add_thread(Machine::Thread thread, Mask mask);
    void add_free_text(const Machine::Thread& thread, const Expressions::Run& run, Mask mask);
    bool begins_plainly(Expr e);
    void add_word(const Machine::Thread& thread, Mask mask);
    void add_loose(const Machine::Thread& thread, Mask mask);
    ConstMask wide(const Machine::Thread& thread);
    void recheck(const Machine::Thread& thread, std::uint32_t bytes, Mask mask);
    bool is_open(Expr state);
    bool takes(Machine::Thread thread, std::string_view token);
    void check_remembered(const Machine::Thread& thread, bool is_whatever, Mask mask);
    void add_rests(const TokenTrie& rests, const Machine::Thread& thread, Mask mask);
    bool is_free(const Expressions::Run& run) const;
    void walk(const TokenTrie& trie, std::size_t first, std::size_t last,
              const Machine::Thread& thread, Mask mask);
    void walk_keys(const TokenTrie& trie, std::size_t first, std::size_t last,
                   Machine::Thread thread, Mask mask);
    void walk_root(const TokenTrie& trie, const Machine::Thread& thread, Mask mask);
    void walk_behind(const TokenTrie& trie, std::size_t first, std::size_t last,
                     const Machine::Thread& thread, Mask mask);

    const TokenTrie& trie_;
    const Slices& slices_;
    Machine& machine_;
    Expressions& pool_;
    std::vector<Expr> free_units_;
    Expr plain_text_; // any number of characters that need no escape
    std::unordered_map<Expr, bool> open_;
    // By state and cont: masks of threads without large counters, and of words among them.
    std::unordered_map<std::uint64_t, std::unique_ptr<std::uint32_t[]>> wide_, words_known_;
    std::size_t words_;
    std::vector<std::pair<std::int32_t, bool>> going_on_; // tokens with a quote inside; with two
    struct Open { // a node on the way, and where the expression stands behind it
        std::size_t end;
        const Expr* row;
        Expr state;
    };
    std::vector<Open> path_; // of the walk under way, above those that it was called from
    std::unordered_map<Place, std::unique_ptr<std::uint32_t[]>> known_;
};

} // namespace engine
