/// Which tokens a word takes, kept for all grammars over a vocabulary.
///
/// Knows masks, parts of tries and fingerprints. Does not know expressions or grammars.
///
/// Which tokens stay inside a word depends on its expression alone, not on what comes behind it,
/// and most schemas are made of the same strings, numbers, dates and spaces. What a token's bytes
/// behind the end of the word may be is another question, for the part of the trie below there.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fingerprint.h"
#include "mask.h"

namespace engine {

/// Some nodes of one of the vocabulary's tries: siblings with all that is below them.
struct TrieRange {
    std::uint32_t trie, first, last;
    auto operator<=>(const TrieRange&) const = default;
};

/// Where tokens go on, as when a word before was complete.
struct Roots {
    std::vector<TrieRange> ranges;
    Fingerprint fingerprint;
};

struct WordMask {
    std::shared_ptr<const std::uint32_t[]> many; // tokens as bits, if they are many
    std::vector<std::int32_t> few;               // else by their ids
    std::shared_ptr<const Roots> behind;         // of tokens that go on behind the word, if any do
};

/// Each mask and each part of a trie is kept once. Safe to use from several threads; what it gives
/// out lives on with those who use it.
class WordMasks {
  public:
    using Key = Fingerprint; // of an expression and of where it is looked at
    using Word = std::shared_ptr<const WordMask>;

    /// About so many bytes are kept: those of what was used last.
    explicit WordMasks(std::size_t limit = std::size_t(64) << 20) : limit_(limit) {}

    /// Null where it is not kept.
    Word find(const Key& key);
    /// The tokens are in one of `many` and `few`.
    Word keep(const Key& key, ConstMask many, std::vector<std::int32_t> few,
              std::vector<TrieRange> behind);
    void forget();
    std::size_t memory_bytes() const;

  private:
    /// Values by fingerprints, in two generations: those that nobody asks for while the younger one
    /// fills up are forgotten with the older one.
    template <class Value>
    struct Table {
        using Values =
            std::unordered_map<Fingerprint, std::shared_ptr<const Value>, Fingerprint::Hash>;
        Values young, old;
        std::shared_ptr<const Value> find(const Fingerprint& key) {
            if (const auto known = young.find(key); known != young.end()) return known->second;
            const auto known = old.find(key);
            return known == old.end() ? nullptr : young[key] = known->second;
        }
        void age() {
            old = std::move(young);
            young.clear();
        }
    };
    template <class Value>
    std::shared_ptr<const Value> add(Table<Value>& table, const Fingerprint& key,
                                     std::shared_ptr<const Value> value, std::size_t bytes);
    std::shared_ptr<const std::uint32_t[]> kept_mask(ConstMask mask);
    std::shared_ptr<const Roots> kept_roots(std::vector<TrieRange> ranges);

    mutable std::mutex mutex_;
    const std::size_t limit_;
    std::size_t young_bytes_ = 0, old_bytes_ = 0;
    Table<WordMask> words_;    // by expression and place
    Table<WordMask> contents_; // the same by what they are
    Table<std::uint32_t[]> masks_;
    Table<Roots> roots_;
};

} // namespace engine
