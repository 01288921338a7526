/// A set of byte values.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "interner.h"

namespace engine {

struct ByteSet {
    std::array<std::uint64_t, 4> words{};

    static constexpr ByteSet range(unsigned first, unsigned last) {
        ByteSet out;
        for (unsigned byte = first; byte <= last; ++byte) out.add(std::uint8_t(byte));
        return out;
    }
    static constexpr ByteSet all() { return {{~0ULL, ~0ULL, ~0ULL, ~0ULL}}; }
    static constexpr ByteSet one(std::uint8_t byte) { return range(byte, byte); }

    constexpr bool has(std::uint8_t byte) const { return words[byte >> 6] >> (byte & 63) & 1; }
    constexpr void add(std::uint8_t byte) { words[byte >> 6] |= 1ULL << (byte & 63); }
    constexpr void remove(std::uint8_t byte) { words[byte >> 6] &= ~(1ULL << (byte & 63)); }
    constexpr bool empty() const { return (words[0] | words[1] | words[2] | words[3]) == 0; }
    constexpr int count() const {
        int n = 0;
        for (const auto word : words) n += std::popcount(word);
        return n;
    }
    /// The lowest byte of a set that has one.
    constexpr std::uint8_t first() const {
        for (unsigned i = 0; i < 4; ++i)
            if (words[i] != 0) return std::uint8_t(i * 64 + unsigned(std::countr_zero(words[i])));
        return 0;
    }
    template <class Visit>
    constexpr void each(Visit&& visit) const {
        for (unsigned i = 0; i < 4; ++i)
            for (auto rest = words[i]; rest != 0; rest &= rest - 1)
                visit(std::uint8_t(i * 64 + unsigned(std::countr_zero(rest))));
    }

    friend constexpr ByteSet operator|(ByteSet a, const ByteSet& b) {
        for (unsigned i = 0; i < 4; ++i) a.words[i] |= b.words[i];
        return a;
    }
    friend constexpr ByteSet operator&(ByteSet a, const ByteSet& b) {
        for (unsigned i = 0; i < 4; ++i) a.words[i] &= b.words[i];
        return a;
    }
    friend constexpr ByteSet operator~(ByteSet a) {
        for (auto& word : a.words) word = ~word;
        return a;
    }
    constexpr bool operator==(const ByteSet&) const = default;
    std::uint64_t hash() const {
        std::uint64_t out = 0;
        for (const auto word : words) out = mix(out, word);
        return out;
    }
};

} // namespace engine
