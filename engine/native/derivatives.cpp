#include <algorithm>
#include <deque>
#include <utility>

#include "expressions.h"

namespace engine {

Expr Expressions::derive_words(const Node& node, std::uint8_t byte, ByteSet& same) {
    const auto& words = word_lists_[node.a];
    const std::uint32_t depth = node.d;
    auto first = words.begin() + node.b;
    const auto last = words.begin() + node.c;
    if (first->size() == depth) ++first;
    const auto here = [&](const std::string& word) { return std::uint8_t(word[depth]); };
    const auto found = std::ranges::equal_range(first, last, byte, {}, here);
    if (!found.empty()) {
        same = same & ByteSet::one(byte);
        return add_words(node.a, std::uint32_t(found.begin() - words.begin()),
                         std::uint32_t(found.end() - words.begin()), depth + 1);
    }
    ByteSet present;
    while (first != last) {
        present.add(here(*first));
        first = std::ranges::upper_bound(first, last, here(*first), {}, here);
    }
    same = same & ~present;
    return none;
}

Expr Expressions::derive_multiple(const Node& node, std::uint8_t byte, ByteSet& same) {
    constexpr ByteSet known = [] {
        ByteSet set = ByteSet::range('0', '9');
        set.add('-');
        set.add('.');
        return set;
    }();
    if (!known.has(byte)) {
        same = same & ~known;
        return none;
    }
    same = same & ByteSet::one(byte);
    const auto [divisor, digits] = multiples_[node.a];
    if (byte == '-') return add_multiple(node.a, node.b, node.c);
    if (byte == '.') return node.c == 0 ? add_multiple(node.a, node.b, 1) : none;
    const std::uint64_t digit = byte - unsigned{'0'};
    const std::uint64_t remainder = (std::uint64_t(node.b) * 10 + digit) % divisor;
    if (node.c == 0) return add_multiple(node.a, remainder, 0);
    if (node.c <= digits) return add_multiple(node.a, remainder, node.c + 1);
    return digit == 0 ? add_multiple(node.a, node.b, node.c) : none;
}

/// The derivative, unpruned; `same` is narrowed to bytes that have the same one.
Expr Expressions::derive(Expr e, std::uint8_t byte, ByteSet& same) {
    count_work();
    const Node node = nodes_[e]; // a copy: what is built here may move the nodes
    switch (node.op) {
    case Op::none:
    case Op::empty:
        return none;
    case Op::bytes: {
        const ByteSet& set = sets_[node.a];
        const bool in = set.has(byte);
        same = same & (in ? set : ~set);
        return in ? empty : none;
    }
    case Op::concat: {
        std::vector<Expr> parts;
        Expr rest = e;
        while (nodes_[rest].op == Op::concat) { // a loop: optional parts make long chains
            const Node link = nodes_[rest];
            parts.push_back(concat(derive_inside(link.a, byte, same), link.b));
            rest = link.b;
            count_work();
            if (!nullable(link.a)) return either(parts);
        }
        parts.push_back(derive_inside(rest, byte, same));
        return either(parts);
    }
    case Op::repeat: {
        const Expr once = derive_inside(node.a, byte, same);
        if (once == none) return none;
        const std::uint32_t min = node.b == 0 ? 0 : node.b - 1;
        return concat(once, repeat(node.a, min, node.c == forever ? forever : node.c - 1));
    }
    case Op::either:
    case Op::both: {
        std::vector<Expr> parts;
        for (std::uint32_t i = 0; i < node.b; ++i) {
            const Expr part = lists_[node.a + i];
            parts.push_back(node.op == Op::both ? derive_part(part, byte, same)
                                                : derive_inside(part, byte, same));
            if (node.op == Op::both && parts.back() == none) return none;
        }
        return node.op == Op::either ? either(parts) : both(parts);
    }
    case Op::negate:
        return negate(derive_inside(node.a, byte, same));
    case Op::words:
        return derive_words(node, byte, same);
    case Op::multiple:
        return derive_multiple(node, byte, same);
    }
    return none;
}

/// Of a part of another expression. Choices among many, such as the characters of a class in all
/// their writings, are looked up: they stand in many expressions.
Expr Expressions::derive_inside(Expr e, std::uint8_t byte, ByteSet& same) {
    constexpr std::uint32_t many = 8;
    constexpr std::uint16_t shallow = 100; // a step into the table takes more of the stack
    const Node& node = nodes_[e];
    const bool is_choice = node.op == Op::either && node.b >= many;
    return is_choice && simple(e) && node.depth <= shallow ? look_up(e, byte, same)
                                                           : derive(e, byte, same);
}

/// Of a part of an intersection. One that stands beside every length that may be left is looked up.
Expr Expressions::derive_part(Expr e, std::uint8_t byte, ByteSet& same) {
    const Op op = nodes_[e].op;
    if (!simple(e) || (op != Op::concat && op != Op::either)) return derive(e, byte, same);
    return look_up(e, byte, same);
}

/// The derivative as `next` keeps it.
Expr Expressions::look_up(Expr e, std::uint8_t byte, ByteSet& same) {
    const std::size_t work = work_;
    const Expr out = next(e, byte);
    work_ = work + 1;
    const Expr* const known = row(e);
    ByteSet alike;
    for (unsigned other = 0; other < 256; ++other)
        if (known[other] == out) alike.add(std::uint8_t(other));
    same = same & alike;
    return out;
}

std::uint32_t Expressions::new_row(Expr e) {
    if (e >= rows_of_.size())
        rows_of_.resize(std::max<std::size_t>(nodes_.size(), e + 1), Index::none);
    rows_.push_back(std::make_unique<Row>());
    rows_.back()->fill(unknown);
    return rows_of_[e] = std::uint32_t(rows_.size() - 1);
}

Expr Expressions::fill(Expr e, std::uint32_t row, std::uint8_t byte) {
    ByteSet same = ByteSet::all();
    work_ = 0;
    Expr target = derive(e, byte, same);
    if (is_dead(target)) target = none;
    same.each([&](std::uint8_t other) { (*rows_[row])[other] = target; });
    return target;
}

/// Whether no text matches, where the parts tell.
std::optional<bool> Expressions::is_dead_by_parts(Expr e) {
    const Node node = nodes_[e];
    switch (node.op) {
    case Op::concat: { // a loop, and each link is told: chains are as long as patterns
        std::vector<Expr> links;
        Expr rest = e;
        bool is_one_dead = false;
        const auto is_link = [&](Expr x) {
            return nodes_[x].op == Op::concat && !nullable(x) && !simple(x) && alive_[x] == 0;
        };
        while (!is_one_dead && is_link(rest)) {
            links.push_back(rest);
            is_one_dead = is_dead(nodes_[rest].a);
            rest = nodes_[rest].b;
        }
        is_one_dead = is_one_dead || is_dead(rest);
        for (const Expr link : links) alive_[link] = is_one_dead ? 2 : 1;
        return is_one_dead;
    }
    case Op::repeat:
        return is_dead(node.a); // at least once, or it were nullable
    case Op::either:
        for (std::uint32_t i = 0; i < node.b; ++i)
            if (!is_dead(lists_[node.a + i])) return false;
        return true;
    case Op::both:
        if (const std::vector<Expr> parts = conjuncts(e); spare(parts).part != none) return false;
        if (work_ = 0; node.counted && finds_again(e)) return false;
        // Where a bound on the length is far enough, what is without it decides.
        if (const Expr other = loose(e).expr; other != e) return is_dead(other);
        return {};
    default:
        return {};
    }
}

enum : std::uint8_t { unasked, alive, dead };

/// What is known of it without a search.
std::uint8_t Expressions::verdict(Expr e) {
    if (e == none) return dead;
    if (nullable(e) || simple(e)) return alive;
    if (e >= alive_.size()) alive_.resize(std::max<std::size_t>(nodes_.size(), e + 1), unasked);
    return alive_[e];
}

/// Keeps a text, given from its end, that matches somewhere.
void Expressions::keep_found(std::string text) {
    constexpr std::size_t most = 4, longest = 100;
    if (text.size() > longest) return;
    std::ranges::reverse(text);
    if (found_.size() == most) found_.erase(found_.begin());
    found_.push_back(std::move(text));
}

/// Whether a text that was found lately matches here too, as it does where patterns may begin
/// anywhere.
bool Expressions::finds_again(Expr e) {
    std::vector<Expr> path;
    const std::vector<std::string> texts = found_;
    for (const std::string& text : texts) {
        path.assign(1, e);
        for (const char byte : text) {
            ByteSet same = ByteSet::all();
            path.push_back(derive(path.back(), std::uint8_t(byte), same));
            const auto state = verdict(path.back());
            if (state == dead) break;
            if (state == unasked) continue;
            path.pop_back();
            for (const Expr each : path) alive_[each] = alive;
            return true;
        }
    }
    return false;
}

bool Expressions::is_dead(Expr e) {
    if (const auto known = verdict(e); known != unasked) return known == dead;
    if (const auto told = is_dead_by_parts(e)) {
        alive_[e] = *told ? dead : alive;
        return *told;
    }
    work_ = 0;
    if (finds_again(e)) return false;
    struct Seen {
        Expr e;
        std::size_t from;
        std::uint8_t byte;
    };
    std::vector<Seen> seen{{e, 0, 0}}; // each once; `from` is the one that led here
    std::deque<std::size_t> open{0};
    constexpr std::size_t near = 1'000; // a short match is looked for first, then any
    Index known;
    known.insert(mix(e), 0);
    while (!open.empty()) {
        const bool is_near = seen.size() < near;
        const std::size_t at = is_near ? open.front() : open.back();
        is_near ? open.pop_front() : open.pop_back();
        ByteSet left = ByteSet::all();
        while (!left.empty()) {
            ByteSet same = ByteSet::all();
            const std::uint8_t byte = left.first();
            const Expr to = derive(seen[at].e, byte, same);
            left = left & ~same;
            const auto state = verdict(to);
            if (state == dead) continue;
            if (state == alive) {
                std::string text(1, char(byte));
                for (std::size_t i = at;; i = seen[i].from) {
                    alive_[seen[i].e] = alive;
                    if (i == 0) break;
                    text += char(seen[i].byte);
                }
                if (nullable(to)) keep_found(std::move(text));
                return false;
            }
            const auto is_it = [&](std::uint32_t i) { return seen[i].e == to; };
            if (known.find(mix(to), is_it) != Index::none) continue;
            if (seen.size() >= search_limit)
                throw TooMuchWork("no match found within " + std::to_string(search_limit) +
                                  " states of an expression");
            known.insert(mix(to), std::uint32_t(seen.size()));
            open.push_back(seen.size());
            seen.push_back({to, at, byte});
        }
    }
    for (const Seen& each : seen) alive_[each.e] = dead;
    return true;
}

} // namespace engine
