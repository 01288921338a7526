/// Alphabets, and which parts of a vocabulary's trie are written in them.
///
/// Knows characters and tries. Does not know grammars.
///
/// Most tokens are words. Where an expression takes any word of an alphabet, the tokens below a
/// node that has no other characters are all allowed, and a walk needn't look at them.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "code_points.h"
#include "token_trie.h"

namespace engine {

/// From the smallest to the largest, each within the next, up to all plain characters; then those
/// of the last but one that are not ASCII, by themselves.
inline constexpr unsigned n_alphabets = 8;
inline constexpr unsigned all_ascii = 4; // the largest alphabet of single bytes
inline constexpr unsigned all_plain = 6;
inline constexpr unsigned beyond_ascii = 7;
const std::array<CodePoints, n_alphabets>& alphabets();

class Writings {
  public:
    static constexpr std::uint8_t none = n_alphabets;

    explicit Writings(const TokenTrie& trie);

    /// The smallest alphabet that `node` and all below it are written in, where a character begins
    /// with the byte of `node`; else `none`.
    std::uint8_t alphabet(std::size_t node) const { return nodes_[node].alphabet; }
    /// The most bytes from the byte of `node` on, at most 255.
    std::uint8_t length(std::size_t node) const { return nodes_[node].length; }
    std::size_t memory_bytes() const { return nodes_.capacity() * sizeof(Node); }

  private:
    struct Node {
        std::uint8_t alphabet = none, length = 1;
    };
    std::vector<Node> nodes_;
};

/// A trie, and what its parts are written in.
struct WrittenTrie {
    explicit WrittenTrie(TokenTrie of) : trie(std::move(of)), writings(trie) {}
    TokenTrie trie;
    Writings writings;
    std::size_t memory_bytes() const { return trie.memory_bytes() + writings.memory_bytes(); }
};

} // namespace engine
