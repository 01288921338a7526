#include "slices.h"

#include <algorithm>

#include "code_points.h"

namespace engine {

bool is_plain(std::uint32_t point) {
    return point >= 0x20 && point != '"' && point != '\\' && point != 0x2028 && point != 0x2029;
}

namespace {

constexpr std::uint32_t most_masks = 33; // one for each number of characters below

constexpr std::array<std::size_t, 4> long_tokens_from{17, 25, 33, 65};

/// How many plain characters a token begins with, and how many bytes they take.
std::pair<std::uint32_t, std::size_t> plain_beginning(std::string_view token) {
    std::uint32_t characters = 0;
    std::size_t at = 0;
    while (at < token.size()) {
        const auto [point, length] = first_character(token.substr(at));
        const bool is_bad = point == 0xfffd && length == 1;
        if (is_bad || !is_plain(point)) break;
        at += length;
        ++characters;
    }
    return {characters, at};
}

} // namespace

Slices::Slices(std::string_view data, std::span<const std::uint64_t> offsets)
    : data_(data), offsets_(offsets.begin(), offsets.end()) {
    const std::size_t n = offsets.size() - 1;
    words_ = mask_words(n);
    std::vector<std::uint32_t> characters(n);
    std::vector<std::size_t> lengths(n);
    std::uint32_t most_before_rest = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const auto token = data.substr(offsets[i], offsets[i + 1] - offsets[i]);
        std::tie(characters[i], lengths[i]) = plain_beginning(token);
        longest_ = std::max(longest_, characters[i]);
        if (lengths[i] < token.size()) most_before_rest = std::max(most_before_rest, characters[i]);
    }
    plain_.assign(std::min(longest_ + 1, most_masks), std::vector<std::uint32_t>(words_));
    for (std::size_t i = 0; i < n; ++i) {
        if (offsets[i + 1] == offsets[i] || lengths[i] != offsets[i + 1] - offsets[i]) continue;
        if (characters[i] >= plain_.size())
            long_.emplace_back(characters[i], std::int32_t(i));
        else
            set_bit(plain_[characters[i]], i);
    }
    for (std::size_t k = 1; k < plain_.size(); ++k)
        for (std::size_t word = 0; word < words_; ++word) plain_[k][word] |= plain_[k - 1][word];
    std::ranges::sort(long_);
    for (std::size_t i = 0; i < n; ++i)
        if (token(std::int32_t(i)).size() > 8) by_length_.push_back(std::int32_t(i));
    std::ranges::sort(by_length_, std::greater(),
                      [&](std::int32_t id) { return token(id).size(); });
    const auto trie_of = [&](auto&& takes) {
        std::string rests;
        std::vector<std::uint64_t> ends{0};
        for (std::size_t i = 0; i < n; ++i) {
            const auto token = data.substr(offsets[i], offsets[i + 1] - offsets[i]);
            if (takes(characters[i])) rests += token.substr(lengths[i]);
            ends.push_back(rests.size());
        }
        return WrittenTrie(TokenTrie(rests, ends));
    };
    for (std::uint32_t k = 0; k <= most_before_rest; ++k)
        rests_.push_back(trie_of([k](std::uint32_t count) { return count == k; }));
    const auto trie_of_whole = [&](auto&& takes) {
        std::string whole;
        std::vector<std::uint64_t> ends{0};
        for (std::size_t i = 0; i < n; ++i) {
            if (takes(i)) whole += token(std::int32_t(i));
            ends.push_back(whole.size());
        }
        return WrittenTrie(TokenTrie(whole, ends));
    };
    const auto length = [&](std::size_t i) { return token(std::int32_t(i)).size(); };
    mixed_.push_back(trie_of_whole([&](std::size_t i) { return lengths[i] < length(i); }));
    for (const std::size_t least : long_tokens_from)
        long_tries_.emplace_back(least,
                                 trie_of_whole([&](std::size_t i) { return length(i) >= least; }));
    inner_.push_back(trie_of([](std::uint32_t count) { return count > 0; }));
}

void Slices::add_plain(std::uint32_t characters, Mask mask) const {
    const auto& most = plain_[std::min<std::size_t>(characters, plain_.size() - 1)];
    for (std::size_t word = 0; word < words_; ++word) mask[word] |= most[word];
    for (const auto& [count, id] : long_)
        if (count <= characters) set_bit(mask, std::size_t(id));
}

std::span<const std::int32_t> Slices::longer_than(std::size_t bytes) const {
    const auto end = std::ranges::partition_point(
        by_length_, [&](std::int32_t id) { return token(id).size() > bytes; });
    return {by_length_.begin(), end};
}

const WrittenTrie* Slices::long_tokens(std::size_t bytes) const {
    const WrittenTrie* out = nullptr;
    for (const auto& [least, trie] : long_tries_)
        if (least <= bytes + 1) out = &trie;
    return out;
}

std::size_t Slices::memory_bytes() const {
    std::size_t out = data_.capacity() + offsets_.capacity() * 8 + mixed_.front().memory_bytes() +
                      plain_.size() * words_ * 4 + inner_.front().memory_bytes();
    for (const auto& [least, trie] : long_tries_) out += trie.memory_bytes();
    for (const auto& trie : rests_) out += trie.memory_bytes();
    return out;
}

} // namespace engine
