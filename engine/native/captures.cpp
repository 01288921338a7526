#include "captures.h"

#include <algorithm>
#include <ranges>

namespace engine {

using Kind = GrammarNode::Kind;

namespace {

constexpr std::uint32_t behind_part = 1, behind_separator = 2; // counts of parts in any order

} // namespace

Captures::Captures(Expressions& expressions, const Grammar& grammar, Values* values)
    : pool_(expressions), grammar_(grammar), values_(values) {
    frames_.intern({accepted, 0, 0}); // the bottom of every stack
    events_.push_back({0, 0, {}});
}

Machine& Captures::machine(Node leaf) {
    const Value value = grammar_.nodes[leaf].a;
    Json& json = machines_[value];
    if (!json.machine) {
        json.grammar.nodes.push_back({Kind::value, value, 0, 0});
        json.machine = std::make_unique<Machine>(pool_, json.grammar, values_);
    }
    return *json.machine;
}

std::uint32_t Captures::push(Node node, std::uint32_t count, std::uint32_t below) {
    return frames_.intern({node, count, below});
}

std::uint32_t Captures::note(std::uint32_t before, std::uint32_t capture, std::uint32_t at,
                             bool is_end) {
    events_.push_back({before, events_[before].count + 1, {capture, at, is_end}});
    return std::uint32_t(events_.size() - 1);
}

/// Keeps the first, which is the better one, of two that go on alike.
void Captures::add(const Reading& reading) {
    const std::uint64_t h = mix(std::uint64_t(reading.leaf) << 32 | reading.state, reading.stack);
    const auto is_same = [&](std::uint32_t i) {
        const Reading& other = out_[i];
        return other.leaf == reading.leaf && other.state == reading.state &&
               other.stack == reading.stack;
    };
    if (known_.find(h, is_same) != Index::none) return;
    if (out_.size() >= limit)
        throw TooComplex("more than " + std::to_string(limit) + " ways to read the text");
    known_.insert(h, std::uint32_t(out_.size()));
    out_.push_back(reading);
}

/// Depth first, so that what comes of a better alternative stands before the others.
void Captures::run(std::vector<Open>& open, std::uint32_t at) {
    while (!open.empty()) {
        const Open one = open.back();
        open.pop_back();
        const std::uint64_t key =
            std::uint64_t(one.is_complete ? accepted : one.node) << 32 | one.stack;
        const auto is_same = [&](std::uint32_t i) {
            return begun_keys_[i] == std::pair(key, one.is_complete);
        };
        const std::uint64_t h = mix(key, one.is_complete);
        if (begun_.find(h, is_same) != Index::none) continue;
        if (begun_keys_.size() >= limit * 10)
            throw TooComplex("more than " + std::to_string(limit) + " ways to read the text");
        begun_.insert(h, std::uint32_t(begun_keys_.size()));
        begun_keys_.emplace_back(key, one.is_complete);
        const std::size_t base = open.size();
        if (one.is_complete)
            go_on(one, open, at);
        else
            begin(one, open, at);
        std::reverse(open.begin() + std::ptrdiff_t(base), open.end());
    }
}

/// What a node begins with, the best first.
void Captures::begin(const Open& one, std::vector<Open>& open, std::uint32_t at) {
    const GrammarNode& node = grammar_.nodes[one.node];
    const Open complete{0, one.stack, one.history, true};
    switch (node.kind) {
    case Kind::word:
        if (node.a == Expressions::none) return;
        add({one.node, node.a, one.stack, one.history});
        if (pool_.nullable(node.a)) open.push_back(complete);
        return;
    case Kind::token:
        return add({one.node, 0, one.stack, one.history});
    case Kind::value:
        return add({one.node, machine(one.node).start(), one.stack, one.history});
    case Kind::sequence:
        if (node.b == 0) return open.push_back(complete);
        open.push_back({grammar_.lists[node.a], push(one.node, 1, one.stack), one.history, false});
        return;
    case Kind::choice:
        for (std::uint32_t i = 0; i < node.b; ++i)
            open.push_back({grammar_.lists[node.a + i], one.stack, one.history, false});
        return;
    case Kind::repeat:
        if (node.c > 0) open.push_back({node.a, push(one.node, 1, one.stack), one.history, false});
        if (node.b == 0) open.push_back(complete);
        return;
    case Kind::rule:
        return open.push_back({grammar_.rules[node.a], one.stack, one.history, false});
    case Kind::capture:
        open.push_back(
            {node.b, push(one.node, 0, one.stack), note(one.history, node.a, at, false), false});
        return;
    case Kind::unordered:
        begin_parts(one, {one.node, 0, one.stack}, open);
        if (grammar_.unordered[node.a].can_end(0)) open.push_back(complete);
        return;
    }
}

/// One of the parts that have not been seen, in the grammar's order.
void Captures::begin_parts(const Open& one, const Frame& frame, std::vector<Open>& open) {
    const Unordered& all = grammar_.unordered[grammar_.nodes[frame.node].a];
    all.left(frame.seen, [&](std::size_t i) {
        const Frame inside{frame.node, behind_part, frame.below, all.with(frame.seen, i)};
        open.push_back({all.parts[i], frames_.intern(inside), one.history, false});
    });
}

void Captures::go_on_unordered(const Open& one, const Frame& frame, std::vector<Open>& open) {
    if (frame.count == behind_separator) return begin_parts(one, frame, open);
    const Unordered& all = grammar_.unordered[grammar_.nodes[frame.node].a];
    if (all.can_go_on(frame.seen)) {
        const Frame inside{frame.node, behind_separator, frame.below, frame.seen};
        open.push_back({all.separator, frames_.intern(inside), one.history, false});
    }
    if (all.can_end(frame.seen)) open.push_back({0, frame.below, one.history, true});
}

/// What comes behind something that is complete.
void Captures::go_on(const Open& one, std::vector<Open>& open, std::uint32_t at) {
    if (one.stack == 0) return add({accepted, 0, 0, one.history});
    const Frame frame = frames_[one.stack];
    const GrammarNode& node = grammar_.nodes[frame.node];
    if (node.kind == Kind::capture) {
        const std::uint32_t history = note(one.history, node.a, at, true);
        return open.push_back({0, frame.below, history, true});
    }
    if (node.kind == Kind::sequence) {
        if (frame.count == node.b) return open.push_back({0, frame.below, one.history, true});
        open.push_back({grammar_.lists[node.a + frame.count],
                        push(frame.node, frame.count + 1, frame.below), one.history, false});
        return;
    }
    if (node.kind == Kind::unordered) return go_on_unordered(one, frame, open);
    if (frame.count < node.c) { // a repeat
        const bool is_endless = node.c == Expressions::forever;
        const std::uint32_t enough = is_endless ? std::max(node.b, 1U) : node.c;
        const std::uint32_t count = std::min(frame.count + 1, enough);
        open.push_back({node.a, push(frame.node, count, frame.below), one.history, false});
    }
    if (frame.count >= node.b) open.push_back({0, frame.below, one.history, true});
}

Captures::Readings Captures::start() {
    out_.clear(), known_ = {}, begun_ = {}, begun_keys_.clear();
    std::vector<Open> open{{grammar_.start, 0, 0, false}};
    run(open, 0);
    return std::move(out_);
}

Captures::Readings Captures::step(const Readings& before, std::uint8_t byte, std::uint32_t at) {
    out_.clear(), known_ = {}, begun_ = {}, begun_keys_.clear();
    std::vector<Open> open;
    for (const Reading& one : before) {
        if (one.leaf == accepted) continue;
        const GrammarNode& node = grammar_.nodes[one.leaf];
        std::uint32_t state = Expressions::none;
        bool goes_on = true, is_complete = false;
        if (node.kind == Kind::word) {
            state = pool_.next(one.state, byte);
            if (state == Expressions::none) continue;
            is_complete = pool_.nullable(state);
            goes_on = !is_complete || !pool_.first_bytes(state).empty();
        } else if (node.kind == Kind::value) {
            Machine& json = machine(one.leaf);
            state = json.step(one.state, byte);
            if (state == Machine::dead) continue;
            goes_on = !json.threads(state).empty();
            is_complete = json.is_accepting(state);
        } else {
            continue;
        }
        if (goes_on) add({one.leaf, state, one.stack, one.history});
        if (is_complete) open.push_back({0, one.stack, one.history, true});
        run(open, at + 1);
    }
    return std::move(out_);
}

Captures::Readings Captures::step_token(const Readings& before, std::uint32_t token,
                                        std::uint32_t at) {
    out_.clear(), known_ = {}, begun_ = {}, begun_keys_.clear();
    std::vector<Open> open;
    for (const Reading& one : before) {
        if (one.leaf == accepted || grammar_.nodes[one.leaf].kind != Kind::token) continue;
        if (grammar_.nodes[one.leaf].a != token) continue;
        open.push_back({0, one.stack, one.history, true});
        run(open, at);
    }
    return std::move(out_);
}

Captures::Readings Captures::either(Readings better, const Readings& others) {
    if (better.empty()) return others;
    out_.clear(), known_ = {};
    for (const Reading& one : better) add(one);
    for (const Reading& one : others) add(one);
    return std::move(out_);
}

std::vector<Captures::Span> Captures::spans(std::uint32_t history) const {
    std::vector<Mark> marks;
    for (; history != 0; history = events_[history].before) marks.push_back(events_[history].mark);
    std::vector<Span> out;
    std::vector<std::uint32_t> begins;
    for (const Mark& mark : std::views::reverse(marks)) {
        if (!mark.is_end) {
            begins.push_back(mark.at);
            continue;
        }
        out.push_back({mark.capture, begins.back(), mark.at});
        begins.pop_back();
    }
    return out;
}

std::span<const Captures::Reading> Captures::whole(const Readings& readings) {
    const auto at = std::ranges::find(readings, accepted, &Reading::leaf);
    return {at, at == readings.end() ? 0U : 1U};
}

/// Looks at the first way back to what is skipped, and at each other one back to where it parts
/// from that.
Captures::Progress Captures::progress(std::span<const Reading> readings, std::uint32_t length,
                                      std::size_t skip) const {
    Progress out{{}, length};
    if (readings.empty()) return out;
    const auto count_of = [&](const Reading& one) { return events_[one.history].count; };
    const std::size_t fewest = std::ranges::min(readings | std::views::transform(count_of));
    const std::size_t from = std::min(skip, fewest);
    std::uint32_t event = readings[0].history;
    std::vector<std::uint32_t> first(events_[event].count - from); // its marks behind those skipped
    for (; events_[event].count > from; event = events_[event].before)
        first[events_[event].count - from - 1] = event;
    std::size_t common = from + first.size();
    std::vector<std::uint32_t> own;
    for (const Reading& reading : readings.subspan(1)) {
        own.clear();
        event = reading.history;
        const auto is_shared = [&] {
            const std::size_t count = events_[event].count;
            if (count <= from) return true;
            return count <= from + first.size() && first[count - from - 1] == event;
        };
        for (; !is_shared(); event = events_[event].before) own.push_back(event);
        std::size_t same = events_[event].count;
        if (same > common) continue;
        auto next = own.rbegin();
        for (; next != own.rend() && same < common; ++next, ++same)
            if (events_[*next].mark != events_[first[same - from]].mark) break;
        if (same < common) common = same, out.certain_to = length;
        if (next != own.rend()) out.certain_to = std::min(out.certain_to, events_[*next].mark.at);
    }
    if (common < from + first.size())
        out.certain_to = std::min(out.certain_to, events_[first[common - from]].mark.at);
    for (std::size_t i = skip; i < common; ++i) out.marks.push_back(events_[first[i - from]].mark);
    return out;
}

std::vector<Captures::Span> Captures::of_whole(const Readings& readings) const {
    const auto found = whole(readings);
    return found.empty() ? std::vector<Span>{} : spans(found[0].history);
}

std::vector<Captures::Span> Captures::of_part(const Readings& readings) const {
    std::vector<Span> out;
    for (std::size_t i = 0; i < readings.size(); ++i) {
        const std::vector<Span> own = spans(readings[i].history);
        if (i == 0) {
            out = own;
            continue;
        }
        const auto differ = std::ranges::mismatch(out, own);
        out.erase(differ.in1, out.end());
        if (out.empty()) break;
    }
    return out;
}

std::size_t Captures::memory_bytes() const {
    std::size_t out = frames_.memory_bytes() + events_.capacity() * sizeof(Event);
    for (const auto& [value, json] : machines_) out += json.machine->memory_bytes();
    return out;
}

} // namespace engine
