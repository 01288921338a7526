#include "word_masks.h"

#include <algorithm>

namespace engine {

namespace {

constexpr std::size_t entry_bytes = 96; // of a table, with the counts of a shared pointer, about

} // namespace

std::shared_ptr<const WordMask> WordMasks::find(const Key& key) const {
    const std::scoped_lock lock(mutex_);
    const auto known = words_.find(key);
    return known == words_.end() ? nullptr : known->second;
}

void WordMasks::keep(const Key& key, std::shared_ptr<const WordMask> word) {
    const std::scoped_lock lock(mutex_);
    count(entry_bytes + sizeof(WordMask) + word->few.capacity() * sizeof(std::int32_t));
    words_.emplace(key, std::move(word));
}

std::shared_ptr<const std::uint32_t[]> WordMasks::mask(ConstMask mask) {
    Fingerprint print(mask.size());
    for (std::size_t i = 0; i + 1 < mask.size(); i += 2)
        print.add(std::uint64_t(mask[i]) << 32 | mask[i + 1]);
    if (mask.size() % 2 != 0) print.add(mask.back());
    const std::scoped_lock lock(mutex_);
    if (const auto known = masks_.find(print); known != masks_.end()) return known->second;
    count(entry_bytes + mask.size_bytes());
    std::shared_ptr<std::uint32_t[]> out(new std::uint32_t[mask.size()]);
    std::ranges::copy(mask, out.get());
    return masks_[print] = std::move(out);
}

std::shared_ptr<const Roots> WordMasks::roots(std::vector<TrieRange> ranges) {
    Fingerprint print(ranges.size());
    for (const auto& range : ranges) {
        print.add(range.trie);
        print.add(std::uint64_t(range.first) << 32 | range.last);
    }
    const std::scoped_lock lock(mutex_);
    if (const auto known = roots_.find(print); known != roots_.end()) return known->second;
    count(entry_bytes + sizeof(Roots) + ranges.size() * sizeof(TrieRange));
    return roots_[print] = std::make_shared<Roots>(std::move(ranges), print);
}

void WordMasks::forget() {
    const std::scoped_lock lock(mutex_);
    clear();
}

std::size_t WordMasks::memory_bytes() const {
    const std::scoped_lock lock(mutex_);
    return bytes_;
}

/// Those in use live on with their users.
void WordMasks::count(std::size_t bytes) {
    if (bytes_ + bytes > limit_) clear();
    bytes_ += bytes;
}

void WordMasks::clear() {
    words_.clear();
    masks_.clear();
    roots_.clear();
    bytes_ = 0;
}

} // namespace engine
