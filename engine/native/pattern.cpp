#include "pattern.h"

#include <array>

namespace engine {

namespace {

using Kind = PatternNode::Kind;

enum Before : std::size_t { nothing, word, other };

/// What may follow, by what stands before it.
using Follow = std::array<Expr, 3>;

class Translator {
  public:
    explicit Translator(Characters& characters)
        : characters_(characters), pool_(characters.expressions()) {}

    Expr found_in(const PatternNode& pattern) {
        const Expr text = characters_.text();
        const Follow end{Expressions::empty, Expressions::empty, Expressions::empty};
        const Follow tail = after_repeat(text, end);
        const Follow found = before(pattern, tail);
        return after_repeat(text, found)[nothing];
    }

    Expr whole(const PatternNode& pattern) {
        const Follow end{Expressions::empty, Expressions::empty, Expressions::empty};
        return before(pattern, end)[nothing];
    }

  private:
    static bool is_same(const Follow& follow) {
        return follow[nothing] == follow[word] && follow[word] == follow[other];
    }

    /// The language of a part without assertions.
    Expr plain(const PatternNode& node) {
        switch (node.kind) {
        case Kind::characters:
            return characters_.one_of(node.set);
        case Kind::sequence: {
            Expr out = Expressions::empty;
            for (auto part = node.parts.rbegin(); part != node.parts.rend(); ++part)
                out = pool_.concat(plain(*part), out);
            return out;
        }
        case Kind::choice: {
            std::vector<Expr> parts;
            for (const auto& part : node.parts) parts.push_back(plain(part));
            return pool_.either(parts);
        }
        case Kind::repeat:
            return pool_.repeat(plain(node.parts.front()), node.min, node.max);
        default:
            return Expressions::empty;
        }
    }

    /// `language`, then what follows: split by its last character where that matters.
    Follow after_repeat(Expr language, const Follow& follow) {
        Follow out;
        if (is_same(follow)) {
            out.fill(pool_.concat(language, follow[nothing]));
            return out;
        }
        const Expr text = characters_.text();
        const Expr ends_word = pool_.both(language, pool_.concat(text, word_character()));
        const Expr ends_other = pool_.both(language, pool_.concat(text, other_character()));
        for (const auto before : {nothing, word, other}) {
            const std::array parts{
                follow[word] == follow[other]
                    ? pool_.concat(pool_.minus(language, Expressions::empty), follow[word])
                    : pool_.either({pool_.concat(ends_word, follow[word]),
                                    pool_.concat(ends_other, follow[other])}),
                pool_.nullable(language) ? follow[before] : Expressions::none};
            out[before] = pool_.either(parts);
        }
        return out;
    }

    Follow before(const PatternNode& node, const Follow& follow) {
        if (!node.looks && node.kind != Kind::characters) return after_repeat(plain(node), follow);
        Follow out{};
        switch (node.kind) {
        case Kind::characters:
            out.fill(character(node.set, follow));
            return out;
        case Kind::sequence:
            out = follow;
            for (auto part = node.parts.rbegin(); part != node.parts.rend(); ++part)
                out = before(*part, out);
            return out;
        case Kind::choice:
            out.fill(Expressions::none);
            for (const auto& part : node.parts) {
                const Follow one = before(part, follow);
                for (std::size_t i = 0; i < 3; ++i) out[i] = pool_.either({out[i], one[i]});
            }
            return out;
        case Kind::repeat:
            return repeated(node, follow);
        case Kind::start:
            return {follow[nothing], Expressions::none, Expressions::none};
        case Kind::end:
            for (std::size_t i = 0; i < 3; ++i)
                out[i] = pool_.nullable(follow[i]) ? Expressions::empty : Expressions::none;
            return out;
        case Kind::boundary:
        case Kind::not_boundary: {
            const Expr ahead = pool_.concat(word_character(), characters_.text());
            for (const auto i : {nothing, word, other}) {
                const bool wants_word = (i == word) == (node.kind == Kind::not_boundary);
                out[i] = wants_word ? pool_.both(follow[i], ahead) : pool_.minus(follow[i], ahead);
            }
            return out;
        }
        case Kind::ahead:
        case Kind::not_ahead: {
            Follow rest;
            rest.fill(characters_.text());
            const Follow seen = before(node.parts.front(), rest);
            for (std::size_t i = 0; i < 3; ++i)
                out[i] = node.kind == Kind::ahead ? pool_.both(follow[i], seen[i])
                                                  : pool_.minus(follow[i], seen[i]);
            return out;
        }
        case Kind::empty:
            return follow;
        }
        return follow;
    }

    Expr character(const CodePoints& set, const Follow& follow) {
        if (follow[word] == follow[other])
            return pool_.concat(characters_.one_of(set), follow[word]);
        return pool_.either({pool_.concat(characters_.one_of(set & words_), follow[word]),
                             pool_.concat(characters_.one_of(set & ~words_), follow[other])});
    }

    /// An assertion inside a repetition: only where the repetition can be written out.
    Follow repeated(const PatternNode& node, const Follow& follow) {
        constexpr std::uint32_t most = 16;
        if (node.max > most) throw PatternError(node.offset, "an assertion inside a repetition");
        Follow out = follow;
        for (std::uint32_t i = node.max; i-- > 0;) {
            const Follow once = before(node.parts.front(), out);
            for (std::size_t j = 0; j < 3; ++j)
                out[j] = i >= node.min ? pool_.either({follow[j], once[j]}) : once[j];
        }
        return out;
    }

    Expr word_character() { return characters_.one_of(words_); }
    Expr other_character() { return characters_.one_of(~words_); }

    Characters& characters_;
    Expressions& pool_;
    const CodePoints words_{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
};

} // namespace

Expr pattern_language(const PatternNode& pattern, Characters& characters, bool is_whole) {
    Translator translator(characters);
    return is_whole ? translator.whole(pattern) : translator.found_in(pattern);
}

} // namespace engine
