/// 128 bits that stand for a value, the same wherever in the process it is made.
///
/// Knows hashing. Does not know what the values mean. Two values with one fingerprint would be a
/// wrong mask: a secret of the process goes into each, so that nobody can look for such a pair.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string_view>

#include "interner.h"

namespace engine {

struct Fingerprint {
    std::uint64_t low = 0, high = 0;
    bool operator==(const Fingerprint&) const = default;

    Fingerprint() = default;
    explicit Fingerprint(std::uint64_t kind) {
        static const std::uint64_t secret[2] = {random_bits(), random_bits()};
        low = secret[0];
        high = secret[1];
        add(kind);
    }
    /// The order in which values are added counts.
    void add(std::uint64_t value) {
        low = mix(low, value);
        high = mix(high ^ 0xa0761d6478bd642fULL, value * 0xe7037ed1a0b428dbULL);
    }
    void add(const Fingerprint& other) {
        low = mix(low, other.low);
        high = mix(high, other.high);
    }
    void add(std::string_view text) {
        add(text.size());
        for (std::size_t at = 0; at < text.size(); at += 8) {
            std::uint64_t eight = 0;
            for (std::size_t i = at; i < std::min(at + 8, text.size()); ++i)
                eight = eight << 8 | std::uint8_t(text[i]);
            add(eight);
        }
    }
    /// The order does not count.
    void add_unordered(const Fingerprint& other) {
        low += mix(other.low);
        high += mix(other.high);
    }

    struct Hash {
        std::size_t operator()(const Fingerprint& f) const { return std::size_t(f.low); }
    };

  private:
    static std::uint64_t random_bits() {
        std::random_device device;
        return std::uint64_t(device()) << 32 | device();
    }
};

} // namespace engine
