/// A vocabulary cut at the first byte that is not plain text inside a JSON string.
///
/// Knows token bytes and UTF-8. Does not know grammars.
///
/// Of the tokens that may come inside a string, nearly all are plain: whole characters, none of
/// them a quote, a backslash or a control character. They are one mask for all strings, or one for
/// each number of characters that are left. The others are a plain beginning and a rest, and few
/// rests are distinct, so that what may follow a string is asked for each rest once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alphabets.h"
#include "mask.h"
#include "token_trie.h"

namespace engine {

/// Whether a character is plain. The line ends of Unicode are not: a pattern's dot leaves them out.
bool is_plain(std::uint32_t point);

class Slices {
  public:
    Slices(std::string_view data, std::span<const std::uint64_t> offsets);

    /// Plain tokens of at most `characters` characters, added to `mask`.
    void add_plain(std::uint32_t characters, Mask mask) const;
    /// The longest plain beginning, in characters.
    std::uint32_t longest() const { return longest_; }
    /// The rests of tokens with `characters` plain characters before them.
    const WrittenTrie& rests(std::uint32_t characters) const { return rests_[characters]; }
    std::uint32_t n_rests() const { return std::uint32_t(rests_.size()); }
    /// The rests of all tokens with at least one plain character before them.
    const WrittenTrie& inner_rests() const { return inner_.front(); }
    /// All tokens that are not plain, whole.
    const WrittenTrie& mixed() const { return mixed_.front(); }
    /// The ids of tokens of more than `bytes` bytes.
    std::span<const std::int32_t> longer_than(std::size_t bytes) const;
    /// A trie of all of these, and perhaps of some that are shorter; null where there is none.
    const WrittenTrie* long_tokens(std::size_t bytes) const;
    std::string_view token(std::int32_t id) const {
        const auto i = std::size_t(id);
        return std::string_view(data_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
    }
    std::size_t memory_bytes() const;

  private:
    std::string data_;
    std::vector<std::uint64_t> offsets_;
    std::vector<std::int32_t> by_length_;                         // longest first
    std::vector<std::pair<std::size_t, WrittenTrie>> long_tries_; // of tokens of so many bytes
    std::vector<WrittenTrie> mixed_;
    std::size_t words_ = 0;
    std::uint32_t longest_ = 0;
    std::vector<std::vector<std::uint32_t>> plain_;            // by characters: all up to that many
    std::vector<std::pair<std::uint32_t, std::int32_t>> long_; // characters and id beyond those
    std::vector<WrittenTrie> rests_;
    std::vector<WrittenTrie> inner_;
};

} // namespace engine
