#include <algorithm>

#include "expressions.h"

namespace engine {

namespace {

constexpr std::uint32_t large = 16; // counters below stay: few tokens are longer
constexpr unsigned most_depth = 64;
constexpr std::size_t most_states = 400;
constexpr std::size_t most_together = 100; // pairs of states inside one character
constexpr unsigned most_links = 300;       // of a chain

} // namespace

bool Expressions::is_counted(const Node& node) const {
    const auto of = [&](Expr e) { return e < nodes_.size() && nodes_[e].counted; };
    switch (node.op) {
    case Op::concat:
        return of(node.a) || of(node.b);
    case Op::repeat:
        return of(node.a) || (node.c != forever && node.c >= large);
    case Op::either:
    case Op::both:
        return std::ranges::any_of(list(node), of);
    default:
        return false;
    }
}

Expressions::Loose Expressions::loose(Expr e) {
    if (!nodes_[e].counted) return {e, forever};
    if (const auto known = loose_.find(e); known != loose_.end()) return known->second;
    Loose out{e, forever};
    out.expr = loosen(e, out.bytes, 0);
    return loose_[e] = out;
}

std::vector<Expr> Expressions::conjuncts(Expr e) {
    const Node node = nodes_[e];
    Expr head = e, tail = empty;
    if (node.op == Op::concat && nodes_[node.b].op == Op::bytes) head = node.a, tail = node.b;
    if (nodes_[head].op != Op::both) return {e};
    std::vector<Expr> out(list(nodes_[head]).begin(), list(nodes_[head]).end());
    for (Expr& part : out) part = concat(part, tail);
    return out;
}

/// How many bytes a match has at least, or fewer.
std::uint32_t Expressions::shortest(Expr e, unsigned depth) const {
    const Node& node = nodes_[e];
    if (node.nullable || depth > most_depth) return 0;
    switch (node.op) {
    case Op::bytes:
        return 1;
    case Op::concat:
        return shortest(node.a, depth + 1) + shortest(node.b, depth + 1);
    case Op::repeat:
        return std::min(node.b, large) * shortest(node.a, depth + 1);
    case Op::either: {
        std::uint32_t out = forever;
        for (const Expr part : list(node)) out = std::min(out, shortest(part, depth + 1));
        return out;
    }
    default:
        return 1;
    }
}

/// Each repetition takes some bytes, so a counter of n is not used up by n times as many.
Expr Expressions::loosen(Expr e, std::uint32_t& bytes, unsigned depth) {
    const Node node = nodes_[e];
    if (depth > most_depth || !node.counted) return e;
    switch (node.op) {
    case Op::repeat: {
        const Expr inner = loosen(node.a, bytes, depth + 1);
        if (node.c == forever || node.c < large || nullable(node.a))
            return inner == node.a ? e : repeat(inner, node.b, node.c);
        const std::uint64_t reach = std::uint64_t(node.c) * std::max(1U, shortest(node.a, 0));
        bytes = std::uint32_t(std::min<std::uint64_t>(bytes, reach));
        return repeat(inner, node.b, forever);
    }
    case Op::concat: {
        const Expr a = loosen(node.a, bytes, depth + 1);
        const Expr b = loosen(node.b, bytes, depth + 1);
        return a == node.a && b == node.b ? e : concat(a, b);
    }
    case Op::either: {
        std::vector<Expr> parts;
        for (std::uint32_t i = 0; i < node.b; ++i)
            parts.push_back(loosen(lists_[node.a + i], bytes, depth + 1));
        return either(parts);
    }
    case Op::both:
        return loosen_both(node, bytes, depth);
    default: // inside a complement a looser counter would be a stricter one
        return e;
    }
}

/// A bound beside something else matters earlier: by as much as that needs to come to its end.
Expr Expressions::loosen_both(const Node& node, std::uint32_t& bytes, unsigned depth) {
    std::vector<Expr> others(list(node).begin(), list(node).end());
    const Expr given = both(others);
    if (depth > most_depth) return given;
    if (const Spare one = spare(others); one.part != none) {
        if (one.bytes < large) return given;
        bytes = std::min(bytes, one.bytes);
        return loosen(one.part, bytes, depth + 1);
    }
    const auto is_bound = [&](Expr part) {
        const Node& one = nodes_[part];
        return one.op == Op::repeat && one.b == 0 && one.c != forever && one.c >= large &&
               !nullable(one.a);
    };
    if (std::ranges::none_of(others, is_bound)) return given;
    std::uint32_t bound = forever;
    for (Expr& part : others) part = loosen(part, bound, depth + 1);
    const Expr out = both(others);
    const std::uint32_t needed = slack(out);
    if (needed == forever || bound < needed + large) return given;
    bytes = std::min(bytes, bound - needed);
    return out;
}

Expressions::Spare Expressions::spare(std::span<const Expr> parts) {
    if (!are_simple(parts)) return {};
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const std::uint32_t needed = ends(parts[i], 0).most;
        if (needed == forever) continue;
        std::uint32_t bound = forever;
        const auto leaves_room = [&](Expr other) {
            if (other == parts[i]) return true;
            const Loose far = endless(other);
            bound = std::min(bound, far.bytes);
            return far.expr != none && bound >= needed && is_within(parts[i], far.expr);
        };
        if (!std::ranges::all_of(parts, leaves_room)) continue;
        return {parts[i], bound == forever ? forever : bound - needed};
    }
    return {};
}

