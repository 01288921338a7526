/// Random patterns, schemas and rules, and a vocabulary that cuts their texts at odd places.
///
/// The same for the same seed, on any machine.
#pragma once

#include <array>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "compiled.h"

namespace engine {

class Chance {
  public:
    explicit Chance(std::uint64_t seed) : random_(seed) {}
    std::size_t below(std::size_t n) { return std::size_t(random_() % n); }
    bool one_in(std::size_t n) { return below(n) == 0; }
    template <class T>
    const T& of(const std::vector<T>& from) {
        return from[below(from.size())];
    }

  private:
    std::mt19937_64 random_;
};

inline const std::vector<std::string> words{
    "{\"",  "\": ", "\"}",   "\", \"",       "}}",       "[[", "]]",      ", ",
    "null", "true", "false", "ab",           "abc",      "a",  "name",    "12",
    "1.5",  "-1",   "\\u00", "\xec\x84\x9c", "\xec\x9a", "  ", "\"a\": 1"};

inline std::shared_ptr<const Vocabulary> vocabulary() {
    std::string data;
    std::vector<std::uint64_t> offsets{0};
    const auto add = [&](const std::string& token) {
        data += token;
        offsets.push_back(data.size());
    };
    for (int byte = 0; byte < 256; ++byte) add(std::string(1, char(byte)));
    for (const auto& word : words) add(word);
    for (int special = 0; special < 3; ++special) add("");
    return std::make_shared<Vocabulary>(
        data, offsets, std::vector<std::int32_t>{std::int32_t(offsets.size() - 2)});
}

inline std::string mutated(std::string text, Chance& chance) {
    for (std::size_t n = chance.below(4); n > 0 && !text.empty(); --n) {
        const std::size_t at = chance.below(text.size());
        switch (chance.below(3)) {
        case 0:
            text[at] = char(chance.below(256));
            break;
        case 1:
            text.erase(at, 1 + chance.below(4));
            break;
        default:
            text.insert(at, text.substr(chance.below(text.size()), chance.below(8)));
        }
    }
    return text;
}

inline std::string random_pattern(Chance& chance, int depth) {
    static const std::vector<std::string> atoms{"a",     "b",       ".",
                                                "\\d",   "\\w",     "\\S",
                                                "[a-c]", "[^\"]",   "\xec\x84\x9c",
                                                "\\b",   "\\B",     "^",
                                                "$",     "\\u00e9", "[\\x00-\\x1f]",
                                                "\\n",   "[]",      "[^]",
                                                "\\\\",  "\"",      "(?:)",
                                                "1",     " ",       "-"};
    static const std::vector<std::string> marks{"*",    "+",       "?",  "{2}",  "{1,3}",
                                                "{2,}", "{0,200}", "*?", "{,2}", "{4000000000}"};
    std::string out;
    for (std::size_t n = 1 + chance.below(4); n > 0; --n) {
        if (depth > 0 && chance.one_in(4)) {
            static const std::vector<std::string> openings{
                "(", "(?:", "(?=", "(?!", "(?i:", "(?<n>"};
            out += chance.of(openings) + random_pattern(chance, depth - 1) + ")";
        } else {
            out += chance.of(atoms);
        }
        if (chance.one_in(3)) out += chance.of(marks);
    }
    return chance.one_in(4) && depth > 0 ? out + "|" + random_pattern(chance, depth - 1) : out;
}

inline std::string in_json(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

inline std::string random_schema(Chance& chance, int depth) {
    const auto inner = [&] { return depth > 0 ? random_schema(chance, depth - 1) : "true"; };
    const auto number = [&] { return std::to_string(chance.below(6)); };
    std::string out = "{";
    const auto add = [&](const std::string& key, const std::string& value) {
        out += (out.size() > 1 ? "," : "") + in_json(key) + ":" + value;
    };
    for (std::size_t n = 1 + chance.below(3); n > 0; --n) {
        switch (chance.below(19)) {
        case 0: {
            static const std::vector<std::string> types{
                "\"object\"",  "\"array\"",   "\"string\"",           "\"number\"",
                "\"integer\"", "\"boolean\"", "[\"null\",\"string\"]"};
            add("type", chance.of(types));
            break;
        }
        case 1:
            add("properties", "{\"a\":" + inner() + ",\"name\":" + inner() + ",\"ab\":true}");
            break;
        case 2:
            add("required", "[\"name\"]");
            break;
        case 3:
            add("additionalProperties", chance.one_in(2) ? "false" : inner());
            break;
        case 4:
            add("items", inner());
            break;
        case 5:
            add("prefixItems", "[" + inner() + "," + inner() + "]");
            break;
        case 6:
            add(chance.one_in(2) ? "anyOf" : "oneOf", "[" + inner() + "," + inner() + "]");
            break;
        case 7:
            add("allOf", "[" + inner() + "," + inner() + "]");
            break;
        case 8:
            add("not", inner());
            break;
        case 9:
            add("pattern", in_json(random_pattern(chance, 1)));
            break;
        case 10:
            add(chance.one_in(2) ? "maxLength" : "minLength", number());
            break;
        case 11:
            add(chance.one_in(2) ? "minimum" : "exclusiveMaximum", "-" + number() + ".5");
            break;
        case 12:
            add("multipleOf", chance.one_in(2) ? "0.5" : "3");
            break;
        case 13:
            add("enum", "[1,\"a\",null,{\"a\":[]},\"\\ud83d\\ude00\",-0.0,1e2]");
            break;
        case 14:
            add(chance.one_in(2) ? "minProperties" : "maxItems", number());
            break;
        case 15:
            add("contains", inner());
            if (chance.one_in(2)) add("maxContains", number());
            break;
        case 16:
            add(chance.one_in(2) ? "maxProperties" : "minItems", number());
            break;
        case 17:
            add("dependentRequired",
                chance.one_in(2) ? "{\"a\":[\"name\"],\"name\":[\"b\"]}" : "{\"ab\":[\"a\"]}");
            break;
        default:
            add("patternProperties",
                "{" + in_json(random_pattern(chance, 0)) + ":" + inner() + "}");
        }
    }
    return out + "}";
}

/// Rules that begin with text, so that none is left-recursive.
inline Node random_rules(Compiled& grammar, Chance& chance) {
    using Kind = GrammarNode::Kind;
    constexpr std::size_t n_rules = 4;
    for (std::size_t i = 0; i < n_rules; ++i) grammar.declare();
    const auto word = [&] {
        static const std::vector<std::string> texts{"a",          "ab", "(", "[0-9]+",
                                                    "[a-z]{1,3}", "\"", "1"};
        PatternOptions options;
        options.is_rust = true;
        std::string text = chance.of(texts);
        if (text == "(") text = "\\(";
        return grammar.add(Kind::word, grammar.pattern(text, options), 0, 0);
    };
    const auto part = [&] {
        Node node = 0;
        switch (chance.below(6)) {
        case 0:
            // A token without bytes, or one that is text as well.
            node = grammar.add(
                Kind::token,
                std::uint32_t(chance.one_in(2) ? 256 + words.size() : 'a' + chance.below(2)), 0, 0);
            break;
        case 1:
        case 2:
            node = grammar.add(Kind::rule, std::uint32_t(chance.below(n_rules)), 0, 0);
            break;
        default:
            node = word();
        }
        if (chance.one_in(4)) node = grammar.add(Kind::capture, grammar.capture("c"), node, 0);
        return node;
    };
    const auto unordered = [&](std::vector<Node> parts) {
        const std::uint64_t required = chance.below(16), endless = chance.below(16) & ~required;
        const Node separator = chance.one_in(2) ? grammar.add_list(Kind::sequence, {}) : part();
        return grammar.add_unordered({std::move(parts), required, endless, separator});
    };
    for (std::uint32_t rule = 0; rule < n_rules; ++rule) {
        std::vector<Node> alternatives;
        for (std::size_t n = 1 + chance.below(3); n > 0; --n) {
            std::vector<Node> parts{word()};
            for (std::size_t m = chance.below(3); m > 0; --m) parts.push_back(part());
            const Node sequence = grammar.add_list(Kind::sequence, parts);
            switch (chance.below(4)) {
            case 0:
                alternatives.push_back(grammar.add(Kind::repeat, sequence, 1, 3));
                break;
            case 1: {
                parts.push_back(sequence);
                const Node any = unordered(std::move(parts));
                alternatives.push_back(grammar.add_list(Kind::sequence, std::array{word(), any}));
                break;
            }
            default:
                alternatives.push_back(sequence);
            }
        }
        grammar.define(rule, grammar.add_list(Kind::choice, alternatives));
    }
    return grammar.add(Kind::rule, 0, 0, 0);
}

} // namespace engine
