#include "machine.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace engine {

namespace {

bool any_between(const std::vector<std::uint64_t>& bits, std::uint32_t low, std::uint32_t high) {
    high = std::uint32_t(std::min<std::size_t>(high, bits.size() * 64));
    for (std::uint32_t i = low; i < high;) {
        const std::uint64_t rest = bits[i / 64] >> (i % 64);
        if (rest == 0) {
            i = (i / 64 + 1) * 64;
            continue;
        }
        return i + std::uint32_t(std::countr_zero(rest)) < high;
    }
    return false;
}

} // namespace

Machine::Machine(Expressions& expressions, const Grammar& grammar, Values* values)
    : pool_(expressions), grammar_(grammar), values_(values) {
    const Spacing spacing = values != nullptr ? values->spacing() : Spacing{};
    quote_ = pool_.text("\"");
    // Space that any more of may follow is not read twice: each length would be read in every way.
    const bool is_once = pool_.concat(spacing.open, spacing.close) == spacing.open;
    open_object_ = pool_.concat(pool_.text("{"), spacing.open);
    close_object_ = pool_.concat(spacing.close, pool_.text("}"));
    open_array_ = pool_.concat(pool_.text("["), spacing.open);
    close_array_ = pool_.concat(spacing.close, pool_.text("]"));
    next_key_ = pool_.concat(spacing.comma, quote_);
    empty_object_ = is_once ? pool_.text("}") : close_object_;
    empty_array_ = is_once ? pool_.text("]") : close_array_;
    std::vector<std::uint32_t> empty;
    list_of(empty); // no_frames
    places_.push_back({0, 0, false});
    root_ = push({Kind::root});
    expand(grammar.start, root_);
    start_ = finish();
}

std::size_t Machine::memory_bytes() const {
    return frames_.memory_bytes() + frame_lists_.capacity() * 4 + lists_.capacity() * sizeof(List) +
           lists_index_.memory_bytes() + threads_.capacity() * sizeof(Thread) +
           places_.capacity() * sizeof(PlaceData) + places_index_.memory_bytes() +
           steps_.capacity() * sizeof(Step) + steps_index_.memory_bytes() +
           byte_sets_.capacity() * sizeof(ByteSet) + seen_.memory_bytes() + counts_.memory_bytes() +
           texts_.memory_bytes() + choices_.capacity() * sizeof(choices_[0]);
}

// Frames and sets of them

std::uint32_t Machine::push(const Frame& frame) {
    std::vector<std::uint32_t> one{frames_.intern(frame)};
    return list_of(one);
}

/// The set of these frames; those that differ by their parents only become one with all of them.
std::uint32_t Machine::list_of(std::vector<std::uint32_t>& given) {
    std::ranges::sort(given);
    given.erase(std::unique(given.begin(), given.end()), given.end());
    const auto key = [&](std::uint32_t id) {
        const Frame& frame = frames_[id];
        return std::tuple(frame.kind, frame.phase, frame.a, frame.b, frame.c);
    };
    if (given.size() > 1) std::ranges::sort(given, {}, key);
    std::size_t count = 0;
    for (std::size_t i = 0; i < given.size();) {
        std::size_t end = i + 1;
        while (end < given.size() && key(given[end]) == key(given[i])) ++end;
        std::uint32_t id = given[i];
        if (end > i + 1) {
            Frame both = frames_[id];
            for (std::size_t j = i + 1; j < end; ++j)
                both.cont = join(both.cont, frames_[given[j]].cont);
            id = frames_.intern(both);
        }
        given[count++] = id;
        i = end;
    }
    given.resize(count);
    std::ranges::sort(given);
    std::uint64_t h = given.size();
    for (const auto frame : given) h = mix(h, frame);
    const auto known =
        lists_index_.find(h, [&](std::uint32_t i) { return std::ranges::equal(frames(i), given); });
    if (known != Index::none) return known;
    List list{std::uint32_t(frame_lists_.size()), std::uint32_t(given.size()), false, Memory::none};
    for (const auto id : given) {
        const Frame& frame = frames_[id];
        const bool is_text = frame.kind == Kind::text && frame.a != forgotten;
        list.follows |= is_text || (frame.kind == Kind::object && frame.phase == named);
        if (is_text) list.memory = std::max(list.memory, Memory(frame.b));
    }
    frame_lists_.insert(frame_lists_.end(), given.begin(), given.end());
    lists_.push_back(list);
    lists_index_.insert(h, std::uint32_t(lists_.size() - 1));
    return std::uint32_t(lists_.size() - 1);
}

