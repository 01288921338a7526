/// Random patterns, schemas, grammars and walks through them, for the sanitizers.
///
/// `native_check [seconds] [seed]` runs rounds until the time is over, `native_check 0 SEED` one
/// round. It ends with 1 where a mask differs from its tokens taken one by one, where a rewind
/// leaves a trace, where bounded memory or other threads change a mask, or where a text that was
/// begun can't be completed; a sanitizer ends it by itself. A round's seed is printed with what it
/// found; masks of words are kept from round to round, as they are from grammar to grammar.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "compiled.h"
#include "matcher.h"
#include "random_grammars.h"

namespace {

using namespace engine;

std::uint64_t seed_of_round = 0;
std::string source, taken; // the grammar's text, where it has one; the tokens of the walk

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "round %llu: %s\n%s\nafter%s\n",
                 static_cast<unsigned long long>(seed_of_round), what.c_str(), source.c_str(),
                 taken.c_str());
    std::exit(1);
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
    matcher.first_bytes().each([&](std::uint8_t byte) {
        if (!matcher.allows(byte)) fail("byte " + std::to_string(byte) + " has nothing behind it");
    });
}

/// Some byte may follow, or the text is whole: no token led to a place without a way on.
void check_alive(const std::vector<std::int32_t>& allowed, Matcher& matcher) {
    for (const auto token : allowed) {
        Matcher next = matcher;
        if (!next.advance(token)) fail("token " + std::to_string(token) + " is refused");
        if (next.is_accepting() || !next.first_bytes().empty()) continue;
        const auto mask = mask_of(next); // a token that the grammar names
        if (std::ranges::all_of(mask, [](std::uint32_t word) { return word == 0; }))
            fail("nothing can follow token " + std::to_string(token));
    }
}

/// What a walk sees: every mask on the way, and the tokens that it takes.
std::vector<std::vector<std::uint32_t>> seen_by_walk(const std::shared_ptr<Compiled>& grammar,
                                                     std::uint64_t seed) {
    Chance chance(seed);
    Matcher matcher(grammar);
    std::vector<std::vector<std::uint32_t>> out;
    for (int step = 0; step < 12; ++step) {
        out.push_back(mask_of(matcher));
        std::vector<std::int32_t> allowed;
        for (std::size_t id = 0; id < matcher.n_vocab(); ++id)
            if ((out.back()[id / 32] >> (id % 32) & 1) != 0) allowed.push_back(std::int32_t(id));
        if (allowed.empty()) break;
        matcher.advance(chance.of(allowed));
        if (chance.one_in(4)) matcher.rewind(1);
        matcher.captures();
        matcher.progress();
    }
    return out;
}

/// Several threads over one grammar that nobody has warmed, and some over their own beside it, see
/// what one alone sees.
void walk_in_threads(const std::function<std::shared_ptr<Compiled>()>& made, Chance& chance) {
    constexpr std::size_t n_threads = 4;
    using Seen = std::vector<std::vector<std::uint32_t>>;
    std::vector<std::uint64_t> seeds;
    std::vector<Seen> alone, together(n_threads);
    for (std::size_t i = 0; i < n_threads; ++i) seeds.push_back(chance.below(1000));
    for (const auto seed : seeds) alone.push_back(seen_by_walk(made(), seed));
    const auto shared = made();
    shared->vocabulary().word_masks()->forget();
    shared->memory_limit = shared->memory_bytes() + 200'000; // they make each other forget
    std::vector<std::shared_ptr<Compiled>> grammars;
    for (std::size_t i = 0; i < n_threads; ++i) grammars.push_back(i % 2 == 0 ? shared : made());
    std::vector<char> is_refused(n_threads);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < n_threads; ++i)
        threads.emplace_back([&, i] {
            try {
                together[i] = seen_by_walk(grammars[i], seeds[i]);
            } catch (const TooComplex&) {
                is_refused[i] = 1; // one place needs more than that
            }
        });
    for (auto& thread : threads) thread.join();
    for (std::size_t i = 0; i < n_threads; ++i)
        if (is_refused[i] == 0 && together[i] != alone[i]) fail("threads see other masks");
}

