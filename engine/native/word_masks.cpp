#include "word_masks.h"

#include <algorithm>

namespace engine {

namespace {

constexpr std::size_t entry_bytes = 96; // of a table, with the counts of a shared pointer, about

} // namespace

WordMasks::Word WordMasks::find(const Key& key) {
    const std::scoped_lock lock(mutex_);
    return words_.find(key);
}

WordMasks::Word WordMasks::keep(const Key& key, ConstMask many, std::vector<std::int32_t> few,
                                std::vector<TrieRange> behind) {
    Fingerprint print(few.size());
    for (const auto id : few) print.add(std::uint64_t(id));
    const std::scoped_lock lock(mutex_);
    auto word = std::make_shared<WordMask>();
    if (!many.empty()) word->many = kept_mask(many);
    if (!behind.empty()) word->behind = kept_roots(std::move(behind));
    print.add(reinterpret_cast<std::uintptr_t>(word->many.get()));
    print.add(reinterpret_cast<std::uintptr_t>(word->behind.get()));
    word->few = std::move(few);
    const std::size_t bytes = sizeof(WordMask) + word->few.capacity() * sizeof(std::int32_t);
    Word kept = contents_.find(print);
    if (kept == nullptr) kept = add<WordMask>(contents_, print, std::move(word), bytes);
    return add<WordMask>(words_, key, std::move(kept), 0);
}

template <class Value>
std::shared_ptr<const Value> WordMasks::add(Table<Value>& table, const Fingerprint& key,
                                            std::shared_ptr<const Value> value, std::size_t bytes) {
    bytes += entry_bytes;
    if (young_bytes_ + bytes > limit_ / 2) {
        words_.age();
        contents_.age();
        masks_.age();
        roots_.age();
        old_bytes_ = young_bytes_;
        young_bytes_ = 0;
    }
    young_bytes_ += bytes;
    return table.young[key] = std::move(value);
}

std::shared_ptr<const std::uint32_t[]> WordMasks::kept_mask(ConstMask mask) {
    Fingerprint print(mask.size());
    print.add(hash_of(mask));
    if (const auto known = masks_.find(print))
        if (std::ranges::equal(mask, ConstMask(known.get(), mask.size()))) return known;
    std::shared_ptr<std::uint32_t[]> out(new std::uint32_t[mask.size()]);
    std::ranges::copy(mask, out.get());
    return add<std::uint32_t[]>(masks_, print, std::move(out), mask.size_bytes());
}

std::shared_ptr<const Roots> WordMasks::kept_roots(std::vector<TrieRange> ranges) {
    Fingerprint print(ranges.size());
    for (const auto& range : ranges) {
        print.add(range.trie);
        print.add(std::uint64_t(range.first) << 32 | range.last);
    }
    if (auto known = roots_.find(print)) return known;
    const std::size_t bytes = sizeof(Roots) + ranges.capacity() * sizeof(TrieRange);
    return add<Roots>(roots_, print, std::make_shared<Roots>(std::move(ranges), print), bytes);
}

void WordMasks::forget() {
    const std::scoped_lock lock(mutex_);
    words_ = {};
    contents_ = {};
    masks_ = {};
    roots_ = {};
    young_bytes_ = old_bytes_ = 0;
}

std::size_t WordMasks::memory_bytes() const {
    const std::scoped_lock lock(mutex_);
    return young_bytes_ + old_bytes_;
}

} // namespace engine