std::uint32_t Machine::join(std::uint32_t a, std::uint32_t b) {
    if (a == b) return a;
    const std::uint64_t key = std::uint64_t(std::min(a, b)) << 32 | std::max(a, b);
    if (const auto known = joins_.find(key); known != joins_.end()) return known->second;
    constexpr std::size_t deepest = 4000;
    if (++join_depth_ > deepest) {
        join_depth_ = 0;
        clear_work();
        throw TooComplex("stacks of more than " + std::to_string(deepest) +
                         " rules that are alike");
    }
    std::vector<std::uint32_t> all(frames(a).begin(), frames(a).end());
    all.insert(all.end(), frames(b).begin(), frames(b).end());
    const std::uint32_t out = list_of(all);
    --join_depth_;
    return joins_[key] = out;
}

/// The frames of `cont` for which a word that `state` may still become is allowed, once `byte` of
/// it was read.
std::uint32_t Machine::follow(std::uint32_t cont, std::uint32_t state, std::uint8_t byte) {
    const auto [low, high, is_complete] = pool_.words_left(state);
    const auto list = frames(cont);
    if (list.size() == 1) { // a key of one object, as nearly always: no set to make
        const Frame& only = frames_[list[0]];
        if (only.kind == Kind::object && only.phase == named)
            return any_between(choice(only.a, only.b).words, low, high) ? cont : no_frames;
    }
    std::vector<std::uint32_t> kept;
    const std::vector<std::uint32_t> all(list.begin(), list.end());
    for (const auto id : all) {
        Frame frame = frames_[id];
        if (frame.kind == Kind::text && frame.a != forgotten) {
            frame.a = texts_.intern({texts_[frame.a].read + char(byte)});
            kept.push_back(frames_.intern(frame));
        } else if (frame.kind != Kind::object || frame.phase != named ||
                   any_between(choice(frame.a, frame.b).words, low, high)) {
            kept.push_back(id);
        }
    }
    return kept == all ? cont : list_of(kept);
}

// Taking a step

// Each begins with `clear_work`: a limit may have ended the step before in its middle.

Place Machine::take(Place place, std::uint8_t byte, std::uint64_t key, std::uint64_t hash) {
    clear_work();
    const PlaceData from = places_[place];
    for (std::uint32_t i = 0; i < from.count; ++i) {
        const Thread thread = threads_[from.first + i];
        if ((thread.state & token_thread) != 0) continue;
        const Expr state = pool_.next(thread.state, byte);
        if (state == Expressions::none) continue;
        std::uint32_t cont = thread.cont;
        if (lists_[cont].follows) cont = follow(cont, state, byte);
        if (lists_[cont].count != 0) spawn(state, cont);
    }
    const Place to = finish();
    steps_index_.insert(hash, std::uint32_t(steps_.size()));
    steps_.push_back({key, to});
    return to;
}

Place Machine::step_token(Place place, std::uint32_t token) {
    clear_work();
    const PlaceData from = places_[place];
    for (std::uint32_t i = 0; i < from.count; ++i) {
        const Thread thread = threads_[from.first + i];
        if (thread.state == (token_thread | token)) spawn(Expressions::empty, thread.cont);
    }
    return finish();
}

Place Machine::either(Place a, Place b) {
    if (a == b || b == dead) return a;
    if (a == dead) return b;
    clear_work();
    for (const Place place : {a, b}) {
        accepts_ = accepts_ || places_[place].is_accepting;
        for (const Thread& thread : threads(place)) spawn(thread.state, thread.cont);
    }
    done_ = work_.size(); // what follows without a byte is in the places already
    return finish();
}

std::vector<std::uint32_t> Machine::tokens(Place place) const {
    std::vector<std::uint32_t> out;
    for (const Thread& thread : threads(place))
        if ((thread.state & token_thread) != 0) out.push_back(thread.state & ~token_thread);
    return out;
}

