/// The loops over whole logits buffers, in a form that compilers turn into AVX2 or NEON.
///
/// Knows floats and mask bits, 32 at a time. Does not know sampling or token texts.
///
/// Every sum is made of 32 lanes added in a fixed order, `exp` is our own, and the build forbids
/// fused multiply-add: the same buffer gives the same bits on every machine.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "mask.h"

// One copy of a loop for AVX2 and one for any x86-64, chosen when the module loads. Elsewhere the
// baseline has vectors anyway (NEON on Apple Silicon and other arm64). Not with Clang: version 16
// leaves out inline functions that only the copies call, and the module does not load.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define ENGINE_VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define ENGINE_VECTORISED
#endif

namespace engine {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Logits with the mask that says which of them count; a null `mask` allows all.
struct Scores {
    std::span<const float> logits;
    const std::uint32_t* mask = nullptr;

    std::size_t size() const { return logits.size(); }
    std::uint32_t bits(std::size_t word) const {
        const std::uint32_t valid = valid_bits(word, logits.size());
        return mask == nullptr ? valid : mask[word] & valid;
    }
};

/// e to the power of `x`, for x <= 0. Relative error below 2e-7; 0 for x < -87 and for -infinity.
inline float exp_of_nonpositive(float x) {
    constexpr float log2_e = 1.44269504088896341F;
    constexpr float ln2_high = 0.693359375F; // exact in 9 bits, so that n * ln2_high is exact
    constexpr float ln2_low = -2.12194440e-4F;
    constexpr float to_integer = 12582912.0F; // 1.5 * 2^23: adding it rounds to a whole number
    const float clamped = x < -87.0F ? -87.0F : x;
    const float shifted = clamped * log2_e + to_integer;
    const float n = shifted - to_integer;
    const float r = (clamped - n * ln2_high) - n * ln2_low;
    float p = 1.9875691500e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    const auto power =
        std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(to_integer);
    const auto scaled = p * std::bit_cast<float>((power + 127U) << 23);
    return x < -87.0F ? 0.0F : scaled;
}

namespace kernel {

inline constexpr std::size_t lanes = mask_bits;

/// Bit `j` at `j`: a table, because a shift by a variable is not a vector instruction before AVX2.
inline constexpr auto lane_bit = [] {
    std::array<std::uint32_t, lanes> table{};
    for (std::size_t j = 0; j < lanes; ++j) table[j] = 1U << j;
    return table;
}();

/// `value` where `bit` is in `bits`, else -infinity. In integers: as a choice between floats, GCC
/// 12 makes X
inline float allowed_or_minus_infinity(float value, std::uint32_t bits, std::uint32_t bit) {
    const std::uint32_t keep = (bits & bit) != 0 ? ~0U : 0U;
    const std::uint32_t refused = std::bit_cast<std::uint32_t>(minus_infinity) & ~keep;
    return std::bit_cast<float>((std::bit_cast<std::uint32_t>(value) & keep) | refused);
}

struct Peak {
    float max = minus_infinity; // of the numbers among the allowed logits
    bool has_nan = false;
};

/// The largest of `n_words` x 32 allowed logits, and whether any of them is not a number.
ENGINE_VECTORISED static Peak peak(const float* x, const std::uint32_t* mask, std::size_t n_words) {
    float best[lanes];
    std::uint32_t nan[lanes] = {};
    for (float& value : best) value = minus_infinity;
    for (std::size_t word = 0; word < n_words; ++word, x += lanes) {
        const std::uint32_t bits = mask == nullptr ? ~0U : mask[word];
        if (bits == 0) continue;
        if (bits == ~0U) {
            for (std::size_t j = 0; j < lanes; ++j) {
                best[j] = x[j] > best[j] ? x[j] : best[j];
                nan[j] |= x[j] != x[j] ? 1U : 0U;
            }
        } else {
            for (std::size_t j = 0; j < lanes; ++j) {
                const float value = allowed_or_minus_infinity(x[j], bits, lane_bit[j]);
                best[j] = value > best[j] ? value : best[j];
                nan[j] |= value != value ? 1U : 0U;
            }
        }
    }
    Peak out;
    for (std::size_t j = 0; j < lanes; ++j) {
        out.max = best[j] > out.max ? best[j] : out.max;
        out.has_nan |= nan[j] != 0;
    }
    return out;
}

/// The sum of exp((x - max) * scale) over the allowed logits, none of which exceeds `max`.
ENGINE_VECTORISED static double sum_exp(const float* x, const std::uint32_t* mask,
                                        std::size_t n_words, float max, float scale) {
    float sums[lanes] = {};
    for (std::size_t word = 0; word < n_words; ++word, x += lanes) {
        const std::uint32_t bits = mask == nullptr ? ~0U : mask[word];
        if (bits == 0) continue;
        for (std::size_t j = 0; j < lanes; ++j) {
            const float weight = exp_of_nonpositive((x[j] - max) * scale);
            sums[j] += (bits & lane_bit[j]) != 0 ? weight : 0.0F;
        }
    }
    double total = 0;
    for (const float sum : sums) total += double(sum);
    return total;
}

/// The first word in [word, n_words) with an allowed logit above `floor`, n_words if there is none.
ENGINE_VECTORISED static std::size_t next_above(const float* x, const std::uint32_t* mask,
                                                std::size_t word, std::size_t n_words,
                                                float floor) {
    for (; word < n_words; ++word) {
        const std::uint32_t bits = mask == nullptr ? ~0U : mask[word];
        if (bits == 0) continue;
        const float* block = x + word * lanes;
        std::uint32_t hits = 0;
        for (std::size_t j = 0; j < lanes; ++j) hits |= block[j] > floor ? lane_bit[j] : 0U;
        if ((hits & bits) != 0) return word;
    }
    return n_words;
}

} // namespace kernel

/// A stretch of whole 32-logit blocks, ready for the kernels.
struct Blocks {
    const float* x;
    const std::uint32_t* mask;
    std::size_t n_words;
    std::size_t first; // the token of x[0]
};

/// The end of a buffer whose size is no multiple of 32, filled up with logits of -infinity.
class PaddedTail {
  public:
    explicit PaddedTail(const Scores& scores) {
        const std::size_t word = scores.size() / kernel::lanes;
        first_ = word * kernel::lanes;
        const std::size_t count = scores.size() - first_;
        if (count == 0) return;
        padded_.fill(minus_infinity);
        std::memcpy(padded_.data(), scores.logits.data() + first_, count * sizeof(float));
        bits_ = scores.bits(word);
    }
    Blocks blocks() const { return {padded_.data(), &bits_, bits_ == 0 ? 0U : 1U, first_}; }

  private:
    std::array<float, kernel::lanes> padded_{};
    std::uint32_t bits_ = 0;
    std::size_t first_ = 0;
};

/// Calls `visit(Blocks)` for the whole buffer, at most `chunk` words at a time, in order of tokens.
template <class Visit>
void each_chunk(const Scores& scores, std::size_t chunk, Visit&& visit) {
    const std::size_t whole = scores.size() / kernel::lanes;
    for (std::size_t word = 0; word < whole; word += chunk) {
        const std::size_t first = word * kernel::lanes;
        visit(Blocks{scores.logits.data() + first,
                     scores.mask == nullptr ? nullptr : scores.mask + word,
                     whole - word < chunk ? whole - word : chunk, first});
    }
    const PaddedTail tail(scores);
    if (tail.blocks().n_words != 0) visit(tail.blocks());
}

} // namespace engine
