#include <algorithm>
#include <string_view>
#include <vector>

#include "masks.h"

namespace engine {

/// The tokens below the node `above` that go on in a key that may come: each key is looked up in
/// the trie, since keys are few beside tokens. False where `thread` doesn't read a key.
bool Masks::walk_words(const WrittenTrie& written, std::size_t above, const Thread& thread,
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
        const Thread behind{pool_.behind_word(thread.state, word), thread.cont};
        walk_behind(written, node + 1, trie.end(node), behind, mask);
    }
    return true;
}

} // namespace engine