const ByteSet& Machine::bytes(Place place) {
    if (places_[place].bytes < 0) {
        ByteSet all;
        for (std::uint32_t i = 0; i < places_[place].count; ++i) {
            const Thread thread = threads_[places_[place].first + i];
            if ((thread.state & token_thread) != 0) continue;
            const ByteSet first = pool_.first_bytes(thread.state);
            if (!follows(thread)) {
                all = all | first;
                continue;
            }
            first.each([&](std::uint8_t byte) {
                Thread after = thread;
                if (step(after, byte)) all.add(byte);
            });
        }
        byte_sets_.push_back(all);
        places_[place].bytes = std::int32_t(byte_sets_.size() - 1);
    }
    return byte_sets_[std::size_t(places_[place].bytes)];
}

void Machine::spawn(std::uint32_t state, std::uint32_t cont) {
    if (state == Expressions::none) return;
    add_work({Work::Kind::state, state, cont});
}

/// Each once: by a look through the list while it is short, by a table when it is not.
void Machine::add_work(const Work& work) {
    constexpr std::size_t is_long = 32;
    const auto is_it = [&](std::uint32_t i) { return work_[i] == work; };
    if (work_.size() < is_long) {
        if (std::ranges::find(work_, work) != work_.end()) return;
    } else {
        if (work_index_.size() == 0)
            for (std::size_t i = 0; i < work_.size(); ++i)
                work_index_.insert(work_[i].hash(), std::uint32_t(i));
        if (work_index_.find(work.hash(), is_it) != Index::none) return;
        work_index_.insert(work.hash(), std::uint32_t(work_.size()));
    }
    work_.push_back(work);
}

void Machine::clear_work() {
    work_.clear();
    if (work_index_.size() != 0) work_index_ = {};
    done_ = 0;
    accepts_ = false;
}

void Machine::expand(Node node, std::uint32_t cont) {
    add_work({Work::Kind::node, node, cont});
}

void Machine::run() {
    for (; done_ < work_.size(); ++done_) {
        if (done_ >= step_limit) {
            clear_work();
            throw TooMuchWork("one byte leads to more than " + std::to_string(step_limit) +
                              " places of the grammar");
        }
        const Work work = work_[done_];
        if (work.kind == Work::Kind::state) {
            if ((work.what & token_thread) != 0 || !pool_.nullable(work.what)) continue;
            for (std::uint32_t i = 0; i < lists_[work.cont].count; ++i) {
                const Frame frame = frames_[frames(work.cont)[i]];
                resume(work.what, frame);
            }
            continue;
        }
        const GrammarNode node = grammar_.nodes[work.what];
        using NodeKind = GrammarNode::Kind;
        switch (node.kind) {
        case NodeKind::word:
            spawn(node.a, work.cont);
            break;
        case NodeKind::token:
            spawn(token_thread | node.a, work.cont);
            break;
        case NodeKind::sequence:
            if (node.b == 0)
                spawn(Expressions::empty, work.cont);
            else if (node.b == 1)
                expand(grammar_.lists[node.a], work.cont);
            else
                expand(grammar_.lists[node.a],
                       push({Kind::sequence, opened, work.what, 1, 0, work.cont}));
            break;
        case NodeKind::choice:
            for (std::uint32_t i = 0; i < node.b; ++i)
                expand(grammar_.lists[node.a + i], work.cont);
            break;
        case NodeKind::repeat:
            if (node.b == 0) spawn(Expressions::empty, work.cont);
            if (node.c > 0)
                expand(node.a, push({Kind::repeat, opened, work.what, 1, 0, work.cont}));
            break;
        case NodeKind::rule:
            expand(grammar_.rules[node.a], work.cont);
            break;
        case NodeKind::value:
            expand_value(node.a, work.cont);
            break;
        case NodeKind::capture:
            expand(node.b, push({Kind::capture, opened, node.a, 0, 0, work.cont}));
            break;
        case NodeKind::unordered:
            if (grammar_.unordered[node.a].can_end(0)) spawn(Expressions::empty, work.cont);
            expand_parts({Kind::unordered, opened, node.a, 0, 0, work.cont});
            break;
        }
    }
}

