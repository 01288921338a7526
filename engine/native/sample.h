/// Choosing the next token: penalties, top-k, top-p, min-p, temperature, chance.
///
/// Knows one step's logits, a mask and the recent tokens. Does not know texts or grammars.
///
/// The chain and the meaning of every number are llama.cpp's (src/llama-sampler.cpp: penalties,
/// top_k, top_p, min_p, temp, dist), but the vocabulary is never sorted whole, probabilities are
/// summed in double precision, and the same seed gives the same token on every machine.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "logits.h"

namespace engine {

/// SplitMix64: one 64-bit number of state, so saving, forking and replaying a stream is one copy.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state(seed) {}

    /// The next number in [0, 1): the top 53 bits of the next output, divided by 2^53.
    double uniform() {
        state += 0x9E3779B97F4A7C15ULL;
        std::uint64_t z = state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        return double((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
    }

    std::uint64_t state;
};

struct SamplingParameters {
    float temperature = 0.8F; ///< below 0.00001: the best token, no chance involved
    std::int32_t top_k = 40;  ///< keep the k best; 0 or less: all
    float top_p = 0.95F;      ///< keep the fewest best (one or more) that reach this; 1: all
    float min_p = 0.05F;      ///< keep those at least this fraction as probable as the best; 0: all
    float repeat = 1.0F;      ///< divide a recent token's logit (multiply it where negative)
    float frequency = 0.0F;   ///< subtract this for each time that a token is among the recent ones
    float presence = 0.0F;    ///< subtract this once from each recent token

    /// Below this, float32 can't tell the second best token's probability from 0 or the best's.
    bool is_greedy() const { return temperature < 1e-5F; }
    bool has_penalties() const { return repeat != 1.0F || frequency != 0.0F || presence != 0.0F; }

    /// Throws std::invalid_argument naming the number that makes no sense.
    void check() const {
        const auto require = [](bool good, const char* message) {
            if (!good) throw std::invalid_argument(message);
        };
        require(std::isfinite(temperature), "temperature must be a finite number");
        require(top_p >= 0.0F && top_p <= 1.0F, "top_p must be between 0 and 1");
        require(min_p >= 0.0F && min_p <= 1.0F, "min_p must be between 0 and 1");
        require(repeat > 0.0F && std::isfinite(repeat), "repeat must be a finite number above 0");
        require(std::isfinite(frequency), "frequency must be a finite number");
        require(std::isfinite(presence), "presence must be a finite number");
    }
};

/// A token that may be chosen, and with what probability.
struct Chance {
    std::int32_t id;
    double probability;
};

struct Choice {
    std::int32_t id = -1;
    Status status = Status::none;
};

/// Chooses tokens, one sequence's after another. Owns its memory and reuses it: after the first
/// calls a step allocates nothing. Calls from several threads wait for each other.
class Sampler {
  public:
    Sampler(const SamplingParameters& parameters, std::uint64_t seed)
        : parameters_(parameters), random_(seed) {
        parameters.check();
        if (parameters.min_p > 0.0F) reach_ = float(std::log(double(parameters.min_p)));
    }

    const SamplingParameters& parameters() const { return parameters_; }
    std::uint64_t state() const { return random_.state; }
    void set_state(std::uint64_t state) { random_.state = state; }

    /// The next token. `recent` are the ids that penalties count, in any order.
    ///
    /// Uses one number of the random stream, none when it is greedy or the status isn't `ok`.
    /// Throws std::out_of_range for a recent id that is no token.
    Choice sample(const Scores& scores, std::span<const std::int32_t> recent) {
        const std::lock_guard lock(mutex_);
        const Scores penalised = penalise(scores, recent);
        if (parameters_.is_greedy()) {
            const Best best = argmax(penalised);
            return {best.id, best.status};
        }
        if (keeps_all()) return draw_from_all(penalised);
        const Status status = keep(penalised);
        return {status == Status::ok ? draw() : -1, status};
    }

    /// What `sample` would choose among, best first. Leaves the random stream as it is. Allocates.
    Status chances(const Scores& scores, std::span<const std::int32_t> recent,
                   std::vector<Chance>& out) {
        const std::lock_guard lock(mutex_);
        out.clear();
        const Scores penalised = penalise(scores, recent);
        if (parameters_.is_greedy()) {
            const Best best = argmax(penalised);
            if (best.status == Status::ok) out.push_back({best.id, 1.0});
            return best.status;
        }
        const Status status = keep(penalised);
        if (status != Status::ok) return status;
        std::sort(kept_.begin(), kept_.end());
        const double total = weigh();
        for (std::size_t i = 0; i < kept_.size(); ++i)
            out.push_back({kept_[i].id, double(weights_[i]) / total});
        return status;
    }

  private:
    struct Chunk {
        std::size_t first; // its first token
        double sum;        // of its tokens' weights
    };

    bool keeps_all() const {
        return parameters_.top_k <= 0 && parameters_.top_p >= 1.0F && parameters_.min_p <= 0.0F;
    }

    /// The scores after penalties: the same buffer where none applies, else a copy with changes.
    Scores penalise(const Scores& scores, std::span<const std::int32_t> recent) {
        for (const std::int32_t id : recent)
            if (id < 0 || std::size_t(id) >= scores.size())
                throw std::out_of_range("a recent id is no token of this vocabulary");
        if (!parameters_.has_penalties() || recent.empty()) return scores;
        penalised_.assign(scores.logits.begin(), scores.logits.end());
        if (counts_.size() < scores.size()) counts_.resize(scores.size(), 0);
        for (const std::int32_t id : recent) ++counts_[std::size_t(id)];
        for (const std::int32_t id : recent) {
            const std::uint32_t count = std::exchange(counts_[std::size_t(id)], 0);
            if (count == 0) continue; // done already
            float& logit = penalised_[std::size_t(id)];
            logit = logit <= 0.0F ? logit * parameters_.repeat : logit / parameters_.repeat;
            logit -= float(count) * parameters_.frequency + parameters_.presence;
        }
        return {std::span<const float>(penalised_), scores.mask};
    }

    /// Leaves in kept_ what top-k, top-p and min-p keep.
    Status keep(const Scores& scores) {
        const auto all = peak(scores);
        const Status status = status_of(all);
        if (status != Status::ok) return status;
        if (parameters_.top_k > 0) {
            top_k(scores, std::size_t(parameters_.top_k), kept_);
            if (parameters_.top_p < 1.0F) cut_top_p(total_of_kept());
            cut_min_p();
        } else if (parameters_.top_p < 1.0F) {
            keep_top_p_of_all(scores, all.max);
            cut_min_p();
        } else {
            kept_.clear();
            gather_above(scores, floor_below(all.max), kept_);
        }
        return Status::ok;
    }

    /// The best of the whole vocabulary whose probabilities reach top_p.
    ///
    /// Candidates far below the best are looked at only when those nearer do not hold enough
    /// probability: most steps sort a few dozen. Those that min-p refuses are never looked at.
    void keep_top_p_of_all(const Scores& scores, float max) {
        const double total = sum_exp(scores, max);
        const float lowest = floor_below(max);
        for (float depth = 4.0F;; depth *= 2.0F) {
            const bool is_last = depth > 128.0F || max - depth <= lowest;
            kept_.clear();
            gather_above(scores, is_last ? lowest : max - depth, kept_);
            if (is_last || total_of_kept() >= double(parameters_.top_p) * total) break;
        }
        cut_top_p(total);
    }

    /// Shortens kept_ to the fewest best whose weights reach top_p of `total`. Keeps their order.
    ///
    /// Cost: linear. Weights are summed in buckets of equal steps of logit, and only the bucket in
    /// which the sum is reached is sorted.
    void cut_top_p(double total) {
        const auto [worst, best] = std::ranges::minmax(kept_, {}, &Candidate::logit);
        const float max = best.logit;
        const float range = max - worst.logit;
        const auto bucket_of = [&](const Candidate& c) {
            const float place = range > 0.0F ? (max - c.logit) / range : 0.0F;
            return std::size_t(place * float(buckets_.size() - 1));
        };
        buckets_.fill(0.0);
        for (const Candidate& c : kept_)
            buckets_[bucket_of(c)] += double(exp_of_nonpositive(c.logit - max));
        const double target = double(parameters_.top_p) * total;
        double sum = 0;
        std::size_t last = 0;
        while (last + 1 < buckets_.size() && sum + buckets_[last] < target) sum += buckets_[last++];

        edge_.clear();
        for (const Candidate& c : kept_)
            if (bucket_of(c) == last) edge_.push_back(c);
        if (edge_.empty()) return; // rounding left the target beyond everything
        std::sort(edge_.begin(), edge_.end());
        std::size_t i = 0;
        while (i + 1 < edge_.size() &&
               (sum += double(exp_of_nonpositive(edge_[i].logit - max))) < target)
            ++i;
        std::erase_if(kept_, [worst_kept = edge_[i]](const auto& c) { return worst_kept < c; });
    }

    void cut_min_p() {
        const float floor = floor_below(best_kept());
        std::erase_if(kept_, [floor](const Candidate& c) { return !(c.logit > floor); });
    }

    /// The largest float that min-p refuses when `max` is the best logit: llama.cpp keeps
    /// logit >= max + log(min_p), and what is kept here must be above the floor.
    float floor_below(float max) const {
        if (parameters_.min_p <= 0.0F) return minus_infinity;
        return std::nextafter(max + reach_, minus_infinity);
    }

    float best_kept() const {
        float max = minus_infinity;
        for (const Candidate& c : kept_) max = std::max(max, c.logit);
        return max;
    }

    double total_of_kept() const {
        const float max = best_kept();
        double total = 0;
        for (const Candidate& c : kept_) total += double(exp_of_nonpositive(c.logit - max));
        return total;
    }

    /// Each kept candidate's weight after temperature into weights_; returns their sum.
    double weigh() {
        const float max = best_kept();
        weights_.resize(kept_.size());
        double total = 0;
        for (std::size_t i = 0; i < kept_.size(); ++i) {
            weights_[i] = exp_of_nonpositive((kept_[i].logit - max) / parameters_.temperature);
            total += double(weights_[i]);
        }
        return total;
    }

    std::int32_t draw() {
        const double target = random_.uniform() * weigh();
        double sum = 0;
        std::size_t chosen = 0;
        for (std::size_t i = 0; i < kept_.size(); ++i) {
            if (weights_[i] <= 0.0F) continue;
            chosen = i; // the last that can be chosen, should rounding leave the target unreached
            sum += double(weights_[i]);
            if (sum > target) break;
        }
        return kept_[chosen].id;
    }

    /// Draws from every allowed token without making a list of them: first a chunk, then in it.
    Choice draw_from_all(const Scores& scores) {
        const auto all = peak(scores);
        const Status status = status_of(all);
        if (status != Status::ok) return {-1, status};
        const float scale = 1.0F / parameters_.temperature;
        chunks_.clear();
        double total = 0;
        each_chunk(scores, chunk_words, [&](const Blocks& blocks) {
            const double sum =
                kernel::sum_exp(blocks.x, blocks.mask, blocks.n_words, all.max, scale);
            if (sum > 0) chunks_.push_back({blocks.first, sum});
            total += sum;
        });
        double left = random_.uniform() * total;
        auto chunk = chunks_.begin(); // there is one: the best token's own weight is 1
        for (; chunk + 1 != chunks_.end() && left >= chunk->sum; ++chunk) left -= chunk->sum;
        const std::size_t last = std::min(chunk->first + chunk_words * mask_bits, scores.size());
        return {draw_between(scores, chunk->first, last, all.max, scale, left), Status::ok};
    }

    static std::int32_t draw_between(const Scores& scores, std::size_t first, std::size_t last,
                                     float max, float scale, double target) {
        double sum = 0;
        std::int32_t chosen = -1;
        for (std::size_t i = first; i < last; ++i) {
            if ((scores.bits(i / mask_bits) >> i % mask_bits & 1U) == 0) continue;
            const float weight = exp_of_nonpositive((scores.logits[i] - max) * scale);
            if (weight <= 0.0F) continue;
            chosen = std::int32_t(i);
            sum += double(weight);
            if (sum > target) break;
        }
        return chosen;
    }

    SamplingParameters parameters_;
    float reach_ = 0; // log(min_p)
    Random random_;
    std::mutex mutex_;
    std::vector<Candidate> kept_;
    std::vector<Candidate> edge_; // those about which top-p has to decide one by one
    std::array<double, 1024> buckets_{};
    std::vector<float> weights_;
    std::vector<float> penalised_;
    std::vector<std::uint32_t> counts_; // per token; all zero between calls
    std::vector<Chunk> chunks_;
};

} // namespace engine
