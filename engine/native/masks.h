/// Which tokens may come next at a place of a grammar.
///
/// Knows tokens' bytes and places. Does not know sampling.
///
/// The mask of a place is the union of its threads' masks. A thread is followed into the trie with
/// its expression's automaton alone; only where its word is complete does the rest of a token ask
/// the machine what comes behind. Inside free text the plain tokens come from `Slices`.
#pragma once

#include <array>
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
    Masks(const WrittenTrie& trie, const Slices& slices, Machine& machine,
          std::vector<Expr> free_units);

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
        masks_.clear();
        masks_index_ = {};
    }
    std::size_t memory_bytes() const {
        constexpr std::size_t entry = 48; // of a table, about
        return masks_.size() * words_ * 4 + masks_index_.memory_bytes() +
               (known_.size() + wide_.size() + words_known_.size() + rooms_.size()) * entry;
    }

  private:
    void add_thread(Machine::Thread thread, Mask mask);
    void add_free_text(const Machine::Thread& thread, const Expressions::Run& run, Mask mask);
    bool begins_plainly(Expr e);
    const std::uint32_t* keep(ConstMask mask);
    void add_word(const Machine::Thread& thread, Mask mask);
    void add_loose(const Machine::Thread& thread, Mask mask);
    ConstMask wide(const Machine::Thread& thread);
    void recheck(const Machine::Thread& thread, std::uint32_t bytes, Mask mask);
    bool is_open(Expr state) { return room(state, n_alphabets - 1) == endless; }
    std::uint8_t room(Expr state, unsigned alphabet);
    bool is_free_for_ever(Expr state) const;
    std::uint8_t work_out_room(Expr state, unsigned alphabet);
    bool add_behind(Expr state, unsigned alphabet, std::vector<Expr>& out);
    bool takes(Machine::Thread thread, std::string_view token);
    void check_remembered(const Machine::Thread& thread, bool is_whatever, Mask mask);
    bool is_free(const Expressions::Run& run) const;
    void walk(const WrittenTrie& trie, std::size_t first, std::size_t last,
              const Machine::Thread& thread, Mask mask);
    bool takes_spaces(const Machine::Thread& thread);
    bool add_spaced(const Machine::Thread& thread, Mask mask);
    void walk_visible(const WrittenTrie& trie, std::size_t above, const Machine::Thread& thread,
                      Mask mask);
    bool walk_words(const WrittenTrie& trie, std::size_t above, const Machine::Thread& thread,
                    Mask mask);
    void walk_keys(const WrittenTrie& trie, std::size_t first, std::size_t last,
                   Machine::Thread thread, Mask mask);
    Machine::Thread with_text(Machine::Thread thread, std::size_t base, std::uint8_t byte);
    void walk_root(const WrittenTrie& trie, const Machine::Thread& thread, Mask mask);
    void walk_behind(const WrittenTrie& trie, std::size_t first, std::size_t last,
                     const Machine::Thread& thread, Mask mask);

    const WrittenTrie& trie_;
    const Slices& slices_;
    Machine& machine_;
    Expressions& pool_;
    std::vector<Expr> free_units_;
    // Per expression: how many characters of an alphabet it takes, whichever they are.
    static constexpr std::uint8_t endless = 255, unknown = 254, most_room = 253;
    using Room = std::array<std::uint8_t, n_alphabets>;
    std::unordered_map<Expr, Room> rooms_;
    std::array<Expr, n_alphabets> words_of_{}; // any word of each alphabet, if it was asked for
    // By state and cont: masks of threads without large counters, and of words among them.
    std::unordered_map<std::uint64_t, const std::uint32_t*> wide_, words_known_;
    std::size_t words_;
    std::vector<std::pair<std::int32_t, bool>> going_on_; // tokens with a quote inside; with two
    struct Open { // a node on the way, and where the expression stands behind it
        std::size_t end;
        const Expr* row;
        Expr state;
        std::uint8_t byte;
    };
    std::vector<Open> path_; // of the walk under way, above those that it was called from
    std::unordered_map<Place, const std::uint32_t*> known_;
    std::vector<std::unique_ptr<std::uint32_t[]>> masks_; // each once
    Index masks_index_;
};

} // namespace engine
