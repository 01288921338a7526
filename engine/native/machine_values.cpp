#include "machine.h"

#include <algorithm>
#include <set>

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
    for (const auto shape : forms.objects)
        spawn(open_object_, push({Kind::object, opened, shape, nothing_seen, 0, cont}));
    for (const auto shape : forms.arrays) {
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
    if (now.end) spawn(close_object_, frame.cont);
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
        std::uint64_t needed = missing[0] - must[i], more = possible[from] - (from == 0);
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

bool Machine::can_grow(const ArrayShape& shape, const Counts& counts) {
    const std::uint32_t n = counts.items[0];
    if (n >= shape.max) return false;
    return !values_->is_dead(item_kind(shape, counts));
}

/// What the next item must be, by its place and by those before it.
Value Machine::item_kind(const ArrayShape& shape, const Counts& counts) {
    const std::uint32_t n = counts.items[0];
    const Value kind = n < shape.first.size() ? shape.first[n] : shape.rest;
    return counts.seen.empty() ? kind : values_->without(kind, counts.seen);
}

/// An item that must differ from the others is complete.
void Machine::resume_text(const Frame& frame) {
    const std::uint32_t literal = values_->literal(texts_[frame.a].read);
    const auto list = frames(frame.cont);
    const std::vector<std::uint32_t> all(list.begin(), list.end());
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
    if (ends) spawn(close_array_, frame.cont);
    if (!can_grow(shape, counts)) return;
    if (is_first)
        array_item(frame);
    else
        spawn(values_->spacing().comma, push(frame, next, 0));
}

/// Whether the item at `at` may be one that counts for just these `contains`.
bool Machine::may_count(const ArrayShape& shape, std::uint32_t at, std::size_t which) {
    Value item = at < shape.first.size() ? shape.first[at] : shape.rest;
    for (std::size_t i = 0; i < shape.contains.size(); ++i) {
        const auto& each = shape.contains[i];
        if ((which >> i & 1) != 0)
            item = values_->meet(item, each.counted);
        else if (each.max != Expressions::forever)
            item = values_->meet(item, each.other);
    }
    return !values_->is_dead(item);
}

/// Whether the items from `at` on can be such that each `contains` counts as many as are wanted.
bool Machine::can_be_found(std::uint32_t shape, std::uint32_t at,
                           std::vector<std::uint32_t> wanted) {
    constexpr std::uint32_t exact_up_to = 32; // beyond, the others are taken to fit as well
    const ArrayShape& array = values_->array(shape);
    for (auto& count : wanted) count = std::min(count, exact_up_to);
    if (std::ranges::all_of(wanted, [](auto n) { return n == 0; })) return true;
    // Behind the items at the front, the place matters only where the end is near.
    if (array.max == Expressions::forever) at = std::min(at, std::uint32_t(array.first.size()));
    std::vector<std::uint32_t> key = wanted;
    key.insert(key.end(), {shape, at});
    const auto [found, is_new] = can_be_found_.try_emplace(std::move(key), false);
    if (is_new) found->second = search(array, at, wanted);
    return found->second;
}

bool Machine::search(const ArrayShape& shape, std::uint32_t at,
                     const std::vector<std::uint32_t>& wanted) {
    const std::size_t ways = std::size_t(1) << shape.contains.size();
    std::set<std::vector<std::uint32_t>> open{wanted}, seen;
    for (;; ++at) {
        const bool is_rest = at >= shape.first.size();
        std::set<std::vector<std::uint32_t>> next;
        for (const auto& left : open)
            if (std::ranges::all_of(left, [](auto n) { return n == 0; })) return true;
        if (at >= shape.max) return false;
        for (std::size_t way = 0; way < ways; ++way) {
            if ((way == 0 && is_rest) || !may_count(shape, at, way)) continue;
            for (auto left : open) {
                for (std::size_t i = 0; i < left.size(); ++i)
                    if ((way >> i & 1) != 0 && left[i] > 0) --left[i];
                if (!is_rest || seen.insert(left).second) next.insert(std::move(left));
            }
        }
        if (next.empty()) return false;
        open = std::move(next);
    }
}

/// The next item: one thread for each way in which it may count for the `contains`.
void Machine::array_item(const Frame& frame) {
    const ArrayShape& shape = values_->array(frame.a);
    const Counts counts = counts_[frame.b];
    const std::uint32_t n = counts.items[0];
    const Value kind = item_kind(shape, counts);
    const std::size_t ways = std::size_t(1) << shape.contains.size();
    for (std::size_t way = 0; way < ways; ++way) {
        Value item = kind;
        bool fits = true;
        std::vector<std::uint32_t> wanted;
        for (std::size_t i = 0; i < shape.contains.size(); ++i) {
            const auto& each = shape.contains[i];
            const bool counted = (way >> i & 1) != 0;
            const std::uint32_t after = counts.items[i + 1] + counted;
            fits &= after <= each.max;
            wanted.push_back(each.min > after ? each.min - after : 0);
            // Where nothing limits how many count, one that counts may go as one that doesn't.
            if (counted)
                item = values_->meet(item, each.counted);
            else if (each.max != Expressions::forever)
                item = values_->meet(item, each.other);
        }
        if (!fits || values_->is_dead(item)) continue;
        if (!wanted.empty() && !can_be_found(frame.a, n + 1, std::move(wanted))) continue;
        std::uint32_t behind = push(frame, value, std::uint32_t(way));
        if (shape.is_unique) {
            const auto memory = shape.first.empty() ? Memory::items : Memory::all;
            behind =
                push({Kind::text, opened, texts_.intern({}), std::uint32_t(memory), 0, behind});
        }
        expand_value(item, behind);
    }
}

} // namespace engine
