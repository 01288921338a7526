#include <algorithm>

#include "masks.h"

namespace engine {

// Walks through tries: with a word alone, whose tokens are kept; or with the frames behind it

const WrittenTrie& Masks::trie(std::uint32_t number) const {
    if (number == whole_trie) return trie_;
    if (number == mixed_trie) return slices_.mixed();
    if (number == inner_rests) return slices_.inner_rests();
    return slices_.rests(number - first_rests);
}

Roots Masks::whole(std::uint32_t number) const {
    Roots out{{{number, 0, std::uint32_t(trie(number).trie.n_nodes())}}, Fingerprint(number)};
    return out;
}

/// The threads behind one whose word is complete.
template <class Visit>
void Masks::each_behind(const Thread& thread, const Visit& visit) {
    const Place place = machine_.behind(thread);
    for (std::size_t i = 0; i < machine_.threads(place).size(); ++i) {
        const Thread next = machine_.threads(place)[i]; // a visit moves them
        if ((next.state & Machine::token_thread) == 0) visit(next);
    }
}

/// The tokens below `roots` that `thread` takes.
void Masks::add_word(const Roots& roots, const Thread& thread, Mask mask) {
    if (machine_.follows(thread)) {
        for (const auto& [number, first, last] : roots.ranges)
            walk(trie(number), first, last, thread, mask);
        return;
    }
    Fingerprint key = pool_.fingerprint(thread.state);
    key.add(roots.fingerprint);
    auto word = word_masks_->find(key);
    if (word == nullptr) {
        Found found;
        for (const auto& range : roots.ranges) look(range, thread.state, found);
        word = keep_word(key, found);
    }
    add_known(*word, thread.cont, mask);
}

void Masks::add_known(const WordMask& word, std::uint32_t cont, Mask mask) {
    if (word.many != nullptr)
        for (std::size_t i = 0; i < words_; ++i) mask[i] |= word.many[i];
    for (const auto id : word.few) set_bit(mask, std::size_t(id));
    if (word.behind == nullptr) return;
    // Frames that don't follow the word go on alike behind all its ends.
    each_behind({Expressions::empty, cont},
                [&](const Thread& next) { add_word(*word.behind, next, mask); });
}

/// With the word alone; what may come behind it is left open.
void Masks::look(const TrieRange& range, Expr state, Found& found) {
    const WrittenTrie& written = trie(range.trie);
    const auto take = [&](std::span<const std::int32_t> ids) {
        if (ids.empty()) return;
        if (!found.ids.empty() && found.ids.back().data() + found.ids.back().size() == ids.data())
            found.ids.back() = {found.ids.back().data(), found.ids.back().size() + ids.size()};
        else
            found.ids.push_back(ids);
    };
    const auto cross = [&](std::size_t first, std::size_t last, Expr, std::size_t) {
        found.behind.push_back({range.trie, std::uint32_t(first), std::uint32_t(last)});
    };
    walk_word(written, range.first, range.last, state, take, cross);
}

WordMasks::Word Masks::keep_word(const Fingerprint& key, Found& found) {
    std::size_t count = 0;
    for (const auto& ids : found.ids) count += ids.size();
    std::vector<std::int32_t> few;
    if (!found.mask.empty() || count > words_ / 4) {
        found.mask.resize(words_);
        for (const auto& ids : found.ids)
            for (const auto id : ids) set_bit(found.mask, std::size_t(id));
    } else {
        few.reserve(count);
        for (const auto& ids : found.ids) few.insert(few.end(), ids.begin(), ids.end());
    }
    std::ranges::sort(found.behind);
    const auto same = std::ranges::unique(found.behind);
    found.behind.erase(same.begin(), same.end());
    found.behind.shrink_to_fit();
    return word_masks_->keep(key, found.mask, std::move(few), std::move(found.behind));
}

/// The nodes from `first` to `last`, which are siblings with all that is below them: `take` gets
/// the tokens within the word, `cross` the nodes below one where it may end, its state there, and
/// where the path to it begins.
template <class Take, class Cross>
void Masks::walk_word(const WrittenTrie& written, std::size_t first, std::size_t last, Expr start,
                      const Take& take, const Cross& cross) {
    constexpr std::size_t is_large = 4; // nodes: fewer are as quick to look at
    const TokenTrie& trie = written.trie;
    const std::size_t base = path_size_;
    const struct Back { // also where a limit ends the walk
        std::size_t& size;
        const std::size_t base;
        ~Back() { size = base; }
    } back{path_size_, base};
    const auto open = [&](const Open& one) {
        if (path_size_ == path_.size()) path_.resize(2 * path_size_ + 64);
        path_[path_size_++] = one;
    };
    open({last, pool_.row(start), start, 0});
    for (std::size_t node = first; node < last;) {
        while (path_[path_size_ - 1].end <= node) --path_size_;
        const Open at = path_[path_size_ - 1];
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
            (is_free_for_ever(state) ||
             (is_worth_asking(at.state, alphabet, end - node) &&
              room(at.state, alphabet) >= written.writings.length(node)))) {
            take(trie.ids_below(node));
            node = end;
            continue;
        }
        take(trie.ids(node));
        if (end > node + 1) {
            open({end, nullptr, state, byte});
            if (pool_.nullable(state)) cross(node + 1, end, state, base);
            if (state == Expressions::empty) {
                --path_size_;
                node = end;
                continue;
            }
            path_[path_size_ - 1].row = pool_.row(state);
        }
        ++node;
    }
}

