/// The vocabulary as a byte trie in one flat depth-first array.
///
/// Knows token ids and their bytes. Does not know grammars, control tokens or logits.
///
/// A node is one byte below its parent; its subtree is the index range [node + 1, end(node)), so a
/// walk skips a subtree by jumping to its end. Siblings come in byte order. Ids are stored in the
/// same depth-first order, so those of a whole subtree are one slice. Ids with equal bytes share a
/// node, lowest first; a token without bytes has no node and is never found.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "interner.h"
#include "mask.h"
#include "needle.h"

namespace engine {

/// A token id and how many bytes it covers; id -1 where no token matches.
struct Match {
    std::int32_t id = -1;
    std::size_t length = 0;
};

class TokenTrie {
  public:
    /// Token `i` is `data[offsets[i]] .. data[offsets[i + 1]]`. Cost: one sort of the vocabulary.
    ///
    /// Throws std::invalid_argument unless the offsets rise from 0 to the size of `data`.
    TokenTrie(std::string_view data, std::span<const std::uint64_t> offsets) {
        const auto start = std::chrono::steady_clock::now();
        check(data, offsets);
        n_vocab_ = offsets.size() - 1;
        build(data, offsets, in_byte_order(data, offsets));
        const auto elapsed = std::chrono::steady_clock::now() - start;
        build_us_ = std::chrono::duration<double, std::micro>(elapsed).count();
    }

    std::size_t n_vocab() const { return n_vocab_; }
    std::size_t n_nodes() const { return bytes_.size(); }
    double build_us() const { return build_us_; }
    std::size_t memory_bytes() const {
        return bytes_.capacity() + ids_.capacity() * sizeof(std::int32_t) +
               (ends_.capacity() + first_ids_.capacity()) * sizeof(std::uint32_t) +
               edges_.capacity() * sizeof(Edge) + sizeof(*this);
    }

    /// The byte that leads into `node`, and the end of its subtree.
    std::uint8_t byte(std::size_t node) const { return bytes_[node]; }
    std::size_t end(std::size_t node) const { return ends_[node]; }

    /// The ids that end at `node`, and those at or below it.
    std::span<const std::int32_t> ids(std::size_t node) const {
        return slice(first_ids_[node], first_ids_[node + 1]);
    }
    std::span<const std::int32_t> ids_below(std::size_t node) const {
        return slice(first_ids_[node], first_ids_[ends_[node]]);
    }

    /// Every id whose bytes are exactly `data`, lowest first. O(length of `data` x siblings).
    std::span<const std::int32_t> ids_of(std::string_view data) const {
        const std::size_t node = find(data);
        return node == none ? std::span<const std::int32_t>{} : ids(node);
    }

    /// The longest token that `data` begins with; the lowest of equal ids.
    Match longest_match(std::string_view data) const {
        Match best;
        std::size_t node = none;
        for (std::size_t depth = 0; depth < data.size(); ++depth) {
            node = child(node, std::uint8_t(data[depth]));
            if (node == none) break;
            if (const auto here = ids(node); !here.empty()) best = {here.front(), depth + 1};
        }
        return best;
    }

    /// Writes into `mask` exactly the tokens whose bytes begin with `prefix`; returns how many.
    ///
    /// An empty prefix gives every token that has bytes. `mask` has mask_words(n_vocab) words or
    /// more. Cost: clearing the mask, then one step per id set.
    std::size_t mask_of_prefix(std::string_view prefix, Mask mask) const {
        std::ranges::fill(mask, 0U);
        if (prefix.empty()) return set_all(ids_, mask);
        const std::size_t node = find(prefix);
        return node == none ? 0 : set_all(ids_below(node), mask);
    }

