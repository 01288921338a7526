/// Values of which each is kept once, and known by a number.
///
/// Knows hashing. Does not know what the values mean. Numbers count up from 0, so they index other
/// arrays, and equal values have equal numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace engine {

/// Mixes 64 bits so that all of them count (the finaliser of SplitMix64).
inline std::uint64_t mix(std::uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

inline std::uint64_t mix(std::uint64_t hash, std::uint64_t more) {
    return mix(hash ^ (more + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2)));
}

/// An open-addressing table of numbers; the values themselves live with the owner.
class Index {
  public:
    static constexpr std::uint32_t none = 0xffffffffU;

    /// The number at `hash` for which `is_equal(number)`, else `none`.
    template <class Equal>
    std::uint32_t find(std::uint64_t hash, Equal&& is_equal) const {
        if (slots_.empty()) return none;
        for (std::size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
            const Slot& slot = slots_[at];
            if (slot.number == none) return none;
            if (slot.tag == std::uint32_t(hash >> 32) && is_equal(slot.number)) return slot.number;
        }
    }

    void insert(std::uint64_t hash, std::uint32_t number) {
        if ((count_ + 1) * 4 > slots_.size() * 3) grow();
        put({std::uint32_t(hash >> 32), std::uint32_t(hash), number});
        ++count_;
    }

    std::size_t size() const { return count_; }
    std::size_t memory_bytes() const { return slots_.capacity() * sizeof(Slot); }

  private:
    struct Slot {
        std::uint32_t tag = 0, low = 0, number = none;
    };

    void put(const Slot& slot) {
        std::size_t at = slot.low & (slots_.size() - 1);
        while (slots_[at].number != none) at = (at + 1) & (slots_.size() - 1);
        slots_[at] = slot;
    }

    void grow() {
        std::vector<Slot> old(slots_.empty() ? 64 : slots_.size() * 2);
        old.swap(slots_);
        for (const Slot& slot : old)
            if (slot.number != none) put(slot);
    }

    std::vector<Slot> slots_;
    std::size_t count_ = 0;
};

/// Values of type T with `hash()` and `==`, each kept once.
template <class T>
class Interner {
  public:
    std::uint32_t intern(const T& value) {
        const std::uint64_t hash = value.hash();
        const std::uint32_t known =
            index_.find(hash, [&](std::uint32_t i) { return values_[i] == value; });
        if (known != Index::none) return known;
        values_.push_back(value);
        index_.insert(hash, std::uint32_t(values_.size() - 1));
        return std::uint32_t(values_.size() - 1);
    }

    const T& operator[](std::uint32_t number) const { return values_[number]; }
    std::size_t size() const { return values_.size(); }
    std::size_t memory_bytes() const {
        return values_.capacity() * sizeof(T) + index_.memory_bytes();
    }

  private:
    std::vector<T> values_;
    Index index_;
};

} // namespace engine
