/// What Python sees of logits, tries and sampling. The files of bindings alone know Python; they
/// convert, check the sizes of buffers, and let go of the interpreter lock while the others work.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "logits.h"
#include "needle.h"
#include "sample.h"
#include "token_trie.h"

namespace engine {
namespace {

using LogitsBuffer = Buffer<const float>;
using MaskBuffer = Buffer<const std::uint32_t>;
using OptionalMask = std::optional<MaskBuffer>;
using OptionalIds = std::optional<Buffer<const std::int32_t>>;

Scores scores(const LogitsBuffer& logits, const OptionalMask& mask) {
    if (mask) check_words(mask->size(), logits.size());
    return {{logits.data(), logits.size()}, mask ? mask->data() : nullptr};
}

std::span<const std::int32_t> ids(const OptionalIds& recent) {
    if (!recent) return {};
    return {recent->data(), recent->size()};
}

using Split = std::pair<Array<std::int32_t>, Array<float>>;

Split split(const std::vector<Candidate>& candidates) {
    std::vector<std::int32_t> ids;
    std::vector<float> logits;
    for (const Candidate& candidate : candidates) {
        ids.push_back(candidate.id);
        logits.push_back(candidate.logit);
    }
    return {to_array(std::move(ids)), to_array(std::move(logits))};
}

void bind_logits(nb::module_& m) {
    nb::enum_<Status>(m, "Status", nb::is_arithmetic(), "What became of looking at logits.")
        .value("ok", Status::ok)
        .value("nan", Status::nan, "An allowed logit is NaN or +infinity.")
        .value("none", Status::none, "No token is allowed, or all that are have -infinity.");
    m.def("mask_words", &mask_words, "n_vocab"_a, "How many uint32 words a mask has.");
    m.def(
        "count_allowed",
        [](const MaskBuffer& mask, std::size_t n_vocab) {
            check_words(mask.size(), n_vocab);
            return count_allowed({mask.data(), mask.size()}, n_vocab);
        },
        "mask"_a.noconvert(), "n_vocab"_a, "How many tokens below `n_vocab` the mask allows.");
    m.def(
        "argmax",
        [](const LogitsBuffer& logits, const OptionalMask& mask) {
            const Best best = without_lock([s = scores(logits, mask)] { return argmax(s); });
            return std::pair(best.id, best.status);
        },
        "logits"_a, "mask"_a.noconvert() = nb::none(),
        "The best allowed token, the lowest of equals; -1 unless the status is `ok`.");
    m.def(
        "top_k",
        [](const LogitsBuffer& logits, std::size_t k, const OptionalMask& mask) {
            std::vector<Candidate> best;
            without_lock([&, s = scores(logits, mask)] { top_k(s, k, best); });
            return split(best);
        },
        "logits"_a, "k"_a, "mask"_a.noconvert() = nb::none(),
        "Ids and logits of the k best allowed tokens, best first, lower ids first among equals.\n\n"
        "Tokens with -infinity or NaN are left out; ask `argmax` whether there is NaN.");
    m.def(
        "gather",
        [](const LogitsBuffer& logits, const OptionalMask& mask) {
            std::vector<Candidate> all;
            without_lock([&, s = scores(logits, mask)] { gather_above(s, minus_infinity, all); });
            return split(all);
        },
        "logits"_a, "mask"_a.noconvert() = nb::none(),
        "Ids and logits of all allowed tokens in order of ids, without those of -infinity or NaN.");
    m.def(
        "log_sum_exp",
        [](const LogitsBuffer& logits, const OptionalMask& mask) {
            const Total total = without_lock([s = scores(logits, mask)] { return log_sum_exp(s); });
            return std::pair(total.value, total.status);
        },
        "logits"_a, "mask"_a.noconvert() = nb::none(),
        "log(sum(exp(logit))) over the allowed tokens: exp(logit - it) is a probability.");
}

void bind_trie(nb::module_& m) {
    nb::class_<Needle>(m, "Needle",
                       "Finds one byte string in a stream of pieces. A state is the number of its "
                       "bytes that the stream's end matches; `len(needle)` means found, for good.")
        .def(
            "__init__", [](Needle* self, const nb::bytes& text) { new (self) Needle(view(text)); },
            "text"_a)
        .def("__len__", &Needle::size)
        .def_prop_ro(
            "text",
            [](const Needle& self) { return nb::bytes(self.text().data(), self.text().size()); })
        .def(
            "advance",
            [](const Needle& self, std::size_t state, const nb::bytes& data) {
                if (state > self.size()) throw nb::value_error("state is beyond the needle's end");
                return self.advance(state, view(data));
            },
            "state"_a, "data"_a, "The state after `data`.");

    const auto checked = [](const TokenTrie& self, Buffer<std::uint32_t>& mask) {
        check_words(mask.size(), self.n_vocab());
        return Mask(mask.data(), mask.size());
    };
    nb::class_<TokenTrie>(m, "TokenTrie",
                          "The vocabulary as a byte trie. Ids with equal bytes share a node; a "
                          "token without bytes is never found.")
        .def(
            "__init__",
            [](TokenTrie* self, const nb::bytes& data, const Buffer<const std::uint64_t>& offsets) {
                const std::span<const std::uint64_t> span(offsets.data(), offsets.size());
                without_lock([&, text = view(data)] { new (self) TokenTrie(text, span); });
            },
            "data"_a, "offsets"_a.noconvert(),
            "Token i is data[offsets[i]:offsets[i + 1]]; `offsets` is uint64, one more than "
            "tokens.")
        .def_prop_ro("n_vocab", &TokenTrie::n_vocab)
        .def_prop_ro("n_nodes", &TokenTrie::n_nodes)
        .def_prop_ro("memory_bytes", &TokenTrie::memory_bytes)
        .def_prop_ro("build_us", &TokenTrie::build_us, "Microseconds that building took.")
        .def(
            "ids_of",
            [](const TokenTrie& self, const nb::bytes& data) {
                const auto found = self.ids_of(view(data));
                return to_array(std::vector<std::int32_t>(found.begin(), found.end()));
            },
            "data"_a, "Every id whose bytes are exactly `data`, lowest first.")
        .def(
            "longest_match",
            [](const TokenTrie& self, const nb::bytes& data) {
                const Match match = self.longest_match(view(data));
                return std::pair(match.id, match.length);
            },
            "data"_a, "(id, length) of the longest token that `data` begins with, else (-1, 0).")
        .def(
            "mask_of_prefix",
            [checked](const TokenTrie& self, const nb::bytes& prefix, Buffer<std::uint32_t> mask) {
                const Mask words = checked(self, mask);
                return without_lock(
                    [&, p = view(prefix)] { return self.mask_of_prefix(p, words); });
            },
            "prefix"_a, "mask"_a.noconvert(),
            "Write into `mask` exactly the tokens that begin with `prefix`; returns how many.")
        .def(
            "tokens_containing",
            [checked](const TokenTrie& self, const Needle& needle, std::size_t state,
                      Buffer<std::uint32_t> mask) {
                const Mask words = checked(self, mask);
                return without_lock([&] { return self.tokens_containing(needle, state, words); });
            },
            "needle"_a, "state"_a, "mask"_a.noconvert(),
            "Write into `mask` exactly the tokens that complete `needle` from `state`; returns how "
            "many.\n\nOne walk of the whole trie: keep the masks, a needle has len(needle) of "
            "them.");
}

void bind_sampler(nb::module_& m) {
    nb::class_<Sampler>(
        m, "Sampler",
        "Chooses tokens as llama.cpp's chain does: penalties, top-k, top-p, min-p, "
        "temperature, chance. The same seed gives the same tokens on every machine.")
        .def(
            "__init__",
            [](Sampler* self, std::uint64_t seed, float temperature, std::int32_t top_k,
               float top_p, float min_p, float repeat, float frequency, float presence) {
                new (self)
                    Sampler({temperature, top_k, top_p, min_p, repeat, frequency, presence}, seed);
            },
            "seed"_a, nb::kw_only(), "temperature"_a = 0.8F, "top_k"_a = 40, "top_p"_a = 0.95F,
            "min_p"_a = 0.05F, "repeat"_a = 1.0F, "frequency"_a = 0.0F, "presence"_a = 0.0F,
            "temperature below 0.00001 is greedy; top_k 0, top_p 1, min_p 0 and repeat 1 are "
            "off.\n\n"
            "Raises ValueError naming a number that makes no sense.")
        .def_prop_rw("state", &Sampler::state, &Sampler::set_state,
                     "The random stream's state, one 64-bit number: copy it to fork or replay.")
        .def(
            "sample",
            [](Sampler& self, const LogitsBuffer& logits, const OptionalMask& mask,
               const OptionalIds& recent) {
                const Choice choice = without_lock(
                    [&, s = scores(logits, mask)] { return self.sample(s, ids(recent)); });
                return std::pair(choice.id, choice.status);
            },
            "logits"_a, "mask"_a.noconvert() = nb::none(), "recent"_a.noconvert() = nb::none(),
            "The next token's id, -1 unless the status is `ok`.\n\n`recent` (int32) are the ids "
            "that penalties count, in any order. IndexError for an id that is no token.")
        .def(
            "chances",
            [](Sampler& self, const LogitsBuffer& logits, const OptionalMask& mask,
               const OptionalIds& recent) {
                std::vector<Chance> chances;
                const Status status = without_lock([&, s = scores(logits, mask)] {
                    return self.chances(s, ids(recent), chances);
                });
                std::vector<std::int32_t> kept;
                std::vector<double> probabilities;
                for (const Chance& chance : chances) {
                    kept.push_back(chance.id);
                    probabilities.push_back(chance.probability);
                }
                return std::tuple(to_array(std::move(kept)), to_array(std::move(probabilities)),
                                  status);
            },
            "logits"_a, "mask"_a.noconvert() = nb::none(), "recent"_a.noconvert() = nb::none(),
            "What `sample` would choose among: ids and probabilities, best first, and the "
            "status.\n\n"
            "Leaves the random stream as it is.");
}

} // namespace
} // namespace engine

NB_MODULE(_native, m) {
    m.doc() = "The compiled core: token bytes as a trie, logits under a mask, sampling.";
    engine::bind_logits(m);
    engine::bind_trie(m);
    engine::bind_sampler(m);
    engine::bind_grammar(m);
}
