/// Limits that are options, and the error of one that is exceeded.
///
/// Knows numbers and names. Does not know what is counted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "expressions.h"

namespace engine {

/// What `what` names was found `found` times; `option` is the limit's name.
struct LimitExceeded : TooComplex {
    LimitExceeded(std::string name, std::uint64_t limit, std::uint64_t value,
                  const std::string& what, std::string where = {})
        : TooComplex(
              (value > limit + 1 ? std::to_string(value) : "more than " + std::to_string(limit)) +
              " " + what + "; the limit `" + name + "` is " + std::to_string(limit)),
          option(std::move(name)), most(limit), found(value), pointer(std::move(where)) {}
    std::string option;
    std::uint64_t most, found; // one more than `most` where counting stopped there
    std::string pointer;       // of a schema, where that is known
};

/// An error with a place: that of the limit `steps` where an expression was too much work.
[[noreturn]] void refuse_schema(const TooComplex& error, std::size_t max_steps,
                                const std::string& pointer);

/// The JSON pointer of what stands at `offset` of a text, which may be broken behind it.
std::string pointer_at(std::string_view json, std::size_t offset);

/// Where a text opens one bracket more than `most` inside each other; `npos` if nowhere.
std::size_t nested_beyond(std::string_view json, std::size_t most);

} // namespace engine