    /// Writes into `mask` exactly the tokens that complete `needle`, of which the text so far
    /// matches `state` bytes; returns how many. What follows the needle in the token doesn't
    /// matter.
    ///
    /// Cost: one walk of the trie that never enters a subtree below a completed needle. Callers
    /// keep the mask per state: a needle of n bytes has n of them.
    std::size_t tokens_containing(const Needle& needle, std::size_t state, Mask mask) const {
        if (state >= needle.size())
            throw std::invalid_argument("the needle is already complete in this state");
        std::ranges::fill(mask, 0U);
        std::size_t count = 0;
        std::vector<std::uint32_t> open_ends;   // of the nodes on the path to the current one
        std::vector<std::uint32_t> open_states; // the needle's state after each of them
        for (std::size_t node = 0; node < n_nodes();) {
            while (!open_ends.empty() && open_ends.back() <= node) {
                open_ends.pop_back();
                open_states.pop_back();
            }
            const std::size_t from = open_states.empty() ? state : open_states.back();
            const std::size_t next = needle.step(from, bytes_[node]);
            if (next == needle.size()) {
                count += set_all(ids_below(node), mask);
                node = ends_[node];
                continue;
            }
            open_ends.push_back(ends_[node]);
            open_states.push_back(std::uint32_t(next));
            ++node;
        }
        return count;
    }

    /// No node; as a parent, the root above all.
    static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

    /// The node below `node` that `byte` leads to, or `none`.
    std::size_t child(std::size_t node, std::uint8_t byte) const {
        if (node == none) return roots_[byte];
        if (is_large(node)) {
            for (std::size_t at = slot(node, byte);; at = (at + 1) & (edges_.size() - 1)) {
                const Edge& edge = edges_[at];
                if (edge.to == 0) return none;
                if (edge.from == node && bytes_[edge.to] == byte) return edge.to;
            }
        }
        for (std::size_t next = node + 1; next < ends_[node]; next = ends_[next]) {
            if (bytes_[next] == byte) return next;
            if (bytes_[next] > byte) break;
        }
        return none;
    }

    /// The node that all of `data` leads to, or `none`.
    std::size_t find(std::string_view data) const {
        std::size_t node = none;
        for (const char byte : data) {
            node = child(node, std::uint8_t(byte));
            if (node == none) break;
        }
        return node;
    }

  private:
    /// A token's first eight bytes as a number that sorts as they do, so that few comparisons have
    /// to look at the text: 128,256 tokens sort in a third of the time.
    struct Key {
        std::uint64_t head;
        std::int32_t id;
    };

    static void check(std::string_view data, std::span<const std::uint64_t> offsets) {
        if (offsets.empty() || offsets.front() != 0 || offsets.back() != data.size() ||
            !std::ranges::is_sorted(offsets))
            throw std::invalid_argument("offsets must rise from 0 to the number of bytes");
        if (offsets.size() > std::size_t(std::numeric_limits<std::int32_t>::max()) ||
            data.size() >= std::numeric_limits<std::uint32_t>::max())
            throw std::invalid_argument("a vocabulary this large does not fit 32-bit ids");
    }

    static std::string_view text(std::string_view data, std::span<const std::uint64_t> offsets,
                                 std::int32_t id) {
        const auto i = std::size_t(id);
        return data.substr(offsets[i], offsets[i + 1] - offsets[i]);
    }

    static std::vector<Key> in_byte_order(std::string_view data,
                                          std::span<const std::uint64_t> offsets) {
        std::vector<Key> keys;
        keys.reserve(offsets.size() - 1);
        for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
            const auto bytes = text(data, offsets, std::int32_t(i));
            if (bytes.empty()) continue;
            std::uint64_t head = 0;
            for (std::size_t j = 0; j < 8; ++j)
                head = head << 8 | (j < bytes.size() ? std::uint8_t(bytes[j]) : 0U);
            keys.push_back({head, std::int32_t(i)});
        }
        std::ranges::sort(keys, [&](const Key& a, const Key& b) {
            if (a.head != b.head) return a.head < b.head;
            const int order = text(data, offsets, a.id).compare(text(data, offsets, b.id));
            return order != 0 ? order < 0 : a.id < b.id;
        });
        return keys;
    }

