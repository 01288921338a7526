/// One walk through a grammar, a token at a time.
///
/// Knows tokens, places and where captures begin and end. Does not know models or text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "compiled.h"

namespace engine {

class Matcher {
  public:
    explicit Matcher(std::shared_ptr<Compiled> grammar);

    /// Writes the tokens that may follow into `mask`; end tokens where a sentence is whole.
    void mask(Mask mask);
    /// Whether `mask` has nothing to work out here.
    bool knows_mask();
    /// Whether `mask` would have this token's bit.
    bool allows(std::int32_t token);
    /// Takes a token; false, and nothing changes, where it is refused.
    bool advance(std::int32_t token);
    /// Takes bytes; false, and nothing changes, where they are refused. Undone as one token.
    bool advance(std::string_view bytes);
    /// Undoes the last `count` advances. Throws std::out_of_range if there are fewer.
    void rewind(std::size_t count);
    std::size_t n_vocab() const { return grammar_->vocabulary().n_vocab(); }
    std::size_t length() const { return steps_.size(); }

    bool is_accepting();
    /// Whether nothing but an end token may follow, or one was taken.
    bool is_done();
    /// The bytes that must come, as far as the grammar leaves no choice; at most `most`.
    std::string forced(std::size_t most);
    /// The bytes with which the text may go on.
    ByteSet first_bytes();
    /// How many bytes of a token are taken before it is refused, the bytes that could stand there,
    /// and what could in words. All bytes of one that is allowed.
    struct Refusal {
        std::size_t taken;
        ByteSet bytes;
        std::string expected;
    };
    Refusal explain(std::int32_t token);
    /// What may come next, in words for people; see summary.h.
    std::string allowed_summary();
    /// Names and bytes of the captures that are complete however the text goes on, in the order of
    /// their beginnings.
    std::vector<std::pair<std::string, std::string>> captures();
    /// Where captures begin and end, as far as that is certain however the text goes on, in order;
    /// and the place before which nothing else does. Without the first `skip`, which were told
    /// before in this text. Cheap after each advance: a step's bytes are read once, and what is
    /// skipped costs nothing.
    struct Progress {
        std::vector<std::tuple<std::string, std::uint32_t, bool>> marks; // name, place, is an end
        std::uint32_t certain_to;
    };
    Progress progress(std::size_t skip = 0);
    /// A stretch of the text so far, whose places the captures count; empty beyond its end.
    std::string_view text(std::size_t begin, std::size_t end) const {
        const std::string_view all = text_;
        return begin < end && begin < all.size() ? all.substr(begin, end - begin)
                                                 : std::string_view{};
    }

  private:
    struct Step {
        Place place;        // behind it
        std::uint32_t text; // how much of text_ is behind us after it
        std::int32_t token; // -1 for bytes
    };

    void refresh();
    Place here() const { return steps_.empty() ? start_ : steps_.back().place; }
    Place after(Place place, std::int32_t token);
    Place after(Place place, std::string_view bytes);
    const Captures::Readings& readings();

    std::shared_ptr<Compiled> grammar_;
    std::uint64_t epoch_ = 0;
    Place start_;
    std::vector<Step> steps_;
    std::string text_;
    std::vector<Captures::Readings> readings_; // behind each step, as far as they were asked for
    bool is_ended_ = false;
};

} // namespace engine
