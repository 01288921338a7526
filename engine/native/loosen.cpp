#include <algorithm>

#include "expressions.h"

namespace engine {

namespace {

constexpr std::uint32_t large = 16; // counters below stay: few tokens are longer
constexpr unsigned most_depth = 64;
constexpr std::size_t most_states = 400;

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
    const Expr given = [&] {
        const std::vector<Expr> parts(list(node).begin(), list(node).end());
        return both(parts);
    }();
    std::vector<Expr> others;
    std::uint32_t bound = forever;
    std::vector<Expr> bounds;
    for (const Expr part : list(node)) {
        const Node& one = nodes_[part];
        const bool is_bound = one.op == Op::repeat && one.b == 0 && one.c != forever &&
                              one.c >= large && !nullable(one.a);
        if (is_bound)
            bound = std::min(bound, one.c), bounds.push_back(one.a);
        else
            others.push_back(part);
    }
    if (bounds.empty() || depth > most_depth) return given;
    for (Expr& other : others) other = loosen(other, bound, depth + 1);
    for (const Expr unit : bounds) others.push_back(star(unit));
    const Expr out = both(others);
    const std::uint32_t needed = slack(out);
    if (needed == forever || bound < needed + large) return given;
    bytes = std::min(bytes, bound - needed);
    return out;
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
