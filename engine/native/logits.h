/// What can be asked of one step's logits: the best, the best few, their total.
///
/// Knows float32 logits and a mask of allowed tokens. Does not know temperature, chance or texts.
///
/// A token whose logit is -infinity is no candidate, just as if the mask forbade it. Of equal
/// logits the lowest id wins. A logit that is allowed and is NaN or +infinity makes the whole
/// answer `nan`: nothing may be chosen from a model that computes such numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels.h"

namespace engine {

enum class Status {
    ok = 0,
    nan = 1,  ///< an allowed logit is NaN or +infinity
    none = 2, ///< no token is allowed, or all that are have -infinity
};

struct Candidate {
    float logit;
    std::int32_t id;

    /// Better first: the larger logit, then the lower id.
    friend bool operator<(const Candidate& a, const Candidate& b) {
        return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    }
};

struct Best {
    std::int32_t id = -1;
    float logit = minus_infinity;
    Status status = Status::none;
};

/// How many words the kernels take at once: 2,048 logits are 8 KiB, a quarter of an L1 cache.
inline constexpr std::size_t chunk_words = 64;

inline Status status_of(const kernel::Peak& peak) {
    if (peak.has_nan || peak.max == std::numeric_limits<float>::infinity()) return Status::nan;
    return peak.max == minus_infinity ? Status::none : Status::ok;
}

/// The largest allowed logit, without its id.
inline kernel::Peak peak(const Scores& scores) {
    kernel::Peak all;
    each_chunk(scores, std::numeric_limits<std::size_t>::max(), [&](const Blocks& blocks) {
        const auto here = kernel::peak(blocks.x, blocks.mask, blocks.n_words);
        all.max = std::max(all.max, here.max);
        all.has_nan |= here.has_nan;
    });
    return all;
}

/// The best allowed token. One pass over the logits, then one look through the winning chunk.
inline Best argmax(const Scores& scores) {
    kernel::Peak all;
    Blocks winner{};
    each_chunk(scores, chunk_words, [&](const Blocks& blocks) {
        const auto here = kernel::peak(blocks.x, blocks.mask, blocks.n_words);
        all.has_nan |= here.has_nan;
        if (here.max > all.max) {
            all.max = here.max;
            winner = blocks;
        }
    });
    Best best{-1, all.max, status_of(all)};
    if (best.status != Status::ok) return best;
    std::size_t token = winner.first;
    while (scores.logits[token] != all.max ||
           !(scores.bits(token / mask_bits) >> token % mask_bits & 1))
        ++token;
    best.id = std::int32_t(token);
    return best;
}

/// Appends every candidate whose logit is above `floor` to `out`, in order of ids.
///
/// `keep(out)` is called after each block of 32 that added some; it may drop candidates and gives
/// the floor for the blocks that follow.
template <class Keep>
void gather_above(const Scores& scores, float floor, std::vector<Candidate>& out, Keep&& keep) {
    each_chunk(scores, std::numeric_limits<std::size_t>::max(), [&](const Blocks& blocks) {
        std::size_t word = 0;
        while (true) {
            word = kernel::next_above(blocks.x, blocks.mask, word, blocks.n_words, floor);
            if (word == blocks.n_words) break;
            const std::size_t base = word * mask_bits;
            std::uint32_t bits = blocks.mask == nullptr ? ~0U : blocks.mask[word];
            for (; bits != 0; bits &= bits - 1) {
                const std::size_t i = base + std::size_t(std::countr_zero(bits));
                if (blocks.x[i] > floor)
                    out.push_back({blocks.x[i], std::int32_t(blocks.first + i)});
            }
            floor = keep(out);
            ++word;
        }
    });
}

inline void gather_above(const Scores& scores, float floor, std::vector<Candidate>& out) {
    gather_above(scores, floor, out, [floor](const auto&) { return floor; });
}

/// The `k` best candidates, best first, into `out`; fewer where there are fewer.
///
/// Keeps at most 2k + 256 candidates at any time and reads past every block of 32 that has nothing
/// better than the k-th best so far. Says nothing of NaN: NaN is never a candidate here.
inline void top_k(const Scores& scores, std::size_t k, std::vector<Candidate>& out) {
    out.clear();
    if (k == 0) return;
    const std::size_t capacity = 2 * std::min(k, scores.size()) + 256;
    float floor = minus_infinity;
    gather_above(scores, floor, out, [&](std::vector<Candidate>& kept) {
        if (kept.size() + mask_bits > capacity) {
            std::nth_element(kept.begin(), kept.begin() + std::ptrdiff_t(k - 1), kept.end());
            kept.resize(k);
            floor = kept[k - 1].logit; // a later token with this same logit has a higher id
        }
        return floor;
    });
    if (out.size() > k) {
        std::nth_element(out.begin(), out.begin() + std::ptrdiff_t(k - 1), out.end());
        out.resize(k);
    }
    std::sort(out.begin(), out.end());
}

/// The sum of exp((logit - max) * scale) over all candidates; `max` as `peak` gives it.
inline double sum_exp(const Scores& scores, float max, float scale = 1.0F) {
    double total = 0;
    each_chunk(scores, chunk_words, [&](const Blocks& blocks) {
        total += kernel::sum_exp(blocks.x, blocks.mask, blocks.n_words, max, scale);
    });
    return total;
}

struct Total {
    double value; // NaN where status is `nan`, -infinity where it is `none`
    Status status;
};

/// log(sum(exp(logit))) over all candidates: `exp(logit - value)` is a token's probability.
inline Total log_sum_exp(const Scores& scores) {
    const auto all = peak(scores);
    const Status status = status_of(all);
    if (status == Status::nan) return {std::numeric_limits<double>::quiet_NaN(), status};
    if (status == Status::none) return {double(minus_infinity), status};
    return {double(all.max) + std::log(sum_exp(scores, all.max)), status};
}

} // namespace engine