/// With the frames behind the word too.
void Masks::walk(const WrittenTrie& written, std::size_t first, std::size_t last,
                 const Thread& thread, Mask mask) {
    // Texts that are remembered reject nothing before the word is complete.
    const bool is_read = machine_.follows(thread);
    const std::size_t above = first == 0 ? TokenTrie::none : first - 1; // siblings: all below it
    if (is_read && walk_words(written, above, thread, mask)) return;
    if (is_read && (machine_.memory(thread) == Machine::Memory::none ||
                    pool_.words_left(thread.state).high != 0))
        return walk_keys(written, first, last, thread, mask);
    const auto take = [&](std::span<const std::int32_t> ids) {
        for (const auto id : ids) set_bit(mask, std::size_t(id));
    };
    const auto cross = [&](std::size_t below, std::size_t end, Expr state, std::size_t base) {
        Thread here{state, thread.cont};
        if (is_read) {
            here = thread;
            for (std::size_t i = base + 1; i < path_size_; ++i) machine_.step(here, path_[i].byte);
        }
        walk_behind(written, below, end, here, mask);
    };
    walk_word(written, first, last, thread.state, take, cross);
}

/// The same where the frames behind the word decide which words may come.
void Masks::walk_keys(const WrittenTrie& written, std::size_t first, std::size_t last,
                      Thread thread, Mask mask) {
    const TokenTrie& trie = written.trie;
    struct Key {
        std::size_t end;
        Thread thread;
    };
    std::vector<Key> path{{last, thread}};
    for (std::size_t node = first; node < last;) {
        while (path.back().end <= node) path.pop_back();
        Thread at = path.back().thread;
        if (!machine_.step(at, trie.byte(node))) {
            node = trie.end(node);
            continue;
        }
        for (const auto id : trie.ids(node)) set_bit(mask, std::size_t(id));
        if (trie.end(node) > node + 1) {
            if (pool_.nullable(at.state)) walk_behind(written, node + 1, trie.end(node), at, mask);
            path.push_back({trie.end(node), at});
        }
        ++node;
    }
}

void Masks::walk_behind(const WrittenTrie& trie, std::size_t first, std::size_t last,
                        const Thread& thread, Mask mask) {
    each_behind(thread, [&](const Thread& next) { walk(trie, first, last, next, mask); });
}

/// Whether the thread's expression is an intersection that is worth taking apart.
bool Masks::is_parted(const Thread& thread) {
    if (machine_.follows(thread)) return false;
    const std::vector<Expr> parts = pool_.conjuncts(thread.state);
    return parts.size() > 1 && pool_.spare(parts).part != Expressions::none;
}

/// The same for an intersection of which each part goes on by itself, so that their states add up
/// instead of multiplying. They are put together where a token ends.
void Masks::walk_parts(const WrittenTrie& written, const Thread& thread, Mask mask) {
    const TokenTrie& trie = written.trie;
    const std::vector<Expr> first = pool_.conjuncts(thread.state);
    const std::size_t n = first.size();
    struct Level {
        std::size_t end;
        std::size_t sure; // as deep as that, whatever its `which` part takes is taken
        std::size_t which;
    };
    const auto look_ahead = [&](std::span<const Expr> parts, std::size_t depth, Level& level) {
        const auto [part, bytes] = pool_.spare(parts);
        if (part == Expressions::none) return false;
        level.sure = depth + bytes;
        level.which = std::size_t(std::ranges::find(parts, part) - parts.begin());
        return true;
    };
    std::vector<Level> path{{trie.n_nodes(), 0, 0}};
    std::vector<Expr> states = first; // of each level, those of its parts
    look_ahead(first, 0, path.back());
    const Thread done{Expressions::empty, thread.cont};
    for (std::size_t node = 0; node < trie.n_nodes();) {
        while (path.back().end <= node) {
            path.pop_back();
            states.resize(states.size() - n);
        }
        const std::size_t end = trie.end(node), depth = path.size();
        Level level = path.back();
        level.end = end;
        const std::size_t from = states.size() - n;
        const std::size_t length = written.writings.length(node);
        const auto alphabet = written.writings.alphabet(node);
        if (alphabet != Writings::none && depth - 1 + length <= level.sure &&
            room(states[from + level.which], alphabet) >= length) {
            for (const auto id : trie.ids_below(node)) set_bit(mask, std::size_t(id));
            node = end;
            continue;
        }
        bool is_alive = true, is_complete = true;
        for (std::size_t i = 0; i < n && is_alive; ++i) {
            states.push_back(pool_.next(states[from + i], trie.byte(node)));
            is_alive = states.back() != Expressions::none;
            is_complete = is_complete && pool_.nullable(states.back());
        }
        const auto here = [&] { return std::span(states).subspan(from + n, n); };
        if (is_alive && !is_complete && depth > level.sure && !look_ahead(here(), depth, level))
            is_alive = !pool_.is_dead(pool_.both(here()));
        if (!is_alive) {
            states.resize(from + n);
            node = end;
            continue;
        }
        for (const auto id : trie.ids(node)) set_bit(mask, std::size_t(id));
        if (is_complete && end > node + 1) walk_behind(written, node + 1, end, done, mask);
        path.push_back(level);
        ++node;
    }
}

} // namespace engine
