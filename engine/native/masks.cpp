#include "masks.h"

#include <algorithm>
#include <string>

namespace engine {

Masks::Masks(const WrittenTrie& trie, const Slices& slices, Machine& machine,
             std::vector<Expr> free_units)
    : trie_(trie), slices_(slices), machine_(machine), pool_(machine.expressions()),
      free_units_(std::move(free_units)), words_(mask_words(trie.trie.n_vocab())) {}

ConstMask Masks::of(Place place) {
    const auto threads = machine_.threads(place);
    if (threads.size() == 1 && (threads[0].state & Machine::token_thread) == 0) {
        // The same mask for all counts of a counter that no token can use up.
        const Machine::Thread thread = threads[0];
        const auto [loose, bytes] = pool_.loose(thread.state);
        if (loose != thread.state && slices_.longer_than(bytes).empty())
            return wide({loose, thread.cont});
    }
    if (const auto known = known_.find(place); known != known_.end())
        return {known->second, words_};
    std::vector<std::uint32_t> fresh(words_);
    compute(place, fresh);
    return {known_[place] = keep(fresh), words_};
}

/// Where a mask is kept, the same for equal ones: behind most bytes of a word the mask is one that
/// has been before.
const std::uint32_t* Masks::keep(ConstMask mask) {
    std::uint64_t hash[2] = {mask.size(), 1};
    for (std::size_t word = 0; word + 1 < mask.size(); word += 2) {
        hash[0] = (hash[0] ^ mask[word]) * 0xbf58476d1ce4e5b9ULL;
        hash[1] = (hash[1] ^ mask[word + 1]) * 0x94d049bb133111ebULL;
        hash[0] ^= hash[0] >> 32;
        hash[1] ^= hash[1] >> 32;
    }
    const std::uint64_t h = mix(hash[0], hash[1]);
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
    const auto threads = machine_.threads(place);
    const std::vector<Machine::Thread> all(threads.begin(), threads.end());
    for (const auto& thread : all) {
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

void Masks::add_thread(Machine::Thread thread, Mask mask) {
    const auto [loose, bytes] = pool_.loose(thread.state);
    if (loose == thread.state) return add_loose(thread, mask);
    const ConstMask base = wide({loose, thread.cont});
    std::vector<std::uint32_t> own(base.begin(), base.end());
    recheck(thread, bytes, own);
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= own[word];
}

/// Takes out the tokens of more than `bytes` bytes that `thread` refuses.
void Masks::recheck(const Machine::Thread& thread, std::uint32_t bytes, Mask mask) {
    for (const auto id : slices_.longer_than(bytes)) {
        const auto word = std::size_t(id) / mask_bits;
        const std::uint32_t bit = 1U << (std::size_t(id) % mask_bits);
        if ((mask[word] & bit) != 0 && !takes(thread, slices_.token(id))) mask[word] &= ~bit;
    }
}

/// The mask of a thread, kept.
ConstMask Masks::wide(const Machine::Thread& thread) {
    const std::uint64_t key = std::uint64_t(thread.state) << 32 | thread.cont;
    if (const auto known = wide_.find(key); known != wide_.end()) return {known->second, words_};
    std::vector<std::uint32_t> fresh(words_);
    add_loose(thread, fresh);
    return {wide_[key] = keep(fresh), words_};
}

void Masks::add_loose(const Machine::Thread& thread, Mask mask) {
    const auto parts = pool_.alternatives(thread.state);
    const std::vector<Expr> all(parts.begin(), parts.end());
    const bool some_free = std::ranges::any_of(all, [&](Expr e) { return is_free(pool_.run(e)); });
    if (!some_free) return add_word(thread, mask);
    for (const Expr part : all) {
        const Machine::Thread one{part, thread.cont};
        const auto run = pool_.run(part);
        // A short run with a plain tail: a token may lie in both.
        const bool is_plain_tail = run.max < slices_.longest() && begins_plainly(run.tail);
        if (is_free(run) && !is_plain_tail)
            add_free_text(one, run, mask);
        else
            add_word(one, mask);
    }
}

/// Whether plain text can come first, as it does in strings before their quote.
bool Masks::begins_plainly(Expr e) {
    ByteSet special = ByteSet::range(0, 0x1f);
    special.add('"');
    special.add('\\');
    return !(pool_.first_bytes(e) & ~special).empty();
}

/// Any word. Where many bytes may follow, it is looked at once for all its places.
void Masks::add_word(const Machine::Thread& thread, Mask mask) {
    if (pool_.first_bytes(thread.state).count() < 48) return walk_root(trie_, thread, mask);
    const std::uint64_t key = std::uint64_t(thread.state) << 32 | thread.cont;
    auto known = words_known_.find(key);
    if (known == words_known_.end()) {
        std::vector<std::uint32_t> target(words_);
        if (is_open(thread.state)) {
            slices_.add_plain(Expressions::forever, target);
            walk_root(slices_.mixed(), thread, target);
        } else {
            walk_root(trie_, thread, target);
        }
        known = words_known_.emplace(key, keep(target)).first;
    }
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= known->second[word];
}

/// Whether a token may follow, byte by byte.
bool Masks::takes(Machine::Thread thread, std::string_view token) {
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

/// Inside a string of any characters, perhaps of a bounded length, perhaps not one of some words.
void Masks::add_free_text(const Machine::Thread& thread, const Expressions::Run& run, Mask mask) {
    std::vector<std::uint32_t> own;
    Mask target = mask;
    const auto memory = machine_.memory(thread);
    const bool remembers = memory != Machine::Memory::none;
    if (run.without != Expressions::none || remembers) { // others' bits must not be cleared
        own.assign(words_, 0U);
        target = own;
    }
    slices_.add_plain(run.max, target);
    const bool is_far = run.max >= slices_.longest();
    if (is_far && run.min <= 1) {
        Machine::Thread inner = thread;
        if (run.min == 1 || run.without != Expressions::none)
            inner.state = pool_.concat(pool_.repeat(run.unit, 0, run.max), run.tail);
        walk_root(slices_.rests(0), thread, target);
        walk_root(slices_.inner_rests(), inner, target);
    } else {
        for (std::uint32_t k = 0; k < slices_.n_rests() && k <= run.max; ++k) {
            Machine::Thread after = thread;
            const std::uint32_t max = run.max == Expressions::forever ? run.max : run.max - k;
            const std::uint32_t min = run.min > k ? run.min - k : 0;
            if (k > 0) after.state = pool_.concat(pool_.repeat(run.unit, min, max), run.tail);
            walk_root(slices_.rests(k), after, target);
        }
    }
    if (remembers) check_remembered(thread, memory == Machine::Memory::all, target);
    if (run.without == Expressions::none && !remembers) return;
    // The rests were asked for without those words: no token completes one and ends the string.
    const auto [low, high, is_complete] = pool_.words_left(run.without);
    const ByteSet ending = pool_.first_bytes(run.tail);
    for (std::uint32_t word = low; word < high; ++word) {
        const std::string_view rest = pool_.word_rest(run.without, word);
        const std::size_t node = trie_.trie.find(rest);
        if (rest.empty() || node == TokenTrie::none) continue; // an empty one is dead in `thread`
        ending.each([&](std::uint8_t byte) {
            const std::size_t end = trie_.trie.child(node, byte);
            if (end == TokenTrie::none) return;
            for (const auto id : trie_.trie.ids_below(end))
                target[std::size_t(id) / mask_bits] &= ~(1U << (std::size_t(id) % mask_bits));
        });
    }
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= own[word];
}

/// The rests of tokens don't know the text before them, which decides what may come behind: those
/// that go on behind a string, or at least with another one, are taken byte by byte.
void Masks::check_remembered(const Machine::Thread& thread, bool is_whatever, Mask mask) {
    if (going_on_.empty()) {
        for (std::size_t id = 0; id < trie_.trie.n_vocab(); ++id) {
            const std::string_view token = slices_.token(std::int32_t(id));
            const std::size_t quote = token.find('"');
            if (quote == token.npos || quote + 1 == token.size()) continue;
            const bool has_more = token.find('"', quote + 1) != token.npos;
            going_on_.emplace_back(std::int32_t(id), has_more);
        }
    }
    for (const auto& [id, has_more] : going_on_) {
        if (!has_more && !is_whatever) continue;
        const std::uint32_t bit = 1U << (std::size_t(id) % mask_bits);
        auto& word = mask[std::size_t(id) / mask_bits];
        word = takes(thread, slices_.token(id)) ? word | bit : word & ~bit;
    }
}

void Masks::walk_root(const WrittenTrie& trie, const Machine::Thread& thread, Mask mask) {
    if (walk_words(trie, TokenTrie::none, thread, mask)) return;
    if (&trie == &trie_ && add_spaced(thread, mask)) return;
    pool_.first_bytes(thread.state).each([&](std::uint8_t byte) {
        const std::size_t node = trie.trie.child(TokenTrie::none, byte);
        if (node != TokenTrie::none) walk(trie, node, trie.trie.end(node), thread, mask);
    });
}

/// The nodes from `first` to `last`, which are siblings with all that is below them.
void Masks::walk(const WrittenTrie& written, std::size_t first, std::size_t last,
                 const Machine::Thread& thread, Mask mask) {
    // Texts that are remembered reject nothing before the word is complete.
    const bool is_read = machine_.follows(thread);
    if (is_read && (machine_.memory(thread) == Machine::Memory::none ||
                    pool_.words_left(thread.state).high != 0))
        return walk_keys(written, first, last, thread, mask);
    constexpr std::size_t is_large = 4; // nodes: fewer are as quick to look at
    const TokenTrie& trie = written.trie;
    const std::size_t base = path_.size();
    path_.push_back({last, pool_.row(thread.state), thread.state, 0});
    for (std::size_t node = first; node < last;) {
        while (path_.back().end <= node) path_.pop_back();
        const Open& at = path_.back();
        const std::uint8_t byte = trie.byte(node);
        Expr state = at.row[byte];
        if (state == Expressions::unknown) state = pool_.next(at.state, byte);
        const std::size_t end = trie.end(node);
        if (state == Expressions::none) {
            node = end;
            continue;
        }
        const auto alphabet = written.writings.alphabet(node);
        if (end >= node + is_large && alphabet != Writings::none &&
            room(at.state, alphabet) >= written.writings.length(node)) {
            for (const auto id : trie.ids_below(node)) set_bit(mask, std::size_t(id));
            node = end;
            continue;
        }
        for (const auto id : trie.ids(node)) set_bit(mask, std::size_t(id));
        if (end > node + 1) {
            if (pool_.nullable(state)) {
                const Machine::Thread here{state, thread.cont};
                walk_behind(written, node + 1, end, is_read ? with_text(thread, base, byte) : here,
                            mask);
            }
            if (state == Expressions::empty) {
                node = end;
                continue;
            }
            path_.push_back({end, pool_.row(state), state, byte});
        }
        ++node;
    }
    path_.resize(base);
}

/// `thread` behind the bytes on the path of the walk that began at `base`, and one more.
Machine::Thread Masks::with_text(Machine::Thread thread, std::size_t base, std::uint8_t byte) {
    for (std::size_t i = base + 1; i < path_.size(); ++i) machine_.step(thread, path_[i].byte);
    machine_.step(thread, byte);
    return thread;
}

void Masks::walk_behind(const WrittenTrie& trie, std::size_t first, std::size_t last,
                        const Machine::Thread& thread, Mask mask) {
    const Place place = machine_.behind(thread);
    const auto threads = machine_.threads(place);
    const std::vector<Machine::Thread> all(threads.begin(), threads.end());
    for (const auto& next : all)
        if ((next.state & Machine::token_thread) == 0 && !walk_words(trie, first - 1, next, mask))
            walk(trie, first, last, next, mask);
}

} // namespace engine
