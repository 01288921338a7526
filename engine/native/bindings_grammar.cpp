/// What Python sees of grammars: errors, vocabularies, building, matching.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "compiled.h"
#include "excess.h"
#include "matcher.h"

namespace engine {
namespace {

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

Unordered unordered(std::vector<Node> parts, const std::vector<std::uint32_t>& kinds,
                    Node separator) {
    if (parts.size() != kinds.size()) throw nb::value_error("a kind for each part");
    Unordered out{std::move(parts), 0, 0, separator};
    for (std::size_t i = 0; i < std::min(kinds.size(), Unordered::most); ++i) {
        if (kinds[i] > 2) throw nb::value_error("a kind is 0, 1 or 2");
        if (kinds[i] == 1) out.required |= 1ULL << i;
        if (kinds[i] == 2) out.endless |= 1ULL << i;
    }
    return out;
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
        .def(
            "unordered",
            [](Compiled& self, std::vector<Node> parts, const std::vector<std::uint32_t>& kinds,
               Node separator) {
                return self.add_unordered(unordered(std::move(parts), kinds, separator));
            },
            "parts"_a, "kinds"_a, "separator"_a,
            "The node of parts in any order, `separator` between two of them. The kinds: 0 comes "
            "at "
            "most once, 1 exactly once, 2 any number of times. ValueError for more than 62.")
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
            "schema_text",
            [](Compiled& self, const std::string& text) { return self.schema_text(text); },
            "source"_a,
            "The expression of the strings that a schema, JSON text, allows: their characters as "
            "they are. Raises the same.")
        .def(
            "add_resource",
            [](Compiled& self, const std::string& uri, const std::string& text) {
                self.add_resource(uri, text);
            },
            "uri"_a, "text"_a, "A document that schemas may refer to.")
        .def("finish", &Compiled::finish, "start"_a, "Makes `start` the grammar's start.");
}

} // namespace

void bind_grammar(nb::module_& m) {
    bind_errors(m);
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
        .def_prop_ro("memory_bytes", &Vocabulary::memory_bytes,
                     "With the masks of words that the grammars over it have filled in.")
        .def(
            "forget", [](const Vocabulary& self) { self.word_masks()->forget(); },
            "Drops the masks of words that all grammars share, as for a measurement from cold.");
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
                             return self.weakened();
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
        .def("captures",
             [](Matcher& self) {
                 const auto found = without_lock([&] { return self.captures(); });
                 std::vector<std::pair<std::string, nb::bytes>> out;
                 for (const auto& [name, data] : found)
                     out.emplace_back(name, nb::bytes(data.data(), data.size()));
                 return out;
             })
        .def(
            "progress",
            [](Matcher& self, std::size_t skip) {
                auto found = without_lock([&] { return self.progress(skip); });
                return std::pair(std::move(found.marks), found.certain_to);
            },
            "skip"_a = 0,
            "The begins and ends of captures (name, place, is an end) that are certain however the "
            "text goes on, and the place before which there are no others. Without the first "
            "`skip`, which were told before and cost nothing.")
        .def(
            "text",
            [](const Matcher& self, std::size_t begin, std::size_t end) {
                const std::string_view found = self.text(begin, end);
                return nb::bytes(found.data(), found.size());
            },
            "begin"_a, "end"_a,
            "A stretch of the text so far; special tokens have no bytes in it.");
}

} // namespace engine
