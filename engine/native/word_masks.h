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
#include <span>
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
    std::shared_ptr<const Roots> behind; // tokens that go on behind the word; null if none do
};

/// Safe to use from several threads.
class WordMasks {
  public:
    using Key = Fingerprint; // of an expression and of where it is looked at
    /// Bytes to keep; beyond that all is forgotten.
    explicit WordMasks(std::size_t limit = std::size_t(64) << 20) : limit_(limit) {}

    /// Null where it is not kept.
    std::shared_ptr<const WordMask> find(const Key& key) const;
    void keep(const Key& key, std::shared_ptr<const WordMask> word);
    /// What is equal to something kept is that, so that it takes memory once.
    std::shared_ptr<const std::uint32_t[]> mask(ConstMask mask);
    std::shared_ptr<const Roots> roots(std::vector<TrieRange> ranges);
    void forget();
    std::size_t memory_bytes() const;

  private:
    template <class Value>
    using Table = std::unordered_map<Fingerprint, std::shared_ptr<const Value>, Fingerprint::Hash>;
    void count(std::size_t bytes);
    void clear();

    mutable std::mutex mutex_;
    const std::size_t limit_;
    std::size_t bytes_ = 0;
    Table<WordMask> words_;
    Table<std::uint32_t[]> masks_;
    Table<Roots> roots_;
};

} // namespace engine
