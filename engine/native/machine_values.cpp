#include "machine.h"

#include <algorithm>

namespace engine {

namespace {

bool has(const std::vector<std::uint64_t>& bits, std::uint32_t i) {
    return i / 64 < bits.size() && (bits[i / 64] >> (i % 64) & 1) != 0;
}

void set(std::vector<std::uint64_t>& bits, std::uint32_t i) {
    if (i / 64 >= bits.size()) bits.resize(i / 64 + 1);
    bits[i / 64] |= 1ULL << (i % 64);
}

} // namespace

// JSON values

void Machine::expand_value(Value value, std::uint32_t cont) {
    const ValueForms& forms = values_->forms(value);
    if (forms.scalar != Expressions::none) spawn(forms.scalar, cont);
    const std::uint32_t nothing_seen = seen_.intern({});
    for (const auto shape : forms.objects) {
        if (values_->is_object_dead(shape)) continue;
        spawn(open_object_, push({Kind::object, opened, shape, nothing_seen, 0, cont}));
    }
    for (const auto shape : forms.arrays) {
        if (values_->is_array_dead(shape)) continue;
        const Counts none{std::vector<std::uint32_t>(1 + values_->array(shape).contains.size()),
                          {}};
        spawn(open_array_, push({Kind::array, opened, shape, counts_.intern(none), 0, cont}));
    }
}

void Machine::resume_object(std::uint32_t state, Frame frame) {
    const ObjectShape& shape = values_->object(frame.a);
    switch (frame.phase) {
    case opened:
        return object_options(frame, true);
    case quote: {
        const Choice& next_keys = choice(frame.a, frame.b);
        if (next_keys.has_words) spawn(shape.names, push(frame, named, 0));
        for (const auto i : std::vector(next_keys.others))
            spawn(shape.others[i].keys, push(frame, colon, other_key | i));
        return;
    }
    case named: {
        const std::uint32_t word = pool_.words_left(state).low;
        if (!has(choice(frame.a, frame.b).words, word)) return;
        const Frame after = [&] {
            Frame out = frame;
            out.phase = value;
            out.c = word;
            return out;
        }();
        return spawn(values_->spacing().colon, push(after));
    }
    case colon: {
        frame.phase = value;
        return spawn(values_->spacing().colon, push(frame));
    }
    case value: {
        frame.phase = next;
        const bool is_other = (frame.c & other_key) != 0;
        const Value kind = is_other ? shape.others[frame.c & ~other_key].value
                                    : shape.properties[shape.by_word[frame.c]].value;
        return expand_value(kind, push(frame));
    }
    case next: {
        Seen seen = seen_[frame.b];
        if ((frame.c & other_key) != 0) {
            seen.wishes |= shape.others[frame.c & ~other_key].wish;
            if (shape.is_ordered) seen.last = std::uint32_t(shape.properties.size());
        } else {
            set(seen.words, frame.c);
            if (shape.is_ordered) seen.last = shape.by_word[frame.c] + 1;
        }
        // The count matters only as far as a bound looks at it.
        const bool counts = shape.max != Expressions::forever || seen.count < shape.min;
        if (counts) ++seen.count;
        frame.b = seen_.intern(seen);
        return object_options(frame, false);
    }
    }
}

void Machine::object_options(Frame frame, bool is_first) {
    const Choice& now = choice(frame.a, frame.b);
    if (now.end) spawn(is_first ? empty_object_ : close_object_, frame.cont);
    if (now.has_words || !now.others.empty())
        spawn(is_first ? quote_ : next_key_, push(frame, quote, 0));
}

const Machine::Choice& Machine::choice(std::uint32_t shape, std::uint32_t seen) {
    const std::uint64_t key = std::uint64_t(shape) << 32 | seen;
    const auto known =
        choices_index_.find(mix(key), [&](std::uint32_t i) { return choices_[i].first == key; });
    if (known != Index::none) return choices_[known].second;
    Choice out = work_out(values_->object(shape), seen_[seen]);
    choices_index_.insert(mix(key), std::uint32_t(choices_.size()));
    choices_.emplace_back(key, std::move(out));
    return choices_.back().second;
}

bool Machine::keys(const Thread& thread, std::vector<std::uint64_t>& words) {
    words.clear();
    if (pool_.words_left(thread.state).high == 0) return false;
    for (std::uint32_t i = 0; i < lists_[thread.cont].count; ++i) {
        const Frame& frame = frames_[frames(thread.cont)[i]];
        if (frame.kind != Kind::object || frame.phase != named) return false;
        const auto& may = choice(frame.a, frame.b).words;
        if (words.size() < may.size()) words.resize(may.size());
        for (std::size_t at = 0; at < may.size(); ++at) words[at] |= may[at];
    }
    return true;
}

/// Which keys may come such that the object can still be completed.
Machine::Choice Machine::work_out(const ObjectShape& shape, const Seen& seen) {
    const auto n = std::uint32_t(shape.properties.size());
    std::vector<std::uint32_t> word_of(n);
    for (std::uint32_t word = 0; word < shape.by_word.size(); ++word)
        word_of[shape.by_word[word]] = word;
    const auto can_come = [&](const OtherKeys& other) { return !values_->is_dead(other.value); };
    const bool others = std::ranges::any_of(shape.others, can_come);
    std::vector<bool> had(n), must(n), can(n);
    std::vector<std::uint32_t> roots;
    for (std::uint32_t i = 0; i < n; ++i) {
        had[i] = has(seen.words, word_of[i]);
        must[i] = shape.properties[i].is_required;
        can[i] = !had[i] && i >= seen.last && !values_->is_dead(shape.properties[i].value);
        if (had[i] || must[i]) roots.push_back(i);
    }
    shape.close_needs(must, std::move(roots));
    shape.drop_lacking(can, had);
    // How many must and can still come, from each property on.
    std::vector<std::uint32_t> missing(n + 1), possible(n + 1);
    bool is_lost = false;
    for (std::uint32_t i = n; i-- > 0;) {
        missing[i] = missing[i + 1] + (must[i] && !had[i]);
        possible[i] = possible[i + 1] + can[i];
        is_lost |= must[i] && !had[i] && !can[i];
    }
    const auto fits = [&](std::uint64_t count, std::uint64_t needed, std::uint64_t more) {
        return count + needed <= shape.max && (others || count + more >= shape.min);
    };
    const bool has_needs = std::ranges::any_of(
        shape.properties, [](const auto& property) { return !property.needs.empty(); });
    const auto possible_behind = [&](std::uint32_t i) { // in the schema's order
        if (!has_needs || others) return std::uint64_t(possible[i + 1]);
        std::vector<bool> later = can, past = had;
        std::fill_n(later.begin(), i + 1, false);
        past[i] = true;
        shape.drop_lacking(later, past);
        return std::uint64_t(std::ranges::count(later, true));
    };
    const std::uint32_t wanted = shape.wishes & ~seen.wishes;
    const std::uint64_t unfulfilled = shape.fewest_keys(wanted, can_come);
    Choice out;
    out.words.resize((n + 63) / 64);
    out.end = missing[0] == 0 && wanted == 0 && seen.count >= shape.min;
    if (seen.count >= shape.max || is_lost || unfulfilled == Expressions::forever) return out;
    const std::uint64_t count = std::uint64_t(seen.count) + 1;
    for (std::uint32_t i = 0; i < n; ++i) {
        if (!can[i]) continue;
        const std::uint32_t from = shape.is_ordered ? i + 1 : 0;
        if (missing[from] + must[i] < missing[0] && shape.is_ordered) continue; // one was left out
        std::uint64_t needed = missing[0] - must[i];
        const std::uint64_t more = shape.is_ordered ? possible_behind(i) : possible[0] - 1;
        if (!shape.properties[i].needs.empty()) {
            auto wanted_too = must;
            shape.close_needs(wanted_too, {i});
            bool is_there = true;
            needed = 0;
            for (std::uint32_t j = 0; j < n; ++j) {
                if (!wanted_too[j] || had[j] || j == i) continue;
                ++needed;
                is_there &= can[j] && j >= from;
            }
            if (!is_there) continue;
        }
        if (!fits(count, needed + unfulfilled, more)) continue;
        set(out.words, word_of[i]);
        out.has_words = true;
    }
    if (shape.is_ordered && missing[0] > 0) return out;
    for (std::uint32_t i = 0; i < shape.others.size(); ++i) {
        if (!can_come(shape.others[i])) continue;
        const std::uint64_t left = shape.fewest_keys(wanted & ~shape.others[i].wish, can_come);
        if (fits(count, missing[0] + left, shape.is_ordered ? 0 : possible[0]))
            out.others.push_back(i);
    }
    return out;
}

/// What the next item must be, by its place and by those before it.
Value Machine::item_kind(const ArrayShape& shape, const Counts& counts) {
    const std::uint32_t n = counts.items[0];
    const Value kind = n < shape.first.size() ? shape.first[n] : shape.rest;
    return counts.seen.empty() ? kind : values_->without(kind, counts.seen);
}

/// An item that must differ from the others is complete.
void Machine::resume_text(const Frame& frame) {
    const auto list = frames(frame.cont);
    const std::vector<std::uint32_t> all(list.begin(), list.end());
    if (frame.a == forgotten) {
        for (const auto id : all) resume_array(Frame(frames_[id]));
        return;
    }
    const std::uint32_t literal = values_->literal(texts_[frame.a].read);
    for (const auto id : all) {
        Frame array = frames_[id];
        Counts counts = counts_[array.b];
        const auto at = std::ranges::lower_bound(counts.seen, literal);
        if (at != counts.seen.end() && *at == literal) continue;
        counts.seen.insert(at, literal);
        array.b = counts_.intern(counts);
        resume_array(array);
    }
}

/// Whether only the next item's text depends on that of `frame`: not what counts for a `contains`.
bool Machine::is_forgettable(const Frame& frame, bool is_string) const {
    if (frame.kind == Kind::object && frame.phase == named) return false;
    if (frame.kind != Kind::text || frame.a == forgotten) return true;
    const std::string& read = texts_[frame.a].read;
    if (Memory(frame.b) != Memory::items || !(read.empty() ? is_string : read[0] == '"'))
        return false;
    return std::ranges::all_of(frames(frame.cont), [&](std::uint32_t id) {
        return values_->array(frames_[id].a).contains.empty();
    });
}

Machine::Thread Machine::forgetting(const Thread& thread) {
    if (memory(thread) != Memory::items) return thread;
    const bool is_string = pool_.first_bytes(thread.state) == ByteSet::one('"');
    const std::uint64_t key = std::uint64_t(thread.cont) << 1 | is_string;
    if (const auto known = forgetting_.find(key); known != forgetting_.end())
        return {thread.state, known->second};
    const auto list = frames(thread.cont);
    std::vector<std::uint32_t> all(list.begin(), list.end());
    const auto may = [&](std::uint32_t id) { return is_forgettable(frames_[id], is_string); };
    std::uint32_t cont = thread.cont;
    if (std::ranges::all_of(all, may)) {
        for (auto& id : all) {
            Frame frame = frames_[id];
            if (frame.kind == Kind::text) frame.a = forgotten;
            id = frames_.intern(frame);
        }
        cont = list_of(all);
    }
    forgetting_[key] = cont;
    return {thread.state, cont};
}

void Machine::resume_array(Frame frame) {
    switch (frame.phase) {
    case opened:
        return array_options(frame, true);
    case next:
        return array_item(frame);
    case value: { // an item is complete; c has a bit for each `contains` that counted it
        const ArrayShape& shape = values_->array(frame.a);
        Counts counts = counts_[frame.b];
        const auto beyond = std::uint32_t(std::max<std::size_t>(shape.min, shape.first.size()));
        if (shape.max != Expressions::forever || counts.items[0] < beyond) ++counts.items[0];
        for (std::size_t i = 0; i < shape.contains.size(); ++i) {
            const auto& each = shape.contains[i];
            auto& count = counts.items[i + 1];
            if ((frame.c >> i & 1) != 0 && (each.max != Expressions::forever || count < each.min))
                ++count;
        }
        frame.b = counts_.intern(counts);
        return array_options(frame, false);
    }
    default:
        return;
    }
}

void Machine::array_options(Frame frame, bool is_first) {
    const ArrayShape& shape = values_->array(frame.a);
    const Counts counts = counts_[frame.b];
    bool ends = counts.items[0] >= shape.min;
    for (std::size_t i = 0; i < shape.contains.size(); ++i)
        ends &= counts.items[i + 1] >= shape.contains[i].min;
    if (ends) spawn(is_first ? empty_array_ : close_array_, frame.cont);
    if (is_first)
        array_item(frame);
    else if (!item_ways(frame).empty())
        spawn(values_->spacing().comma, push(frame, next, 0));
}

/// Whether the items from `at` on can be such that the array can end.
bool Machine::can_end(std::uint32_t shape, std::uint32_t at, std::vector<ArrayShape::Left> left) {
    const ArrayShape& array = values_->array(shape);
    // Far enough behind, the place matters only where a last one is near.
    const auto same = std::uint32_t(std::max<std::size_t>(array.first.size(), array.min));
    if (array.max == Expressions::forever) at = std::min(at, same);
    std::vector<std::uint32_t> key{shape, at};
    for (const auto& one : left) key.insert(key.end(), {one.must, one.may});
    if (const auto known = can_end_.find(key); known != can_end_.end()) return known->second;
    return can_end_[std::move(key)] =
               array.can_end(at, left, [&](std::uint32_t place, std::uint32_t way) {
                   const bool is_rest = place >= array.first.size();
                   const Value kind = is_rest ? array.rest : array.first[place];
                   return !values_->is_dead(values_->item(array, kind, way));
               });
}

/// What the next item may be, with the `contains` that it counts for.
std::vector<std::pair<Value, std::uint32_t>> Machine::item_ways(const Frame& frame) {
    const ArrayShape& shape = values_->array(frame.a);
    const Counts counts = counts_[frame.b];
    const std::uint32_t n = counts.items[0];
    std::vector<std::pair<Value, std::uint32_t>> out;
    if (n >= shape.max) return out;
    const Value kind = item_kind(shape, counts);
    for (std::uint32_t way = 0; way < 1U << shape.contains.size(); ++way) {
        bool fits = true;
        std::vector<ArrayShape::Left> left;
        for (std::size_t i = 0; i < shape.contains.size(); ++i) {
            const std::uint32_t after = counts.items[i + 1] + (way >> i & 1);
            fits = fits && after <= shape.contains[i].max;
            if (fits) left.push_back(ArrayShape::left_of(shape.contains[i], after));
        }
        if (!fits) continue;
        const Value item = values_->item(shape, kind, way);
        if (values_->is_dead(item)) continue;
        if (left.empty() || can_end(frame.a, n + 1, std::move(left))) out.emplace_back(item, way);
    }
    return out;
}

/// The next item: one thread for each way in which it may count for the `contains`.
void Machine::array_item(const Frame& frame) {
    const ArrayShape& shape = values_->array(frame.a);
    for (const auto& [item, way] : item_ways(frame)) {
        std::uint32_t behind = push(frame, value, way);
        if (shape.is_unique) {
            const auto memory = shape.first.empty() ? Memory::items : Memory::all;
            behind =
                push({Kind::text, opened, texts_.intern({}), std::uint32_t(memory), 0, behind});
        }
        expand_value(item, behind);
    }
}

} // namespace engine
