/// Random patterns, schemas, grammars and walks through them, for the sanitizers.
///
/// `native_check [seconds] [seed]` runs rounds until the time is over. It ends with 1 where a mask
/// differs from its tokens taken one by one, where a rewind leaves a trace, or where bounded memory
/// changes a mask; a sanitizer ends it by itself. A round's seed is printed with what it found.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "compiled.h"
#include "matcher.h"

namespace {

using namespace engine;

std::uint64_t seed_of_round = 0;
std::string source, taken; // the grammar's text, where it has one; the tokens of the walk

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

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "round %llu: %s\n%s\nafter%s\n",
                 static_cast<unsigned long long>(seed_of_round), what.c_str(), source.c_str(),
                 taken.c_str());
    std::exit(1);
}

const std::vector<std::string> words{
    "{\"",  "\": ", "\"}",   "\", \"",       "}}",       "[[", "]]",      ", ",
    "null", "true", "false", "ab",           "abc",      "a",  "name",    "12",
    "1.5",  "-1",   "\\u00", "\xec\x84\x9c", "\xec\x9a", "  ", "\"a\": 1"};

std::shared_ptr<const Vocabulary> vocabulary() {
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

std::string mutated(std::string text, Chance& chance) {
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

std::string random_pattern(Chance& chance, int depth) {
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

std::string in_json(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

std::string random_schema(Chance& chance, int depth) {
    const auto inner = [&] { return depth > 0 ? random_schema(chance, depth - 1) : "true"; };
    const auto number = [&] { return std::to_string(chance.below(6)); };
    std::string out = "{";
    const auto add = [&](const std::string& key, const std::string& value) {
        out += (out.size() > 1 ? "," : "") + in_json(key) + ":" + value;
    };
    for (std::size_t n = 1 + chance.below(3); n > 0; --n) {
        switch (chance.below(16)) {
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
        default:
            add("patternProperties",
                "{" + in_json(random_pattern(chance, 0)) + ":" + inner() + "}");
        }
    }
    return out + "}";
}

/// Rules that begin with text, so that none is left-recursive.
Node random_rules(Compiled& grammar, Chance& chance) {
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
            node = grammar.add(Kind::token, std::uint32_t(256 + words.size()), 0, 0);
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
    for (std::uint32_t rule = 0; rule < n_rules; ++rule) {
        std::vector<Node> alternatives;
        for (std::size_t n = 1 + chance.below(3); n > 0; --n) {
            std::vector<Node> parts{word()};
            for (std::size_t m = chance.below(3); m > 0; --m) parts.push_back(part());
            const Node sequence = grammar.add_list(Kind::sequence, parts);
            const bool repeats = chance.one_in(4);
            alternatives.push_back(repeats ? grammar.add(Kind::repeat, sequence, 1, 3) : sequence);
        }
        grammar.define(rule, grammar.add_list(Kind::choice, alternatives));
    }
    return grammar.add(Kind::rule, 0, 0, 0);
}

std::vector<std::uint32_t> mask_of(Matcher& matcher) {
    std::vector<std::uint32_t> mask(mask_words(matcher.n_vocab()), 0xdeadbeefU);
    matcher.mask(mask);
    return mask;
}

void check_mask(Matcher& matcher, const std::vector<std::uint32_t>& mask) {
    for (std::size_t id = 0; id < matcher.n_vocab(); ++id) {
        const bool is_set = (mask[id / 32] >> (id % 32) & 1) != 0;
        if (is_set != matcher.allows(std::int32_t(id)))
            fail("token " + std::to_string(id) + " is " + (is_set ? "" : "not ") +
                 "in the mask, wrongly");
    }
}

void walk(const std::shared_ptr<Compiled>& grammar, Chance& chance) {
    Matcher matcher(grammar);
    Matcher other(grammar);
    for (int step = 0; step < 12; ++step) {
        const auto before = mask_of(matcher);
        check_mask(matcher, before);
        std::vector<std::int32_t> allowed;
        for (std::size_t id = 0; id < matcher.n_vocab(); ++id)
            if ((before[id / 32] >> (id % 32) & 1) != 0) allowed.push_back(std::int32_t(id));
        if (allowed.empty()) {
            if (!matcher.is_done()) fail("nothing may come, and it is not done");
            break;
        }
        Matcher twin = matcher;
        matcher.allowed_summary();
        matcher.forced(40);
        matcher.explain(std::int32_t(chance.below(matcher.n_vocab())));
        matcher.captures();
        const std::int32_t token = chance.of(allowed);
        if (!matcher.advance(token)) fail("an allowed token is refused");
        if (chance.one_in(3)) {
            matcher.captures();
            matcher.rewind(1);
            if (mask_of(matcher) != before) fail("a rewind leaves a trace");
            matcher.advance(token);
        }
        taken += " " + std::to_string(token);
        if (chance.one_in(4)) {
            grammar->memory_limit = grammar->memory_bytes() - 1; // forgets everything
            const auto forgetful = [&] {
                try {
                    return mask_of(twin);
                } catch (const TooComplex&) {
                    return before; // it needs that much from the start
                }
            }();
            grammar->memory_limit = std::size_t(256) << 20;
            if (forgetful != before) fail("what was forgotten comes back differently");
        }
        other.advance("a");
    }
}

void round(const std::shared_ptr<const Vocabulary>& vocabulary, Chance& chance) {
    SchemaOptions options;
    options.any_order = chance.one_in(2);
    options.writing = chance.one_in(3) ? Writing::json : Writing::json_needed;
    const auto grammar = std::make_shared<Compiled>(vocabulary, options);
    grammar->expressions().search_limit = 2000;
    grammar->expressions().work_limit = 200'000;
    Node start = 0;
    source.clear();
    taken.clear();
    switch (chance.below(4)) {
    case 0: {
        PatternOptions pattern;
        pattern.is_rust = chance.one_in(2);
        source = mutated(random_pattern(chance, 3), chance);
        start = grammar->add(GrammarNode::Kind::word, grammar->pattern(source, pattern), 0, 0);
        break;
    }
    case 1:
        source = random_schema(chance, 2);
        start = grammar->schema(source);
        break;
    case 2:
        source = mutated(random_schema(chance, 1), chance);
        start = grammar->schema(source);
        break;
    default:
        start = random_rules(*grammar, chance);
    }
    grammar->finish(start);
    walk(grammar, chance);
}

} // namespace

int main(int count, char** arguments) {
    const int seconds = count > 1 ? std::atoi(arguments[1]) : 30;
    const std::uint64_t first = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0;
    const bool is_one = count > 2 && seconds == 0;
    const auto tokens = vocabulary();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    std::size_t walked = 0, refused = 0;
    for (seed_of_round = first; is_one || std::chrono::steady_clock::now() < end; ++seed_of_round) {
        Chance chance(seed_of_round);
        try {
            round(tokens, chance);
            ++walked;
        } catch (const TooComplex&) {
            ++refused;
        } catch (const PatternError&) {
            ++refused;
        } catch (const SchemaError&) {
            ++refused;
        } catch (const JsonError&) {
            ++refused;
        } catch (const std::invalid_argument&) {
            ++refused;
        }
        if (is_one) break;
    }
    std::printf("%zu grammars walked, %zu refused\n", walked, refused);
    return walked == 0 && !is_one ? 1 : 0;
}
