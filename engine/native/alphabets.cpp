#include "alphabets.h"

#include <algorithm>
#include <utility>

namespace engine {

namespace {

/// How far a character has been read.
struct Decoding {
    std::uint8_t missing = 0; // bytes
    bool is_broken = false;   // what was read is no UTF-8
    std::uint32_t point = 0;
    std::uint32_t lowest = 0; // of the code points that are written in so many bytes

    void take(std::uint8_t byte) {
        if (missing > 0) {
            is_broken |= (byte & 0xc0U) != 0x80;
            point = point << 6 | (byte & 0x3fU);
            --missing;
            const std::uint32_t first = point << 6 * missing;
            const std::uint32_t final = first | ((1U << 6 * missing) - 1);
            const bool is_surrogate = first >= 0xd800 && final <= 0xdfff;
            is_broken |= final < lowest || first > CodePoints::last || is_surrogate;
            return;
        }
        point = byte;
        if (byte < 0x80) return;
        missing = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
        is_broken |= byte < 0xc2 || byte > 0xf4;
        point = byte & (0x3fU >> missing);
        lowest = missing == 3 ? 0x10000 : missing == 2 ? 0x800 : 0x80;
    }
};

/// The smallest alphabet with this character, or with some of which only a part was read.
std::uint8_t smallest(const Decoding& at) {
    const auto& all = alphabets();
    std::uint8_t out = 0;
    if (at.is_broken) return Writings::none;
    if (at.missing > 0 || all[beyond_ascii].has(at.point)) return beyond_ascii;
    while (out <= all_plain && !all[out].has(at.point)) ++out;
    return out <= all_plain ? out : Writings::none;
}

/// The smallest alphabet that has both.
std::uint8_t join(std::uint8_t a, std::uint8_t b) {
    if (a == b) return a;
    if (a == beyond_ascii) std::swap(a, b);
    if (b == beyond_ascii && a != Writings::none) return std::max<std::uint8_t>(a, all_ascii + 1);
    return std::max(a, b);
}

} // namespace

const std::array<CodePoints, n_alphabets>& alphabets() {
    static const auto known = [] {
        const CodePoints space{{'\t', '\r'},     {' ', ' '},       {0x7f, 0xa0},
                               {0x1680, 0x1680}, {0x2000, 0x200f}, {0x2028, 0x202f},
                               {0x205f, 0x206f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
        const CodePoints ascii{{0, 0x7f}};
        std::array<CodePoints, n_alphabets> out;
        out[6] =
            ~CodePoints{{0, 0x1f}, {'"', '"'}, {'\\', '\\'}, {0x2028, 0x2029}, {0xd800, 0xdfff}};
        out[5] = out[6] & ~space;
        out[4] = out[5] & ascii;
        out[7] = out[5] & ~ascii;
        out[0] = {{'a', 'z'}};
        out[1] = out[0] | CodePoints{{'A', 'Z'}};
        out[2] = out[1] | CodePoints{{'0', '9'}};
        out[3] = out[2] | CodePoints{{'-', '-'}, {'_', '_'}};
        return out;
    }();
    return known;
}

Writings::Writings(const TokenTrie& trie) : nodes_(trie.n_nodes()) {
    std::vector<std::pair<std::size_t, Decoding>> open; // ends of the nodes on the path
    std::vector<bool> begins(trie.n_nodes());           // whether a character begins there
    std::array<std::uint8_t, 128> of_ascii{};
    for (std::uint8_t byte = 0; byte < 128; ++byte) {
        Decoding one;
        one.take(byte);
        of_ascii[byte] = smallest(one);
    }
    for (std::size_t node = 0; node < trie.n_nodes(); ++node) {
        while (!open.empty() && open.back().first <= node) open.pop_back();
        Decoding at = open.empty() ? Decoding{} : open.back().second;
        begins[node] = at.missing == 0;
        at.take(trie.byte(node));
        const bool is_ascii = at.missing == 0 && at.point < 128 && !at.is_broken;
        nodes_[node].alphabet = is_ascii ? of_ascii[at.point] : smallest(at);
        open.emplace_back(trie.end(node), at);
    }
    for (std::size_t node = trie.n_nodes(); node-- > 0;) {
        Node& here = nodes_[node];
        for (std::size_t child = node + 1; child < trie.end(node); child = trie.end(child)) {
            here.alphabet = join(here.alphabet, nodes_[child].alphabet);
            const int longer = nodes_[child].length + 1;
            here.length = std::max(here.length, std::uint8_t(std::min(longer, 255)));
        }
    }
    for (std::size_t node = 0; node < trie.n_nodes(); ++node)
        if (!begins[node]) nodes_[node].alphabet = none;
}

} // namespace engine
