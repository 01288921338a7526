#include <algorithm>

#include "code_points.h"
#include "masks.h"

namespace engine {

// How much text of an alphabet an expression takes, whichever it is

/// How many characters of an alphabet may follow at least, whichever they are.
std::uint8_t Masks::room(Expr state, unsigned alphabet) {
    if (const auto known = rooms_.find(state); known != rooms_.end())
        if (known->second[alphabet] != unknown) return known->second[alphabet];
    if (is_free_for_ever(state)) return endless;
    // A pattern that may stand anywhere takes what may stand before it.
    const Expr loop = pool_.loop(state);
    const bool has_loop = loop != Expressions::none && loop != state;
    // The larger alphabets cost more to look at, and say nothing where the smaller have bounds.
    std::uint8_t out = 0;
    if (has_loop && room(loop, alphabet) == endless)
        out = endless;
    else if (alphabet <= all_ascii || alphabet == beyond_ascii ||
             room(state, alphabet - 1) == endless)
        out = work_out_room(state, alphabet);
    const auto at = rooms_.find(state);
    if (at != rooms_.end()) return at->second[alphabet] = out;
    Room fresh;
    fresh.fill(unknown);
    fresh[alphabet] = out;
    rooms_.emplace(state, fresh);
    return out;
}

/// Characters of more than a byte cost as much to look at as a walk through many nodes.
bool Masks::is_worth_asking(Expr state, unsigned alphabet, std::size_t nodes) const {
    constexpr std::size_t many = 64;
    if (alphabet <= all_ascii || nodes >= many) return true;
    const auto known = rooms_.find(state);
    return known != rooms_.end() && known->second[alphabet] != unknown;
}

/// Whether it takes any text before it ends. Some words may be left out: then it doesn't end there.
bool Masks::is_free_for_ever(Expr state) {
    enum : std::uint8_t { unasked, no, yes };
    if (state >= free_.size()) free_.resize(std::max<std::size_t>(pool_.size(), state + 1));
    if (free_[state] == unasked) {
        const auto run = pool_.run(state);
        free_[state] = run.max == Expressions::forever && is_free(run) ? yes : no;
    }
    return free_[state] == yes;
}

/// Character by character, until some is refused or no new states turn up.
std::uint8_t Masks::work_out_room(Expr state, unsigned alphabet) {
    constexpr std::size_t most_states = 24;
    constexpr std::size_t deepest = 16;               // few tokens are longer
    const std::size_t most_work = pool_.size() + 200; // states that are dear: the walk sees fewer
    std::vector<Expr> seen{state}, behind;
    std::size_t bound = endless;
    std::size_t level = 0; // where the states of this depth begin
    for (std::size_t depth = 0; depth < bound; ++depth) {
        const std::size_t end = seen.size();
        if (level == end) { // all there is, but for states known from before
            if (bound == endless)
                for (const Expr each : seen) {
                    const auto at = rooms_.try_emplace(each);
                    if (at.second) at.first->second.fill(unknown);
                    at.first->second[alphabet] = endless;
                }
            return std::uint8_t(bound);
        }
        if (depth == deepest || end > most_states) return std::uint8_t(depth);
        for (; level < end; ++level) {
            behind.clear();
            if (pool_.size() > most_work) return std::uint8_t(depth);
            if (!add_behind(seen[level], alphabet, behind)) return std::uint8_t(depth);
            for (const Expr next : behind) {
                if (is_free_for_ever(next) || std::ranges::find(seen, next) != seen.end()) continue;
                const auto known = rooms_.find(next);
                const std::uint8_t more = known == rooms_.end() ? unknown : known->second[alphabet];
                if (more == unknown)
                    seen.push_back(next);
                else if (more != endless)
                    bound = std::min<std::size_t>({bound, depth + 1 + more, most_room});
            }
        }
    }
    return std::uint8_t(bound);
}

/// The states behind one character of an alphabet; false where some is refused.
bool Masks::add_behind(Expr state, unsigned alphabet, std::vector<Expr>& out) {
    Expr& word = words_of_[alphabet];
    if (word == Expressions::none)
        word = pool_.star(Characters(pool_, Writing::plain).one_of(alphabets()[alphabet]));
    const auto add_once = [](auto& list, const auto& value) {
        if (!list.empty() && list.back() == value) return;
        if (std::ranges::find(list, value) == list.end()) list.push_back(value);
    };
    std::vector<std::pair<Expr, Expr>> open{{state, word}}; // with what is left of the character
    for (std::size_t i = 0; i < open.size(); ++i) {
        const auto [mine, theirs] = open[i];
        const Expr* rows[] = {pool_.row(theirs), pool_.row(mine)};
        for (unsigned byte = 0; byte < 256; ++byte) {
            Expr rest = rows[0][byte];
            if (rest == Expressions::unknown) rest = pool_.next(theirs, std::uint8_t(byte));
            if (rest == Expressions::none) continue;
            Expr next = rows[1][byte];
            if (next == Expressions::unknown) next = pool_.next(mine, std::uint8_t(byte));
            if (next == Expressions::none) return false;
            if (rest == word)
                add_once(out, next);
            else
                add_once(open, std::pair{next, rest});
        }
    }
    return true;
}

} // namespace engine
