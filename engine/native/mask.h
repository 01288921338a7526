/// A set of tokens as bits: token `i` is in the set when bit `i % 32` of word `i / 32` is set.
///
/// Knows bits. Does not know tokens' bytes, logits or grammars.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "interner.h"

namespace engine {

using Mask = std::span<std::uint32_t>;
using ConstMask = std::span<const std::uint32_t>;

inline constexpr std::size_t mask_bits = 32;

/// How many words a mask over `n_vocab` tokens has.
constexpr std::size_t mask_words(std::size_t n_vocab) {
    return (n_vocab + mask_bits - 1) / mask_bits;
}

/// The bits of word `index` that stand for tokens below `n_vocab`.
constexpr std::uint32_t valid_bits(std::size_t index, std::size_t n_vocab) {
    const std::size_t first = index * mask_bits;
    if (first + mask_bits <= n_vocab) return ~0U;
    return first >= n_vocab ? 0U : (1U << (n_vocab - first)) - 1U;
}

constexpr void set_bit(Mask mask, std::size_t token) {
    mask[token / mask_bits] |= 1U << (token % mask_bits);
}

/// How many tokens below `n_vocab` the mask holds; bits beyond are ignored.
inline std::size_t count_allowed(ConstMask mask, std::size_t n_vocab) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < mask_words(n_vocab); ++i)
        count += std::size_t(std::popcount(mask[i] & valid_bits(i, n_vocab)));
    return count;
}

/// In lanes that don't wait for each other: a mask is long.
inline std::uint64_t hash_of(ConstMask mask) {
    constexpr std::size_t n_lanes = 8;
    std::uint64_t lanes[n_lanes];
    for (std::size_t lane = 0; lane < n_lanes; ++lane) lanes[lane] = mix(lane + 1);
    const auto add = [&](std::size_t lane, std::uint64_t word) {
        lanes[lane] = (lanes[lane] ^ word) * 0xbf58476d1ce4e5b9ULL;
        lanes[lane] ^= lanes[lane] >> 32;
    };
    std::size_t at = 0;
    for (; at + 2 * n_lanes <= mask.size(); at += 2 * n_lanes)
        for (std::size_t lane = 0; lane < n_lanes; ++lane)
            add(lane, std::uint64_t(mask[at + 2 * lane]) << 32 | mask[at + 2 * lane + 1]);
    for (; at < mask.size(); ++at) add(at % n_lanes, mask[at]);
    std::uint64_t out = mask.size();
    for (const auto lane : lanes) out = mix(out, lane);
    return out;
}

} // namespace engine
