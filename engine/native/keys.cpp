#include <algorithm>
#include <string_view>
#include <vector>

#include "masks.h"

namespace engine {

// Keys, and the white space between the parts of a JSON text

namespace {

ByteSet white_space() {
    ByteSet out;
    for (const char byte : {' ', '\n', '\t', '\r'}) out.add(std::uint8_t(byte));
    return out;
}

} // namespace

/// The tokens below the node `above` that go on in a key that may come: each key is looked up in
/// the trie, since keys are few beside tokens. False where `thread` doesn't read a key.
bool Masks::walk_words(const WrittenTrie& written, std::size_t above, const Machine::Thread& thread,
                       Mask mask) {
    std::vector<std::uint64_t> allowed;
    if (!machine_.keys(thread, allowed)) return false;
    const TokenTrie& trie = written.trie;
    const auto [low, high, is_complete] = pool_.words_left(thread.state);
    std::vector<std::size_t> path{above}; // the nodes along the word before this one
    std::string_view before;
    for (std::uint32_t word = low; word < high; ++word) {
        if (word / 64 >= allowed.size() || (allowed[word / 64] >> (word % 64) & 1) == 0) continue;
        const std::string_view rest = pool_.word_rest(thread.state, word);
        const auto differs = std::ranges::mismatch(rest, before).in1;
        const auto shared = std::size_t(differs - rest.begin());
        before = rest;
        if (path.size() <= shared) continue; // no token goes further on either of them
        path.resize(shared + 1);
        while (path.size() <= rest.size()) {
            const std::size_t node = trie.child(path.back(), std::uint8_t(rest[path.size() - 1]));
            if (node == TokenTrie::none) break;
            for (const auto id : trie.ids(node)) set_bit(mask, std::size_t(id));
            path.push_back(node);
        }
        const std::size_t node = path.back();
        if (rest.empty() || path.size() <= rest.size() || trie.end(node) == node + 1) continue;
        const Machine::Thread behind{pool_.behind_word(thread.state, word), thread.cont};
        walk_behind(written, node + 1, trie.end(node), behind, mask);
    }
    return true;
}

/// The same where the frames behind the word decide which words may come.
void Masks::walk_keys(const WrittenTrie& written, std::size_t first, std::size_t last,
                      Machine::Thread thread, Mask mask) {
    const TokenTrie& trie = written.trie;
    struct Key {
        std::size_t end;
        Machine::Thread thread;
    };
    std::vector<Key> path{{last, thread}};
    for (std::size_t node = first; node < last;) {
        while (path.back().end <= node) path.pop_back();
        Machine::Thread at = path.back().thread;
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

/// Whether it takes any white space and stays what it is.
bool Masks::takes_spaces(const Machine::Thread& thread) {
    if (machine_.follows(thread)) return false;
    bool all = true;
    white_space().each(
        [&](std::uint8_t byte) { all = all && pool_.next(thread.state, byte) == thread.state; });
    return all;
}

/// Any tokens of a thread that may begin with any white space: what is behind that is looked at
/// once, however much there is of it. False for any other thread.
bool Masks::add_spaced(const Machine::Thread& thread, Mask mask) {
    if (!takes_spaces(thread)) return false;
    std::vector<Machine::Thread> all{thread};
    if (pool_.nullable(thread.state)) {
        for (const auto& next : machine_.threads(machine_.behind(thread))) {
            if ((next.state & Machine::token_thread) != 0) continue;
            const bool takes_none = (pool_.first_bytes(next.state) & white_space()).empty();
            if (!takes_none && !takes_spaces(next)) return false;
            all.push_back(next);
        }
    }
    slices_.add_spaces(mask);
    const std::size_t blank = trie_.trie.child(TokenTrie::none, ' ');
    walk_visible(trie_, TokenTrie::none, thread, mask); // the others are threads of the place too
    for (const auto& each : all) {
        walk_visible(slices_.after_spaces(), TokenTrie::none, each, mask);
        if (blank != TokenTrie::none) walk_visible(trie_, blank, each, mask);
    }
    return true;
}

/// The tokens below the node `above` that go on with anything but white space.
void Masks::walk_visible(const WrittenTrie& written, std::size_t above,
                         const Machine::Thread& thread, Mask mask) {
    if (walk_words(written, above, thread, mask)) return;
    (pool_.first_bytes(thread.state) & ~white_space()).each([&](std::uint8_t byte) {
        const std::size_t node = written.trie.child(above, byte);
        if (node == TokenTrie::none) return;
        walk(written, node, written.trie.end(node), thread, mask);
    });
}

} // namespace engine