/// Ends steps in their middle. What comes after must not tell.
void run_into_limits(Compiled& grammar, const Matcher& here, Chance& chance) {
    auto& limit =
        chance.one_in(2) ? grammar.machine().step_limit : grammar.expressions().work_limit;
    const std::size_t usual = limit;
    limit = 1 + chance.below(20);
    for (int i = 0; i < 4; ++i) {
        try {
            Matcher next = here;
            next.advance(std::int32_t(chance.below(next.n_vocab())));
            mask_of(next);
        } catch (const TooComplex&) { // as it should
        }
    }
    limit = usual;
}

void walk(const std::shared_ptr<Compiled>& grammar, Chance& chance) {
    Matcher matcher(grammar);
    Matcher other(grammar);
    for (int step = 0; step < 12; ++step) {
        if (chance.one_in(4)) run_into_limits(*grammar, matcher, chance);
        const auto before = mask_of(matcher);
        check_mask(matcher, before);
        std::vector<std::int32_t> allowed;
        for (std::size_t id = 0; id < matcher.n_vocab(); ++id)
            if ((before[id / 32] >> (id % 32) & 1) != 0) allowed.push_back(std::int32_t(id));
        if (allowed.empty()) {
            if (!matcher.is_done()) fail("nothing may come, and it is not done");
            break;
        }
        check_alive(allowed, matcher);
        Matcher twin = matcher;
        matcher.allowed_summary();
        matcher.forced(40);
        matcher.explain(std::int32_t(chance.below(matcher.n_vocab())));
        matcher.captures();
        matcher.progress();
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
            if (chance.one_in(2)) grammar->vocabulary().word_masks()->forget();
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

/// The masks of words are bounded: what is asked for stays, what is not goes.
void fill_word_masks() {
    constexpr std::size_t limit = 50'000;
    WordMasks masks(limit);
    const std::vector<std::uint32_t> many(16, 0x55555555U);
    for (std::uint64_t i = 0; i < 2000; ++i) {
        const auto id = std::int32_t(i);
        masks.keep(Fingerprint(i), i % 2 == 0 ? many : std::vector<std::uint32_t>{}, {id},
                   {{0, std::uint32_t(i % 3), 9}});
        const auto first = masks.find(Fingerprint(0));
        if (first == nullptr || first->few != std::vector{0} || first->many == nullptr)
            fail("a word that is in use is forgotten");
        if (first->many != masks.find(Fingerprint(i - i % 2))->many) fail("a mask is kept twice");
        if (masks.memory_bytes() > limit) fail("more words are kept than there is room for");
    }
    if (masks.find(Fingerprint(1)) != nullptr) fail("a word that nobody asks for is kept");
}

/// A random grammar; the same for the same seed.
std::shared_ptr<Compiled> made(const std::shared_ptr<const Vocabulary>& vocabulary,
                               Chance& chance) {
    SchemaOptions options;
    options.any_order = chance.one_in(2);
    options.writing = chance.one_in(3) ? Writing::json : Writing::json_needed;
    const auto grammar = std::make_shared<Compiled>(vocabulary, options);
    grammar->expressions().search_limit = 2000;
    grammar->expressions().work_limit = 200'000;
    Node start = 0;
    source.clear();
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
    return grammar;
}

void round(const std::shared_ptr<const Vocabulary>& vocabulary, std::uint64_t seed) {
    taken.clear();
    Chance chance(seed);
    if (chance.one_in(8)) {
        walk_in_threads(
            [&] {
                Chance same(seed + 1);
                return made(vocabulary, same);
            },
            chance);
        return;
    }
    const auto grammar = made(vocabulary, chance);
    walk(grammar, chance);
}

} // namespace

int main(int count, char** arguments) {
    const int seconds = count > 1 ? std::atoi(arguments[1]) : 30;
    const std::uint64_t first = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0;
    const bool is_one = count > 2 && seconds == 0;
    fill_word_masks();
    const auto tokens = vocabulary();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    std::size_t walked = 0, refused = 0;
    for (seed_of_round = first; is_one || std::chrono::steady_clock::now() < end; ++seed_of_round) {
        try {
            round(tokens, seed_of_round);
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
