#include "expressions.h"

namespace engine {

Expr Expressions::add_list(Op op, std::span<const Expr> parts, bool is_nullable, bool is_simple) {
    std::uint64_t h = mix(std::uint64_t(op));
    for (const Expr part : parts) h = mix(h, part);
    const Expr known = index_.find(h, [&](Expr e) {
        return nodes_[e].op == op && std::ranges::equal(list(nodes_[e]), parts);
    });
    if (known != Index::none) return known;
    Node node(op, is_nullable, is_simple, std::uint32_t(lists_.size()),
              std::uint32_t(parts.size()));
    lists_.insert(lists_.end(), parts.begin(), parts.end());
    node.depth = depth_of(node);
    node.positive = is_positive(node);
    node.counted = is_counted(node);
    return append(node, h);
}

/// From what the node is made of, not from its numbers, which are those of this pool.
Fingerprint Expressions::fingerprint_of(const Node& node) const {
    Fingerprint out(std::uint64_t(node.op));
    switch (node.op) {
    case Op::none:
    case Op::empty:
        break;
    case Op::bytes:
        for (const auto word : sets_[node.a].words) out.add(word);
        break;
    case Op::concat:
        out.add(fingerprints_[node.a]);
        out.add(fingerprints_[node.b]);
        break;
    case Op::repeat: // `everything` comes before the bytes that it repeats
        if (node.a < fingerprints_.size()) out.add(fingerprints_[node.a]);
        out.add(std::uint64_t(node.b) << 32 | node.c);
        break;
    case Op::either:
    case Op::both: // in the order of their numbers
        for (const Expr part : list(node)) out.add_unordered(fingerprints_[part]);
        break;
    case Op::negate:
        out.add(fingerprints_[node.a]);
        break;
    case Op::words:
        out.add(word_fingerprints_[node.a]);
        out.add(std::uint64_t(node.b) << 32 | node.c);
        out.add(node.d);
        break;
    case Op::multiple:
        out.add(std::uint64_t(multiples_[node.a].divisor) << 32 |
                multiples_[node.a].fraction_digits);
        out.add(std::uint64_t(node.b) << 32 | node.c);
        break;
    }
    return out;
}

bool Expressions::is_positive(const Node& node) const {
    const auto of = [&](Expr e) { return bool(nodes_[e].positive); };
    switch (node.op) {
    case Op::concat:
        return of(node.a) && of(node.b);
    case Op::repeat:
        return node.a < nodes_.size() && of(node.a); // it is not for `everything`
    case Op::either:
        return std::ranges::all_of(list(node), of);
    case Op::both:
        return std::ranges::any_of(list(node), of);
    case Op::negate:
        return false;
    default:
        return true;
    }
}

std::uint16_t Expressions::depth_of(const Node& node) const {
    const auto of = [&](Expr e) { return e < nodes_.size() ? nodes_[e].depth : std::uint16_t(1); };
    std::uint16_t below = 0;
    switch (node.op) {
    case Op::concat: // its right side comes into play only behind an empty left one
        below = of(node.a);
        if (nullable(node.a)) {
            const bool is_loop = nodes_[node.b].op == Op::concat;
            below = std::max(below, std::uint16_t(of(node.b) - is_loop));
        }
        break;
    case Op::repeat:
    case Op::negate:
        below = of(node.a);
        break;
    case Op::either:
    case Op::both:
        for (const Expr part : list(node)) below = std::max(below, of(part));
        break;
    default:
        break;
    }
    if (below >= max_depth)
        throw TooComplex("expressions nested deeper than " + std::to_string(max_depth));
    return std::uint16_t(below + 1);
}

Expr Expressions::repeat(Expr a, std::uint32_t min, std::uint32_t max) {
    if (max == 0 || a == empty) return empty;
    if (a == none) return min == 0 ? empty : none;
    if (nullable(a)) min = 0;
    if (min == 1 && max == 1) return a;
    const Node node = nodes_[a];
    if (node.op == Op::repeat) {
        // r{n,m} taken k times is r{kn,km}. The ranges of k and k + 1 meet when k(m - n) >= n - 1,
        // which is hardest for the smallest k: then all of them are one range.
        const std::uint64_t n = node.b, m = node.c;
        const bool meets = node.c == forever ? min >= 1 || n <= 1 : min * (m - n) + 1 >= n;
        const std::uint64_t low = min * n;
        const std::uint64_t high = node.c == forever || max == forever ? forever : max * m;
        if ((min == max || meets) && low < forever && (high < forever || high == forever))
            return repeat(node.a, std::uint32_t(low),
                          std::uint32_t(std::min<std::uint64_t>(high, forever)));
    }
    return add({Op::repeat, min == 0, simple(a), a, min, max});
}

Expressions::Run Expressions::run(Expr e) const {
    Run out;
    Expr head = e;
    out.tail = empty;
    if (nodes_[e].op == Op::concat) head = nodes_[e].a, out.tail = nodes_[e].b;
    if (nodes_[head].op == Op::both && nodes_[head].b == 2) {
        for (const Expr part : list(nodes_[head])) {
            const Node& node = nodes_[part];
            if (node.op == Op::repeat)
                head = part;
            else if (node.op == Op::negate && is_finite(node.a))
                out.without = node.a;
            else
                return {};
        }
        if (out.without == none) return {};
    }
    const Node& node = nodes_[head];
    if (node.op != Op::repeat) return {};
    out.unit = node.a, out.min = node.b, out.max = node.c;
    return out;
}

bool Expressions::is_finite(Expr e) const {
    for (;;) {
        const Node& node = nodes_[e];
        switch (node.op) {
        case Op::none:
        case Op::empty:
        case Op::bytes:
        case Op::words:
            return true;
        case Op::either:
            return std::ranges::all_of(list(node), [&](Expr one) { return is_finite(one); });
        case Op::concat:
            if (!is_finite(node.a)) return false;
            e = node.b;
            continue;
        default:
            return false;
        }
    }
}

Expressions::Power Expressions::power(Expr e) const {
    const Node& node = nodes_[e];
    if (node.op == Op::repeat) return {empty, node.a, node.b, node.c};
    if (node.op != Op::concat) return {empty, e, 1, 1};
    const Node& head = nodes_[node.a];
    if (head.op == Op::repeat) return {node.b, head.a, head.b, head.c};
    return {node.b, node.a, 1, 1};
}

/// r{2,5} before r{1,3}t is r{3,8}t, so that a chain of optional parts is one counter. `none` where
/// there is nothing to join.
Expr Expressions::join_powers(Expr a, Expr b) {
    const Expr head = nodes_[b].op == Op::concat ? nodes_[b].a : b;
    if (nodes_[a].op != Op::repeat && nodes_[head].op != Op::repeat) return none;
    const Power left = power(a), right = power(b);
    if (left.tail != empty || left.base != right.base) return none;
    const std::uint64_t min = std::uint64_t(left.min) + right.min;
    const std::uint64_t max = std::uint64_t(left.max) + right.max;
    const bool is_endless = left.max == forever || right.max == forever;
    if (min >= forever || (!is_endless && max >= forever)) return none;
    return concat(repeat(left.base, std::uint32_t(min), is_endless ? forever : std::uint32_t(max)),
                  right.tail);
}

/// r{2,5}t and r{0,3}t become r{0,5}t, so that nested repetitions don't pile up alternatives.
void Expressions::merge_powers(std::vector<Expr>& parts) {
    const auto is_repeated = [&](Expr e) {
        const Node& node = nodes_[e];
        return node.op == Op::repeat || (node.op == Op::concat && nodes_[node.a].op == Op::repeat);
    };
    if (parts.size() < 2 || std::ranges::none_of(parts, is_repeated)) return;
    std::vector<Power> powers;
    for (const Expr part : parts) powers.push_back(power(part));
    std::ranges::sort(powers, [](const Power& x, const Power& y) {
        return std::tie(x.tail, x.base, x.min, x.max) < std::tie(y.tail, y.base, y.min, y.max);
    });
    std::vector<Power> merged;
    for (const Power& each : powers) {
        if (!merged.empty()) {
            Power& last = merged.back();
            if (last.tail == each.tail && last.base == each.base &&
                (last.max == forever || each.min <= last.max + 1)) {
                last.max = std::max(last.max, each.max);
                continue;
            }
        }
        merged.push_back(each);
    }
    std::vector<Expr> out;
    for (const Power& each : merged)
        out.push_back(concat(repeat(each.base, each.min, each.max), each.tail));
    // What is left after no repetition at all is the tail, which may stand there by itself.
    for (const Power& each : merged) {
        if (each.min > 1 || each.max == 1) continue;
        const auto tail = std::ranges::find(out, each.tail);
        if (tail == out.end()) continue;
        *tail = none;
        if (each.min == 0) continue;
        std::ranges::replace(out, concat(repeat(each.base, 1, each.max), each.tail),
                             concat(repeat(each.base, 0, each.max), each.tail));
    }
    std::erase(out, none);
    std::ranges::sort(out);
    out.erase(std::unique(out.begin(), out.end()), out.end());
    parts = std::move(out);
}

/// [a]t and [b]t become [ab]t.
void Expressions::merge_bytes(std::vector<Expr>& parts) {
    const auto head = [&](Expr e) -> const Node* {
        const Node& node = nodes_[e];
        if (node.op == Op::bytes) return &node;
        if (node.op == Op::concat && nodes_[node.a].op == Op::bytes) return &nodes_[node.a];
        return nullptr;
    };
    std::vector<std::pair<Expr, std::uint32_t>> found; // tail, set
    for (const Expr part : parts)
        if (const Node* node = head(part))
            found.emplace_back(nodes_[part].op == Op::bytes ? empty : nodes_[part].b, node->a);
    if (found.size() < 2) return;
    std::ranges::sort(found);
    bool merges = false;
    for (std::size_t i = 1; i < found.size(); ++i) merges |= found[i].first == found[i - 1].first;
    if (!merges) return;
    std::erase_if(parts, [&](Expr e) { return head(e) != nullptr; });
    for (std::size_t i = 0; i < found.size();) {
        ByteSet set;
        const Expr tail = found[i].first;
        for (; i < found.size() && found[i].first == tail; ++i) set = set | sets_[found[i].second];
        parts.push_back(concat(bytes(set), tail));
    }
    std::ranges::sort(parts);
    parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
}

Expr Expressions::either(std::span<const Expr> given) {
    std::vector<Expr> parts;
    for (const Expr e : given) {
        if (e == none) continue;
        if (e == everything) return e;
        if (nodes_[e].op == Op::either)
            parts.insert(parts.end(), list(nodes_[e]).begin(), list(nodes_[e]).end());
        else
            parts.push_back(e);
    }
    std::ranges::sort(parts);
    parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
    merge_bytes(parts);
    merge_powers(parts);
    if (parts.empty()) return none;
    if (parts.size() == 1) return parts.front();
    if (parts.front() == empty) { // it says nothing where another part may be empty
        const bool other = std::ranges::any_of(parts.begin() + 1, parts.end(),
                                               [&](Expr e) { return nullable(e); });
        if (other) return either(std::span(parts).subspan(1));
    }
    bool is_nullable = false, is_simple = true;
    for (const Expr e : parts) {
        is_nullable |= nullable(e);
        is_simple &= simple(e);
    }
    return add_list(Op::either, parts, is_nullable, is_simple);
}

Expr Expressions::both(std::span<const Expr> given) {
    std::vector<Expr> parts;
    for (const Expr e : given) {
        if (e == none) return none;
        if (e == everything) continue;
        if (nodes_[e].op == Op::both)
            parts.insert(parts.end(), list(nodes_[e]).begin(), list(nodes_[e]).end());
        else
            parts.push_back(e);
    }
    std::ranges::sort(parts);
    parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
    if (parts.empty()) return everything;
    if (parts.size() == 1) return parts.front();
    bool is_nullable = true;
    for (const Expr e : parts) {
        is_nullable &= nullable(e);
        if (nodes_[e].op != Op::negate) continue;
        const auto denied = alternatives(nodes_[e].a); // any of them beside it leaves nothing
        if (std::ranges::any_of(denied,
                                [&](Expr one) { return std::ranges::binary_search(parts, one); }) ||
            std::ranges::binary_search(parts, nodes_[e].a))
            return none;
    }
    if (parts.front() == empty) return is_nullable ? empty : none;
    return add_list(Op::both, parts, is_nullable, false);
}

Expr Expressions::words(std::vector<std::string> literals) {
    std::ranges::sort(literals);
    literals.erase(std::unique(literals.begin(), literals.end()), literals.end());
    if (literals.empty()) return none;
    Fingerprint print(literals.size());
    for (const std::string& literal : literals) print.add(literal);
    word_fingerprints_.push_back(print);
    word_lists_.push_back(std::move(literals));
    return add_words(std::uint32_t(word_lists_.size() - 1), 0,
                     std::uint32_t(word_lists_.back().size()), 0);
}

Expr Expressions::add_words(std::uint32_t which, std::uint32_t low, std::uint32_t high,
                            std::uint32_t depth) {
    if (low == high) return none;
    const auto& words = word_lists_[which];
    const bool is_nullable = words[low].size() == depth;
    return add({Op::words, is_nullable, true, which, low, high, depth});
}

Expr Expressions::multiple_of(std::uint32_t divisor, std::uint32_t fraction_digits) {
    const Multiple wanted{divisor, fraction_digits};
    auto found = std::ranges::find(multiples_, wanted);
    if (found == multiples_.end()) found = multiples_.insert(multiples_.end(), wanted);
    return add_multiple(std::uint32_t(found - multiples_.begin()), 0, 0);
}

Expr Expressions::add_multiple(std::uint32_t which, std::uint64_t remainder, std::uint32_t phase) {
    const auto [divisor, digits] = multiples_[which];
    const std::uint32_t read = phase == 0 ? 0 : std::min(phase - 1, digits);
    std::uint64_t whole = remainder; // with zeros for the digits that are left out
    for (std::uint32_t i = read; i < digits; ++i) whole = whole * 10 % divisor;
    return add({Op::multiple, whole == 0, false, which, std::uint32_t(remainder), phase});
}

} // namespace engine
