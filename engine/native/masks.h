/// Which tokens may come next at a place of a grammar.
///
/// Knows tokens' bytes and places. Does not know sampling.
///
/// The mask of a place is the union of its threads' masks. A thread is followed into the trie with
/// its expression's automaton alone; only where its word is complete does the rest of a token ask
/// the machine what comes behind. The former is the same wherever the word stands, so it is looked
/// up in `WordMasks`, and so are the words behind it, for all ends of the word at once. Inside free
/// text the plain tokens come from `Slices`.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "machine.h"
#include "mask.h"
#include "slices.h"
#include "token_trie.h"
#include "word_masks.h"

namespace engine {

class Masks {
  public:
    /// `free_units` are the expressions for any character, as strings repeat them. `words` are of
    /// the same vocabulary.
    Masks(const WrittenTrie& trie, const Slices& slices, Machine& machine,
          std::vector<Expr> free_units,
          std::shared_ptr<WordMasks> words = std::make_shared<WordMasks>());

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
        masks_.clear();
        masks_index_ = {};
    }
    std::size_t memory_bytes() const {
        constexpr std::size_t entry = 48; // of a table, about
        return masks_.size() * words_ * 4 + masks_index_.memory_bytes() +
               (known_.size() + wide_.size() + rooms_.size()) * entry;
    }

  private:
    using Thread = Machine::Thread;

    void add_thread(Thread thread, Mask mask);
    void add_loose(const Thread& thread, Mask mask);
    bool lacks_words(Expr part);
    void add_whole(const Thread& thread, Mask mask);
    void add_text_without(const Thread& thread, Mask mask);
    ConstMask wide(const Thread& thread);
    void recheck(const Thread& thread, std::uint32_t bytes, Mask mask);
    bool takes(Thread thread, std::string_view token);
    const std::uint32_t* keep(ConstMask mask);

    /// How a part of an expression is looked at: plain tokens of at most so many characters, and
    /// what is left of it below the whole of some tries.
    struct Sight {
        bool is_text = false; // any characters
        bool has_plain = false;
        std::uint32_t plain = 0;
        struct Look {
            std::uint32_t trie;
            Expr state;
        };
        std::vector<Look> looks;
    };
    static constexpr std::uint32_t whole_trie = 0, mixed_trie = 1, inner_rests = 2, first_rests = 3;
    std::vector<Sight> sights(Expr state);
    Sight sight_of_word(Expr state);
    Sight sight_of_text(Expr state, const Expressions::Run& run);
    void add_sight(const Thread& thread, const Sight& sight, Mask mask);
    bool add_forgetting(const Thread& thread, Mask mask);
    bool becomes_several(Expr state);
    const std::vector<std::pair<std::int32_t, bool>>& going_on();
    void check_remembered(const Thread& thread, bool is_whatever, Mask mask);
    bool is_free(const Expressions::Run& run) const;
    bool begins_plainly(Expr e);

    bool is_open(Expr state) { return room(state, all_plain) == endless; }
    std::uint8_t room(Expr state, unsigned alphabet);
    bool is_free_for_ever(Expr state);
    bool is_worth_asking(Expr state, unsigned alphabet, std::size_t nodes) const;
    std::uint8_t work_out_room(Expr state, unsigned alphabet);
    bool add_behind(Expr state, unsigned alphabet, std::vector<Expr>& out);

    // Walks; see walks.cpp.
    struct Found {                       // by a walk for a word alone
        std::vector<std::uint32_t> mask; // empty where there were no plain tokens to add
        std::vector<std::span<const std::int32_t>> ids;
        std::vector<TrieRange> behind;
    };
    const WrittenTrie& trie(std::uint32_t number) const;
    Roots whole(std::uint32_t number) const;
    void add_word(const Roots& roots, const Thread& thread, Mask mask);
    void add_known(const WordMask& word, std::uint32_t cont, Mask mask);
    void look(const TrieRange& range, Expr state, Found& found);
    WordMasks::Word keep_word(const Fingerprint& key, Found& found);
    template <class Take, class Cross>
    void walk_word(const WrittenTrie& trie, std::size_t first, std::size_t last, Expr state,
                   const Take& take, const Cross& cross);
    void walk(const WrittenTrie& trie, std::size_t first, std::size_t last, const Thread& thread,
              Mask mask);
    bool walk_words(const WrittenTrie& trie, std::size_t above, const Thread& thread, Mask mask);
    void walk_keys(const WrittenTrie& trie, std::size_t first, std::size_t last, Thread thread,
                   Mask mask);
    bool is_parted(const Thread& thread);
    void walk_parts(const WrittenTrie& trie, const Thread& thread, Mask mask);
    template <class Visit>
    void each_behind(const Thread& thread, const Visit& visit);
    void walk_behind(const WrittenTrie& trie, std::size_t first, std::size_t last,
                     const Thread& thread, Mask mask);

    const WrittenTrie& trie_;
    const Slices& slices_;
    Machine& machine_;
    Expressions& pool_;
    std::vector<Expr> free_units_;
    // Per expression: how many characters of an alphabet it takes, whichever they are.
    static constexpr std::uint8_t endless = 255, unknown = 254, most_room = 253;
    using Room = std::array<std::uint8_t, n_alphabets>;
    std::unordered_map<Expr, Room> rooms_;
    std::vector<std::uint8_t> free_;           // by expression: whether it takes any text
    std::array<Expr, n_alphabets> words_of_{}; // any word of each alphabet, if it was asked for
    // By state and cont: masks of threads without large counters.
    std::unordered_map<std::uint64_t, const std::uint32_t*> wide_;
    std::shared_ptr<WordMasks> word_masks_;
    std::size_t words_;
    std::vector<std::pair<std::int32_t, bool>> going_on_; // tokens with a quote inside; with two
    struct Open { // a node on the way, and where the expression stands behind it
        std::size_t end;
        const Expr* row;
        Expr state;
        std::uint8_t byte;
    };
    std::vector<Open> path_; // of the walk under way, above those that it was called from
    std::size_t path_size_ = 0;
    std::vector<std::uint32_t> scratch_; // the mask being worked out by `of`
    std::unordered_map<Place, const std::uint32_t*> known_;
    std::vector<std::unique_ptr<std::uint32_t[]>> masks_; // each once
    Index masks_index_;
};

} // namespace engine