/// What was read is complete: go on with the frame behind it.
void Machine::resume(std::uint32_t state, const Frame& frame) {
    switch (frame.kind) {
    case Kind::root:
        accepts_ = true;
        return;
    case Kind::capture:
        spawn(Expressions::empty, frame.cont);
        return;
    case Kind::sequence: {
        const GrammarNode& node = grammar_.nodes[frame.a];
        const Node part = grammar_.lists[node.a + frame.b];
        const bool is_last = frame.b + 1 == node.b;
        Frame next_frame = frame;
        ++next_frame.b;
        expand(part, is_last ? frame.cont : push(next_frame));
        return;
    }
    case Kind::repeat: {
        const GrammarNode& node = grammar_.nodes[frame.a];
        if (frame.b >= node.b) spawn(Expressions::empty, frame.cont);
        if (frame.b >= node.c) return;
        Frame again = frame;
        const std::uint32_t enough = node.c == Expressions::forever ? std::max(node.b, 1U) : node.c;
        again.b = std::min(frame.b + 1, enough);
        expand(node.a, push(again));
        return;
    }
    case Kind::unordered:
        return resume_unordered(frame);
    case Kind::object:
        return resume_object(state, frame);
    case Kind::array:
        return resume_array(frame);
    case Kind::text:
        return resume_text(frame);
    }
}

void Machine::resume_unordered(Frame frame) {
    if (frame.phase == next) return expand_parts(frame); // the separator is complete
    const Unordered& all = grammar_.unordered[frame.a];
    const std::uint64_t seen = std::uint64_t(frame.c) << 32 | frame.b;
    if (all.can_end(seen)) spawn(Expressions::empty, frame.cont);
    if (!all.can_go_on(seen)) return;
    frame.phase = next;
    expand(all.separator, push(frame));
}

/// One of the parts that have not been seen.
void Machine::expand_parts(Frame frame) {
    const Unordered& all = grammar_.unordered[frame.a];
    const std::uint64_t seen = std::uint64_t(frame.c) << 32 | frame.b;
    frame.phase = value;
    all.left(seen, [&](std::size_t i) {
        const std::uint64_t after = all.with(seen, i);
        frame.b = std::uint32_t(after), frame.c = std::uint32_t(after >> 32);
        expand(all.parts[i], push(frame));
    });
}

Place Machine::finish() {
    run();
    std::vector<Thread> all;
    for (const Work& work : work_)
        if (work.kind == Work::Kind::state && work.what != Expressions::empty)
            all.push_back({work.what, work.cont});
    std::ranges::sort(all, [](const Thread& x, const Thread& y) {
        return std::tie(x.state, x.cont) < std::tie(y.state, y.cont);
    });
    std::size_t count = 0;
    for (const Thread& thread : all) {
        if (count > 0 && all[count - 1].state == thread.state)
            all[count - 1].cont = join(all[count - 1].cont, thread.cont);
        else
            all[count++] = thread;
    }
    all.resize(count);
    const bool is_accepting = accepts_;
    clear_work();
    if (all.empty() && !is_accepting) return dead;
    std::uint64_t h = is_accepting;
    for (const Thread& thread : all) h = mix(h, std::uint64_t(thread.state) << 32 | thread.cont);
    const auto known = places_index_.find(h, [&](std::uint32_t i) {
        return places_[i].is_accepting == is_accepting && std::ranges::equal(threads(i), all);
    });
    if (known != Index::none) return known;
    places_.push_back({std::uint32_t(threads_.size()), std::uint32_t(all.size()), is_accepting});
    threads_.insert(threads_.end(), all.begin(), all.end());
    places_index_.insert(h, Place(places_.size() - 1));
    return Place(places_.size() - 1);
}

Place Machine::behind(const Thread& thread) {
    const std::uint64_t key = std::uint64_t(thread.state) << 32 | thread.cont;
    const auto known =
        behind_index_.find(mix(key), [&](std::uint32_t i) { return behind_[i].key == key; });
    if (known != Index::none) return behind_[known].to;
    clear_work();
    for (std::uint32_t i = 0; i < lists_[thread.cont].count; ++i) {
        const Frame frame = frames_[frames(thread.cont)[i]];
        resume(thread.state, frame);
    }
    const Place to = finish();
    behind_index_.insert(mix(key), std::uint32_t(behind_.size()));
    behind_.push_back({key, to});
    return to;
}

} // namespace engine
