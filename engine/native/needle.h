/// Finds one byte string in a stream that arrives in pieces (Knuth, Morris and Pratt's automaton).
///
/// Knows bytes. Does not know tokens or masks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace engine {

/// A state is how many bytes of the needle the stream's end matches; `size()` is "found", for good.
class Needle {
  public:
    /// Throws std::invalid_argument when `text` is empty: nothing would complete it.
    explicit Needle(std::string_view text) : text_(text), fallback_(text.size(), 0) {
        if (text.empty()) throw std::invalid_argument("a needle needs at least one byte");
        for (std::size_t i = 1, matched = 0; i < text.size(); ++i) {
            while (matched > 0 && text[i] != text[matched]) matched = fallback_[matched - 1];
            if (text[i] == text[matched]) ++matched;
            fallback_[i] = std::uint32_t(matched);
        }
    }

    std::size_t size() const { return text_.size(); }
    const std::string& text() const { return text_; }

    /// The state after one more byte. Amortised O(1).
    std::size_t step(std::size_t state, std::uint8_t byte) const {
        if (state == text_.size()) return state;
        while (state > 0 && std::uint8_t(text_[state]) != byte) state = fallback_[state - 1];
        return std::uint8_t(text_[state]) == byte ? state + 1 : 0;
    }

    /// The state after `data`.
    std::size_t advance(std::size_t state, std::string_view data) const {
        for (const char byte : data) state = step(state, std::uint8_t(byte));
        return state;
    }

  private:
    std::string text_;
    std::vector<std::uint32_t> fallback_; // of each prefix: its longest proper border
};

} // namespace engine