/// Of a number of characters, perhaps from the middle of one on, and perhaps something of one byte
/// behind them: the same without the upper bound, and that bound. `none` for any other.
Expressions::Loose Expressions::endless(Expr e) {
    constexpr std::size_t most_before = 8;
    std::vector<Expr> before;
    Expr rest = e;
    while (true) {
        const bool is_chain = nodes_[rest].op == Op::concat;
        const Node run = nodes_[is_chain ? nodes_[rest].a : rest];
        if (run.op == Op::repeat && !nullable(run.a) && run.a < rest) {
            const Expr tail = is_chain ? nodes_[rest].b : empty;
            if (tail != empty && nodes_[tail].op != Op::bytes) return {none, 0};
            Expr out = concat(repeat(run.a, run.b, forever), tail);
            while (!before.empty()) out = concat(before.back(), out), before.pop_back();
            return {out, run.c};
        }
        if (!is_chain || before.size() == most_before) return {none, 0};
        before.push_back(nodes_[rest].a);
        rest = nodes_[rest].b;
    }
}

/// Whether all that `inner` matches `outer` matches too, which is a number of characters, perhaps
/// from the middle of one on, and perhaps something behind them. False where it isn't seen soon.
bool Expressions::is_within(Expr inner, Expr outer) {
    const auto key = [](Expr x, Expr y) { return std::uint64_t(x) << 32 | y; };
    if (const auto known = within_.find(key(inner, outer)); known != within_.end())
        return known->second;
    const bool is_chain = nodes_[outer].op == Op::concat;
    const Node run = nodes_[is_chain ? nodes_[outer].a : outer];
    if (run.op == Op::repeat && run.c == forever) {
        const Expr tail = is_chain ? nodes_[outer].b : empty;
        const auto count = characters(inner, run.a, tail, 0);
        return within_[key(inner, outer)] = count && *count >= run.b;
    }
    std::vector<std::pair<Expr, Expr>> seen{{inner, outer}};
    const auto goes_on = [&](Expr x, Expr y) {
        if (nullable(x) && !nullable(y)) return false;
        for (unsigned byte = 0; byte < 256; ++byte) {
            const std::pair to{next(x, std::uint8_t(byte)), next(y, std::uint8_t(byte))};
            if (to.first == none || std::ranges::find(seen, to) != seen.end()) continue;
            if (to.second == none) return false;
            const Expr head = nodes_[to.second].op == Op::concat ? nodes_[to.second].a : to.second;
            if (nodes_[head].op == Op::repeat) {
                if (!is_within(to.first, to.second)) return false;
            } else {
                seen.push_back(to);
            }
        }
        return seen.size() <= most_together;
    };
    bool out = true;
    for (std::size_t i = 0; out && i < seen.size(); ++i)
        out = goes_on(seen[i].first, seen[i].second);
    return within_[key(inner, outer)] = out;
}

/// How many characters `e` has at least before `tail`, where each text that it matches is some of
/// them and `tail`; nothing where it may match anything else. Each character is a `unit`.
std::optional<std::uint32_t> Expressions::characters(Expr e, Expr unit, Expr tail, unsigned depth) {
    if (e == tail) return 0;
    if (depth > most_links) return {};
    const std::tuple key{e, unit, tail};
    if (const auto known = characters_.find(key); known != characters_.end()) return known->second;
    const auto most = [](std::uint64_t n) {
        return std::uint32_t(std::min<std::uint64_t>(n, forever));
    };
    const Node node = nodes_[e];
    std::optional<std::uint32_t> out;
    if (node.op == Op::concat) {
        if (const auto a = characters(node.a, unit, empty, depth + 1))
            if (const auto b = characters(node.b, unit, tail, depth + 1))
                out = most(std::uint64_t(*a) + *b);
    } else if (node.op == Op::repeat && node.a < e && tail == empty) {
        if (const auto a = characters(node.a, unit, empty, depth + 1))
            out = most(std::uint64_t(*a) * node.b);
    } else if (node.op == Op::either) {
        out = forever;
        for (std::uint32_t i = 0; out && i < node.b; ++i) {
            const auto part = characters(lists_[node.a + i], unit, tail, depth + 1);
            out = part ? std::optional(std::min(*out, *part)) : std::nullopt;
        }
    }
    if (!out && tail == empty && is_one_of(e, unit)) out = 1;
    characters_.emplace(key, out);
    return out;
}

