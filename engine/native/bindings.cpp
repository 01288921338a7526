/// What Python sees of the native code. The only file here that knows Python; it converts, checks
/// the sizes of buffers, and lets go of the interpreter lock while the headers work.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "compiled.h"
#include "excess.h"
#include "logits.h"
#include "mask.h"
#include "matcher.h"
#include "needle.h"
#include "sample.h"
#include "token_trie.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace engine {
namespace {

template <class T>
using Buffer = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Array = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

using LogitsBuffer = Buffer<const float>;
using MaskBuffer = Buffer<const std::uint32_t>;
using OptionalMask = std::optional<MaskBuffer>;
using OptionalIds = std::optional<Buffer<const std::int32_t>>;

template <class T>
Array<T> to_array(std::vector<T>&& values) {
    auto* owned = new std::vector<T>(std::move(values));
    nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return Array<T>(owned->data(), {owned->size()}, owner);
}

std::string_view view(const nb::bytes& data) {
    return {static_cast<const char*>(data.data()), data.size()};
}

/// A mask of any other length belongs to another vocabulary, or is no bit mask at all.
void check_words(std::size_t words, std::size_t n_vocab) {
    if (words != mask_words(n_vocab))
        throw nb::value_error(("a mask over " + std::to_string(n_vocab) + " tokens has " +
                               std::to_string(mask_words(n_vocab)) + " words, this one has " +
                               std::to_string(words))
                                  .c_str());
}

Scores scores(const LogitsBuffer& logits, const OptionalMask& mask) {
    if (mask) check_words(mask->size(), logits.size());
    return {{logits.data(), logits.size()}, mask ? mask->data() : nullptr};
}

std::span<const std::int32_t> ids(const OptionalIds& recent) {
    if (!recent) return {};
    return {recent->data(), recent->size()};
}

template <class Work>
auto without_lock(Work&& work) {
    const nb::gil_scoped_release release;
    return work();
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

using Ranges = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
using Property = std::function<Ranges(const std::string&)>;

/// Python's errors with what they carry as their arguments.
void bind_errors(nb::module_& m) {
    const auto document = [](nb::handle error, const char* text) {
        nb::setattr(error, "__doc__", nb::str(text));
    };
    document(nb::exception<PatternError>(m, "PatternError", PyExc_ValueError),
             "A pattern that can't be read or isn't regular: (message, offset).");
    document(nb::exception<SchemaError>(m, "SchemaError", PyExc_ValueError),
             "A schema that is wrong or can't be enforced: (message, pointer, keyword).");
    document(nb::exception<JsonError>(m, "JsonError", PyExc_ValueError),
             "A text that is no JSON: (message, offset).");
    document(
        nb::exception<TooComplex>(m, "TooComplex", PyExc_ValueError),
        "A limit on work or memory was reached: (message,), or (message, option, limit, found, "
        "pointer) where the limit is an option.");
    nb::register_exception_translator(
        [](const std::exception_ptr& error, void* payload) {
            const auto raise = [&](const char* name, const nb::tuple& arguments) {
                const nb::module_ module = nb::borrow<nb::module_>(static_cast<PyObject*>(payload));
                PyErr_SetObject(module.attr(name).ptr(), arguments.ptr());
            };
            try {
                std::rethrow_exception(error);
            } catch (const PatternError& e) {
                raise("PatternError", nb::make_tuple(std::string(e.what()), e.offset));
            } catch (const SchemaError& e) {
                raise("SchemaError", nb::make_tuple(std::string(e.what()), e.pointer, e.keyword));
            } catch (const LimitExceeded& e) {
                raise("TooComplex",
                      nb::make_tuple(std::string(e.what()), e.option, e.most, e.found, e.pointer));
            } catch (const JsonError& e) {
                raise("JsonError", nb::make_tuple(std::string(e.what()), e.offset));
            }
        },
        m.ptr());
}

PatternOptions pattern_options(const std::optional<Property>& property) {
    PatternOptions options;
    if (property)
        options.property = [ask = *property](const std::string& name) {
            const nb::gil_scoped_acquire lock;
            return CodePoints(ask(name));
        };
    return options;
}

/// Sets the limits that are named; the others keep their defaults.
void set_limits(SchemaOptions& options, const std::map<std::string, std::size_t>& limits) {
    const std::map<std::string, std::size_t*> known{
        {"depth", &options.max_depth},       {"properties", &options.max_properties},
        {"enum_values", &options.max_enum},  {"pattern_length", &options.pattern.max_length},
        {"branches", &options.max_branches}, {"steps", &options.max_steps},
    };
    for (const auto& [name, value] : limits) {
        const auto found = known.find(name);
        if (found == known.end()) throw nb::value_error(("no limit is called " + name).c_str());
        *found->second = value;
    }
}

SchemaOptions schema_options(const std::string& escapes, bool any_order, bool best_effort,
                             bool checks_formats, const std::optional<Property>& property) {
    SchemaOptions options;
    if (escapes != "needed" && escapes != "any")
        throw nb::value_error("escapes must be 'needed' or 'any'");
    options.writing = escapes == "any" ? Writing::json : Writing::json_needed;
    options.any_order = any_order;
    options.best_effort = best_effort;
    options.checks_formats = checks_formats;
    options.pattern = pattern_options(property);
    return options;
}

/// The members of Grammar that make expressions and rules.
void bind_building(nb::class_<Compiled>& grammar) {
    using Kind = GrammarNode::Kind;
    const auto list = [](const std::vector<std::uint32_t>& parts) {
        return std::span<const std::uint32_t>(parts);
    };
    grammar
        .def(
            "literal",
            [](Compiled& self, const nb::bytes& text) {
                return self.expressions().text(view(text));
            },
            "data"_a, "The expression of exactly these bytes.")
        .def(
            "pattern",
            [](Compiled& self, const std::string& pattern, bool dot_all, bool ignore_case,
               bool is_rust, const std::optional<Property>& property) {
                PatternOptions options = pattern_options(property);
                options.dot_all = dot_all;
                options.ignore_case = ignore_case;
                options.is_rust = is_rust;
                options.max_length = self.max_pattern_length();
                return self.pattern(pattern, options);
            },
            "pattern"_a, nb::kw_only(), "dot_all"_a = false, "ignore_case"_a = false,
            "rust"_a = false, "property"_a = nb::none(),
            "The expression of a regular expression that matches from end to end. Raises "
            "PatternError(message, offset).")
        .def(
            "concat",
            [](Compiled& self, const std::vector<Expr>& parts) {
                Expr out = Expressions::empty;
                for (auto part = parts.rbegin(); part != parts.rend(); ++part)
                    out = self.expressions().concat(*part, out);
                return out;
            },
            "parts"_a)
        .def(
            "either",
            [list](Compiled& self, const std::vector<Expr>& parts) {
                return self.expressions().either(list(parts));
            },
            "parts"_a)
        .def(
            "both",
            [list](Compiled& self, const std::vector<Expr>& parts) {
                return self.expressions().both(list(parts));
            },
            "parts"_a)
        .def(
            "negate",
            [](Compiled& self, Expr e) {
                return self.expressions().minus(self.pattern("(?s:.)*", {.is_rust = true}), e);
            },
            "expression"_a, "Any text that the expression doesn't match.")
        .def(
            "repeat",
            [](Compiled& self, Expr e, std::uint32_t min, std::optional<std::uint32_t> max) {
                return self.expressions().repeat(e, min, max.value_or(Expressions::forever));
            },
            "expression"_a, "min"_a, "max"_a = nb::none())
        .def(
            "is_dead", [](Compiled& self, Expr e) { return self.expressions().is_dead(e); },
            "expression"_a, "Whether nothing matches.")
        .def(
            "is_nullable", [](Compiled& self, Expr e) { return self.expressions().nullable(e); },
            "expression"_a, "Whether the empty text matches.")
        .def(
            "word", [](Compiled& self, Expr e) { return self.add(Kind::word, e, 0, 0); },
            "expression"_a, "The node of a text that an expression matches.")
        .def(
            "token",
            [](Compiled& self, std::uint32_t id) { return self.add(Kind::token, id, 0, 0); },
            "id"_a, "The node of a token by its id.")
        .def(
            "sequence",
            [list](Compiled& self, const std::vector<Node>& parts) {
                return self.add_list(Kind::sequence, list(parts));
            },
            "parts"_a)
        .def(
            "choice",
            [list](Compiled& self, const std::vector<Node>& parts) {
                return self.add_list(Kind::choice, list(parts));
            },
            "parts"_a)
        .def(
            "times",
            [](Compiled& self, Node node, std::uint32_t min, std::optional<std::uint32_t> max) {
                return self.add(Kind::repeat, node, min, max.value_or(Expressions::forever));
            },
            "node"_a, "min"_a, "max"_a = nb::none())
        .def("declare", &Compiled::declare, "A new rule's number.")
        .def("define", &Compiled::define, "rule"_a, "node"_a)
        .def(
            "rule",
            [](Compiled& self, std::uint32_t rule) { return self.add(Kind::rule, rule, 0, 0); },
            "rule"_a, "The node that refers to a rule.")
        .def(
            "capture",
            [](Compiled& self, const std::string& name, Node node) {
                return self.add(Kind::capture, self.capture(name), node, 0);
            },
            "name"_a, "node"_a)
        .def(
            "schema", [](Compiled& self, const std::string& text) { return self.schema(text); },
            "text"_a,
            "The node of a JSON value that a schema, JSON text, allows. Raises SchemaError("
            "message, pointer, keyword), JsonError, TooComplex.")
        .def(
            "add_resource",
            [](Compiled& self, const std::string& uri, const std::string& text) {
                self.add_resource(uri, text);
            },
            "uri"_a, "text"_a, "A document that schemas may refer to.")
        .def("finish", &Compiled::finish, "start"_a, "Makes `start` the grammar's start.");
}

void bind_grammar(nb::module_& m) {
    nb::class_<Vocabulary>(m, "Vocabulary", "Tokens made ready for grammars; set up once.")
        .def(
            "__init__",
            [](Vocabulary* self, const nb::bytes& data, const Buffer<const std::uint64_t>& offsets,
               std::vector<std::int32_t> ends) {
                const std::span<const std::uint64_t> span(offsets.data(), offsets.size());
                without_lock(
                    [&, text = view(data)] { new (self) Vocabulary(text, span, std::move(ends)); });
            },
            "data"_a, "offsets"_a.noconvert(), "ends"_a)
        .def_prop_ro("n_vocab", &Vocabulary::n_vocab)
        .def(
            "is_extended",
            [](const Vocabulary& self, const nb::bytes& data) {
                const std::size_t node = self.trie().find(view(data));
                return node != TokenTrie::none && self.trie().end(node) > node + 1;
            },
            "data"_a, "Whether some token begins with `data` and is longer.")
        .def_prop_ro("build_us", &Vocabulary::build_us)
        .def_prop_ro("memory_bytes", &Vocabulary::memory_bytes);
    nb::class_<Compiled> grammar(
        m, "Grammar", "A grammar, built node by node, then matched by any number of matchers.");
    grammar.def(
        "__init__",
        [](Compiled* self, std::shared_ptr<Vocabulary> vocabulary, const std::string& escapes,
           bool any_order, bool best_effort, bool checks_formats,
           const std::optional<std::vector<std::string>>& spacing,
           const std::optional<Property>& property,
           const std::map<std::string, std::size_t>& limits) {
            SchemaOptions options =
                schema_options(escapes, any_order, best_effort, checks_formats, property);
            set_limits(options, limits);
            new (self) Compiled(std::move(vocabulary), std::move(options));
            if (spacing) self->set_spacing(*spacing);
        },
        "vocabulary"_a, nb::kw_only(), "escapes"_a = "needed", "any_order"_a = false,
        "best_effort"_a = false, "checks_formats"_a = true, "spacing"_a = nb::none(),
        "property"_a = nb::none(), "limits"_a = std::map<std::string, std::size_t>{},
        "`spacing` are four patterns: behind an opening bracket, before a closing one, the comma, "
        "the colon. `property` gives the ranges of a Unicode property. `limits` may name depth, "
        "properties, enum_values, pattern_length, branches and steps.");
    bind_building(grammar);
    grammar
        .def_prop_ro("weakened",
                     [](Compiled& self) {
                         return without_lock([&] {
                             const auto lock = self.lock();
                             return self.schemas().weakened();
                         });
                     })
        .def_prop_ro("memory_bytes",
                     [](Compiled& self) {
                         return without_lock([&] {
                             const auto lock = self.lock();
                             return self.memory_bytes();
                         });
                     })
        .def_rw("memory_limit", &Compiled::memory_limit);
    nb::class_<Matcher>(m, "Matcher", "One walk through a grammar, a token at a time.")
        .def(nb::init<std::shared_ptr<Compiled>>(), "grammar"_a)
        .def(
            "mask",
            [](Matcher& self, Buffer<std::uint32_t> mask) {
                check_words(mask.size(), self.n_vocab());
                without_lock([&] { self.mask({mask.data(), mask.size()}); });
            },
            "mask"_a.noconvert(), "Writes the tokens that may follow.")
        .def_prop_ro(
            "knows_mask",
            [](Matcher& self) { return without_lock([&] { return self.knows_mask(); }); },
            "Whether `mask` has nothing to work out here.")
        .def(
            "allows",
            [](Matcher& self, std::int32_t t) {
                return without_lock([&] { return self.allows(t); });
            },
            "token"_a)
        .def(
            "advance",
            [](Matcher& self, std::int32_t t) {
                return without_lock([&] { return self.advance(t); });
            },
            "token"_a, "False, and nothing changes, where the token is refused.")
        .def(
            "advance_bytes",
            [](Matcher& self, const nb::bytes& data) {
                return without_lock([&, text = view(data)] { return self.advance(text); });
            },
            "data"_a)
        .def("rewind", &Matcher::rewind, "count"_a)
        .def("fork", [](const Matcher& self) { return new Matcher(self); })
        .def("__len__", &Matcher::length)
        .def_prop_ro(
            "is_accepting",
            [](Matcher& self) { return without_lock([&] { return self.is_accepting(); }); })
        .def_prop_ro("is_done",
                     [](Matcher& self) { return without_lock([&] { return self.is_done(); }); })
        .def(
            "forced",
            [](Matcher& self, std::size_t most) {
                const std::string out = without_lock([&] { return self.forced(most); });
                return nb::bytes(out.data(), out.size());
            },
            "most"_a = 4096, "The bytes that must come, as far as there is no choice.")
        .def("first_bytes",
             [](Matcher& self) {
                 std::string out;
                 const ByteSet bytes = without_lock([&] { return self.first_bytes(); });
                 bytes.each([&](std::uint8_t byte) { out += char(byte); });
                 return nb::bytes(out.data(), out.size());
             })
        .def(
            "explain",
            [](Matcher& self, std::int32_t token) {
                const auto found = without_lock([&] { return self.explain(token); });
                std::string bytes;
                found.bytes.each([&](std::uint8_t byte) { bytes += char(byte); });
                return std::tuple(found.taken, nb::bytes(bytes.data(), bytes.size()),
                                  found.expected);
            },
            "token"_a,
            "How many bytes of a token are taken before it is refused, the bytes that could stand "
            "there, and what could in words.")
        .def(
            "allowed_summary",
            [](Matcher& self) {
                const std::string out = without_lock([&] { return self.allowed_summary(); });
                return nb::str(out.data(), out.size());
            },
            "What may come next, in words for people.")
        .def("captures", [](Matcher& self) {
            const auto found = without_lock([&] { return self.captures(); });
            std::vector<std::pair<std::string, nb::bytes>> out;
            for (const auto& [name, data] : found)
                out.emplace_back(name, nb::bytes(data.data(), data.size()));
            return out;
        });
}

} // namespace
} // namespace engine

NB_MODULE(_native, m) {
    m.doc() = "The compiled core: token bytes as a trie, logits under a mask, sampling.";
    engine::bind_logits(m);
    engine::bind_trie(m);
    engine::bind_sampler(m);
    engine::bind_errors(m);
    engine::bind_grammar(m);
}