    void build(std::string_view data, std::span<const std::uint64_t> offsets,
               const std::vector<Key>& keys) {
        std::vector<std::uint32_t> open; // the nodes on the path of the token before this one
        std::string_view before;
        ids_.reserve(keys.size());
        bytes_.reserve(keys.size() * 4);
        ends_.reserve(keys.size() * 4);
        first_ids_.reserve(keys.size() * 4);
        const auto close = [&](std::size_t depth) {
            for (; open.size() > depth; open.pop_back())
                ends_[open.back()] = std::uint32_t(bytes_.size());
        };
        for (const auto& [head, id] : keys) {
            const auto bytes = text(data, offsets, id);
            const auto limit = std::min(bytes.size(), before.size());
            const auto [mine, theirs] =
                std::mismatch(bytes.begin(), bytes.begin() + std::ptrdiff_t(limit), before.begin());
            close(std::size_t(mine - bytes.begin()));
            while (open.size() < bytes.size()) {
                open.push_back(std::uint32_t(bytes_.size()));
                bytes_.push_back(std::uint8_t(bytes[open.size() - 1]));
                ends_.push_back(0);
                first_ids_.push_back(std::uint32_t(ids_.size()));
            }
            ids_.push_back(id);
            before = bytes;
        }
        close(0);
        first_ids_.push_back(std::uint32_t(ids_.size()));
        for (auto* array : {&ends_, &first_ids_}) array->shrink_to_fit();
        bytes_.shrink_to_fit();
        index_roots();
        index_edges();
    }

    void index_roots() {
        roots_.fill(none);
        for (std::size_t node = 0; node < n_nodes(); node = ends_[node])
            roots_[bytes_[node]] = node;
    }

    /// The children of a node with a large subtree lie far apart: they are looked up.
    struct Edge {
        std::uint32_t from = 0, to = 0; // no edge leads to node 0, which is a root
    };
    bool is_large(std::size_t node) const {
        constexpr std::size_t nodes = 32;
        return ends_[node] - node > nodes;
    }
    std::size_t slot(std::size_t node, std::uint8_t byte) const {
        return mix(std::uint64_t(node) << 8 | byte) & (edges_.size() - 1);
    }
    template <class Use>
    void each_edge(Use&& use) const {
        for (std::size_t node = 0; node < n_nodes(); ++node) {
            if (!is_large(node)) continue;
            for (std::size_t next = node + 1; next < ends_[node]; next = ends_[next])
                use(Edge{std::uint32_t(node), std::uint32_t(next)});
        }
    }
    void index_edges() {
        std::size_t count = 0;
        each_edge([&](const Edge&) { ++count; });
        if (count > 0) edges_.resize(std::bit_ceil(count + count / 4));
        each_edge([&](const Edge& edge) {
            std::size_t at = slot(edge.from, bytes_[edge.to]);
            while (edges_[at].to != 0) at = (at + 1) & (edges_.size() - 1);
            edges_[at] = edge;
        });
    }

    std::span<const std::int32_t> slice(std::size_t first, std::size_t last) const {
        return std::span(ids_).subspan(first, last - first);
    }

    static std::size_t set_all(std::span<const std::int32_t> ids, Mask mask) {
        for (const std::int32_t id : ids) set_bit(mask, std::size_t(id));
        return ids.size();
    }

    std::size_t n_vocab_ = 0;
    double build_us_ = 0;
    std::vector<std::uint8_t> bytes_;      // per node: the byte that leads into it
    std::vector<std::uint32_t> ends_;      // per node: where its subtree ends
    std::vector<std::uint32_t> first_ids_; // per node, and one more: where its ids begin in ids_
    std::vector<std::int32_t> ids_;        // all ids that have bytes, depth first
    std::array<std::size_t, 256> roots_{}; // the top-level node of each byte
    std::vector<Edge> edges_;              // a table of them by node and byte
};

} // namespace engine