/// Whether what `e` matches are words that `unit` matches too.
bool Expressions::is_one_of(Expr e, Expr unit) {
    if (nullable(e)) return false;
    std::vector<std::pair<Expr, Expr>> seen{{e, unit}};
    for (std::size_t i = 0; i < seen.size(); ++i) {
        const auto [x, y] = seen[i];
        if (seen.size() > most_together || (nullable(x) && !nullable(y))) return false;
        for (unsigned byte = 0; byte < 256; ++byte) {
            const std::pair to{next(x, std::uint8_t(byte)), next(y, std::uint8_t(byte))};
            if (to.first == none) continue;
            if (to.second == none) return false;
            if (std::ranges::find(seen, to) == seen.end()) seen.push_back(to);
        }
    }
    return true;
}

/// How long a simple expression is at least, and how many bytes are enough to come to an end from
/// wherever it leads. `forever` where that isn't known.
Expressions::Ends Expressions::ends(Expr e, unsigned depth) {
    if (e == none || e == empty) return {0, 0};
    if (nodes_[e].op == Op::bytes) return {1, 1};
    if (const auto known = ends_.find(e); known != ends_.end()) return known->second;
    constexpr Ends unknown_ends{forever, forever};
    if (depth > most_links) return unknown_ends;
    const auto most = [](std::uint64_t n) { return n > forever ? forever : std::uint32_t(n); };
    const Node node = nodes_[e];
    Ends out = unknown_ends;
    if (node.op == Op::concat) {
        const Ends a = ends(node.a, depth + 1), b = ends(node.b, depth + 1);
        out.least = most(std::uint64_t(a.least) + b.least);
        out.most = std::max(most(std::uint64_t(a.most) + b.least), b.most);
    } else if (node.op == Op::repeat && node.a < e) {
        const Ends a = ends(node.a, depth + 1);
        const std::uint64_t min = node.b;
        out.least = most(min * a.least);
        out.most = most(a.most + (min == 0 ? 0 : min - 1) * a.least);
    } else if (node.op == Op::either) {
        out = {forever, 0};
        for (std::uint32_t i = 0; i < node.b; ++i) {
            const Ends part = ends(lists_[node.a + i], depth + 1);
            out = {std::min(out.least, part.least), std::max(out.most, part.most)};
        }
    }
    return ends_[e] = out;
}

/// From wherever `e` leads, so many bytes are enough to come to an end. `forever` if `e` leads to
/// too many places to tell.
std::uint32_t Expressions::slack(Expr e) {
    if (const auto known = slack_.find(e); known != slack_.end()) return known->second;
    std::vector<Expr> seen{e};
    std::vector<std::vector<std::size_t>> before(1); // from which places each is one byte away
    std::unordered_map<Expr, std::size_t> place{{e, 0}};
    for (std::size_t i = 0; i < seen.size(); ++i) {
        Expr last = none;
        for (unsigned byte = 0; byte < 256; ++byte) {
            const Expr to = next(seen[i], std::uint8_t(byte));
            if (to == none || to == last) continue;
            last = to;
            const auto [at, is_new] = place.emplace(to, seen.size());
            if (is_new) {
                if (seen.size() >= most_states) { // nor from these, most likely: not to ask again
                    for (const Expr each : seen) slack_[each] = forever;
                    return forever;
                }
                seen.push_back(to);
                before.emplace_back();
            }
            before[at->second].push_back(i);
        }
    }
    std::vector<std::uint32_t> distance(seen.size(), forever);
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < seen.size(); ++i)
        if (nullable(seen[i])) distance[i] = 0, open.push_back(i);
    std::uint32_t most = 0;
    for (std::size_t at = 0; at < open.size(); ++at) {
        const std::size_t here = open[at];
        most = std::max(most, distance[here]);
        for (const std::size_t from : before[here])
            if (distance[from] == forever)
                distance[from] = distance[here] + 1, open.push_back(from);
    }
    for (const Expr each : seen) slack_[each] = most;
    return most;
}

} // namespace engine
