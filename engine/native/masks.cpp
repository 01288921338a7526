#include "masks.h"

#include <algorithm>
#include <string>

namespace engine {

Masks::Masks(const WrittenTrie& trie, const Slices& slices, Machine& machine,
             std::vector<Expr> free_units, std::shared_ptr<WordMasks> words)
    : trie_(trie), slices_(slices), machine_(machine), pool_(machine.expressions()),
      free_units_(std::move(free_units)), word_masks_(std::move(words)),
      words_(mask_words(trie.trie.n_vocab())) {}

ConstMask Masks::of(Place place) {
    const auto threads = machine_.threads(place);
    if (threads.size() == 1 && (threads[0].state & Machine::token_thread) == 0) {
        // The same mask for all counts of a counter that no token can use up.
        const Thread thread = threads[0];
        const auto [loose, bytes] = pool_.loose(thread.state);
        if (loose != thread.state && slices_.longer_than(bytes).empty())
            return wide({loose, thread.cont});
    }
    if (const auto known = known_.find(place); known != known_.end())
        return {known->second, words_};
    scratch_.resize(words_);
    compute(place, scratch_);
    return {known_[place] = keep(scratch_), words_};
}

/// Where a mask is kept, the same for equal ones: behind most bytes of a word the mask is one that
/// has been before.
const std::uint32_t* Masks::keep(ConstMask mask) {
    const std::uint64_t h = hash_of(mask);
    const std::uint32_t known = masks_index_.find(h, [&](std::uint32_t i) {
        return std::ranges::equal(mask, ConstMask{masks_[i].get(), words_});
    });
    if (known != Index::none) return masks_[known].get();
    masks_.push_back(std::make_unique_for_overwrite<std::uint32_t[]>(words_));
    std::ranges::copy(mask, masks_.back().get());
    masks_index_.insert(h, std::uint32_t(masks_.size() - 1));
    return masks_.back().get();
}

void Masks::compute(Place place, Mask mask) {
    std::ranges::fill(mask, 0U);
    for (std::size_t i = 0; i < machine_.threads(place).size(); ++i) {
        const Thread thread = machine_.threads(place)[i]; // what follows moves them
        if ((thread.state & Machine::token_thread) != 0)
            set_bit(mask, thread.state & ~Machine::token_thread);
        else
            add_thread(thread, mask);
    }
}

bool Masks::is_free(const Expressions::Run& run) const {
    return run.unit != Expressions::none &&
           std::ranges::find(free_units_, run.unit) != free_units_.end();
}

void Masks::add_thread(Thread thread, Mask mask) {
    if (machine_.follows(thread) && add_forgetting(thread, mask)) return;
    const auto [loose, bytes] = pool_.loose(thread.state);
    if (loose == thread.state) return add_loose(thread, mask);
    const ConstMask base = wide({loose, thread.cont});
    std::vector<std::uint32_t> own(base.begin(), base.end());
    recheck(thread, bytes, own);
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= own[word];
}

/// Takes out the tokens of more than `bytes` bytes that `thread` refuses.
void Masks::recheck(const Thread& thread, std::uint32_t bytes, Mask mask) {
    const auto ids = slices_.longer_than(bytes);
    if (ids.empty()) return;
    if (const WrittenTrie* const trie = slices_.long_tokens(bytes);
        trie != nullptr && is_parted(thread)) {
        std::vector<std::uint32_t> taken(words_);
        walk_parts(*trie, thread, taken);
        for (const auto id : ids) {
            const auto word = std::size_t(id) / mask_bits;
            const std::uint32_t bit = 1U << (std::size_t(id) % mask_bits);
            mask[word] &= taken[word] | ~bit;
        }
        return;
    }
    for (const auto id : ids) {
        const auto word = std::size_t(id) / mask_bits;
        const std::uint32_t bit = 1U << (std::size_t(id) % mask_bits);
        if ((mask[word] & bit) != 0 && !takes(thread, slices_.token(id))) mask[word] &= ~bit;
    }
}

/// The mask of a thread, kept.
ConstMask Masks::wide(const Thread& thread) {
    const std::uint64_t key = std::uint64_t(thread.state) << 32 | thread.cont;
    if (const auto known = wide_.find(key); known != wide_.end()) return {known->second, words_};
    std::vector<std::uint32_t> fresh(words_);
    add_loose(thread, fresh);
    return {wide_[key] = keep(fresh), words_};
}

void Masks::add_loose(const Thread& thread, Mask mask) {
    if (machine_.follows(thread) && add_forgetting(thread, mask)) return;
    const auto parts = pool_.alternatives(thread.state);
    const std::vector<Expr> all(parts.begin(), parts.end());
    if (std::ranges::none_of(all, [&](Expr part) { return lacks_words(part); }))
        return add_whole(thread, mask);
    for (const Expr part : all) {
        if (lacks_words(part))
            add_text_without({part, thread.cont}, mask);
        else
            add_whole({part, thread.cont}, mask);
    }
}

/// Whether it is a string of any characters but some words.
bool Masks::lacks_words(Expr part) {
    const auto run = pool_.run(part);
    if (run.without == Expressions::none || !is_free(run) || pool_.nullable(run.tail)) return false;
    const ByteSet both = pool_.first_bytes(run.unit) & pool_.first_bytes(run.tail);
    return both.empty() && !begins_plainly(run.tail);
}

void Masks::add_whole(const Thread& thread, Mask mask) {
    if (machine_.follows(thread)) {
        for (const Sight& sight : sights(thread.state)) add_sight(thread, sight, mask);
        return;
    }
    if (is_parted(thread)) return walk_parts(trie_, thread, mask);
    const Fingerprint key = pool_.fingerprint(thread.state);
    auto word = word_masks_->find(key);
    if (word == nullptr) {
        Found found;
        for (const Sight& sight : sights(thread.state)) {
            if (sight.has_plain) {
                found.mask.resize(words_);
                slices_.add_plain(sight.plain, found.mask);
            }
            for (const auto& [number, state] : sight.looks)
                look(whole(number).ranges.front(), state, found);
        }
        word = keep_word(key, found);
    }
    add_known(*word, thread.cont, mask);
}

/// Looked at as if any word might come, as all such strings are. Then those tokens are taken out
/// that go along one of the words and can't go on.
void Masks::add_text_without(const Thread& thread, Mask mask) {
    const auto run = pool_.run(thread.state);
    const std::uint32_t min = std::max<std::uint32_t>(run.min, pool_.nullable(run.without) ? 1 : 0);
    const Expr any = pool_.concat(pool_.repeat(run.unit, min, run.max), run.tail);
    std::vector<std::uint32_t> own(words_); // others' bits must not be cleared
    add_whole({any, thread.cont}, own);
    const TokenTrie& trie = trie_.trie;
    struct Level {
        std::size_t end;
        Expr word, state;
    };
    std::vector<Level> path{{trie.n_nodes(), run.without, thread.state}};
    for (std::size_t node = 0; node < trie.n_nodes();) {
        while (path.back().end <= node) path.pop_back();
        const auto [end, from, before] = path.back();
        const std::size_t below = trie.end(node);
        const std::uint8_t byte = trie.byte(node);
        const Expr word = pool_.next(from, byte);
        if (word == Expressions::none && !pool_.nullable(from)) {
            node = below;
            continue;
        }
        const Expr state = pool_.next(before, byte);
        if (state == Expressions::none)
            for (const auto id : trie.ids_below(node))
                own[std::size_t(id) / mask_bits] &= ~(1U << (std::size_t(id) % mask_bits));
        if (state == Expressions::none || word == Expressions::none) {
            node = below;
            continue;
        }
        path.push_back({below, word, state});
        ++node;
    }
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= own[word];
}

std::vector<Masks::Sight> Masks::sights(Expr state) {
    const auto parts = pool_.alternatives(state);
    const std::vector<Expr> all(parts.begin(), parts.end());
    const bool some_free = std::ranges::any_of(all, [&](Expr e) { return is_free(pool_.run(e)); });
    if (!some_free) return {sight_of_word(state)};
    std::vector<Sight> out;
    for (const Expr part : all) {
        const auto run = pool_.run(part);
        // A short run with a plain tail: a token may lie in both.
        const bool is_plain_tail = run.max < slices_.longest() && begins_plainly(run.tail);
        const bool is_text = is_free(run) && run.without == Expressions::none && !is_plain_tail;
        out.push_back(is_text ? sight_of_text(part, run) : sight_of_word(part));
    }
    return out;
}

/// Whether plain text can come first, as it does in strings before their quote.
bool Masks::begins_plainly(Expr e) {
    ByteSet special = ByteSet::range(0, 0x1f);
    special.add('"');
    special.add('\\');
    return !(pool_.first_bytes(e) & ~special).empty();
}

/// Any word. Where many bytes may follow, it may be that all plain tokens do.
Masks::Sight Masks::sight_of_word(Expr state) {
    constexpr int many = 48;
    if (pool_.first_bytes(state).count() >= many && is_open(state))
        return {false, true, Expressions::forever, {{mixed_trie, state}}};
    return {false, false, 0, {{whole_trie, state}}};
}

/// Inside a string of any characters, perhaps of a bounded length.
Masks::Sight Masks::sight_of_text(Expr state, const Expressions::Run& run) {
    Sight out{true, true, run.max, {}};
    const bool is_far = run.max >= slices_.longest();
    if (is_far && run.min <= 1) {
        const Expr inner =
            run.min == 1 ? pool_.concat(pool_.repeat(run.unit, 0, run.max), run.tail) : state;
        out.looks = {{first_rests, state}, {inner_rests, inner}};
        return out;
    }
    for (std::uint32_t k = 0; k < slices_.n_rests() && k <= run.max; ++k) {
        const std::uint32_t max = run.max == Expressions::forever ? run.max : run.max - k;
        const std::uint32_t min = run.min > k ? run.min - k : 0;
        const Expr after = k > 0 ? pool_.concat(pool_.repeat(run.unit, min, max), run.tail) : state;
        out.looks.push_back({first_rests + k, after});
    }
    return out;
}

void Masks::add_sight(const Thread& thread, const Sight& sight, Mask mask) {
    const auto memory = machine_.memory(thread);
    std::vector<std::uint32_t> own(words_); // others' bits must not be cleared
    if (sight.has_plain) slices_.add_plain(sight.plain, own);
    for (const auto& [number, state] : sight.looks)
        add_word(whole(number), {state, thread.cont}, own);
    if (sight.is_text && memory != Machine::Memory::none)
        check_remembered(thread, memory == Machine::Memory::all, own);
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= own[word];
}

/// The tokens that have a quote before their end, and whether they have another one.
const std::vector<std::pair<std::int32_t, bool>>& Masks::going_on() {
    if (!going_on_.empty()) return going_on_;
    for (std::size_t id = 0; id < trie_.trie.n_vocab(); ++id) {
        const std::string_view token = slices_.token(std::int32_t(id));
        const std::size_t quote = token.find('"');
        if (quote == token.npos || quote + 1 == token.size()) continue;
        const bool has_more = token.find('"', quote + 1) != token.npos;
        going_on_.emplace_back(std::int32_t(id), has_more);
    }
    return going_on_;
}

/// Whether a token may follow, byte by byte.
bool Masks::takes(Thread thread, std::string_view token) {
    std::vector<Place> places;
    bool is_alive = true;
    for (std::size_t i = 0; i < token.size(); ++i) {
        const auto byte = std::uint8_t(token[i]);
        for (Place& place : places) place = machine_.step(place, byte);
        std::erase(places, Machine::dead);
        if (is_alive) {
            is_alive = machine_.step(thread, byte);
            if (is_alive && pool_.nullable(thread.state) && i + 1 < token.size())
                places.push_back(machine_.behind(thread));
        }
        if (!is_alive && places.empty()) return false;
    }
    return true;
}

/// The mask of a thread in a string whose text matters only behind it: that of any such string, of
/// which the tokens that go on behind it are taken byte by byte. False for other threads.
bool Masks::add_forgetting(const Thread& thread, Mask mask) {
    const Thread any = machine_.forgetting(thread);
    if (any == thread) return false;
    std::vector<std::uint32_t> own(words_);
    add_thread(any, own);
    const bool has_others = becomes_several(thread.state);
    for (const auto& [id, has_more] : going_on()) {
        if (!has_more && has_others) continue;
        const std::uint32_t bit = 1U << (std::size_t(id) % mask_bits);
        auto& word = own[std::size_t(id) / mask_bits];
        if ((word & bit) != 0 && !takes(thread, slices_.token(id))) word &= ~bit;
    }
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= own[word];
    return true;
}

/// Whether a JSON string may surely become two that say something else: bytes that differ say so
/// unless one of them begins an escape or only the case of a hexadecimal digit differs.
bool Masks::becomes_several(Expr state) {
    constexpr int far = 100;
    for (int i = 0; i < far && !pool_.nullable(state); ++i) {
        ByteSet plain = pool_.first_bytes(state);
        for (const auto byte : {'\\', 'u', 'A', 'B', 'C', 'D', 'E', 'F'})
            plain.remove(std::uint8_t(byte));
        if (plain.count() != 1) return plain.count() > 1;
        plain.each([&](std::uint8_t byte) { state = pool_.next(state, byte); });
    }
    return false;
}

/// The rests of tokens don't know the text before them, which decides what may come behind: those
/// that go on behind a string, or at least with another one, are taken byte by byte.
void Masks::check_remembered(const Thread& thread, bool is_whatever, Mask mask) {
    for (const auto& [id, has_more] : going_on()) {
        if (!has_more && !is_whatever) continue;
        const std::uint32_t bit = 1U << (std::size_t(id) % mask_bits);
        auto& word = mask[std::size_t(id) / mask_bits];
        word = takes(thread, slices_.token(id)) ? word | bit : word & ~bit;
    }
}

} // namespace engine
