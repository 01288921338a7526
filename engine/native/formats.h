/// JSON Schema's formats as patterns.
///
/// Knows the grammars of the RFCs that JSON Schema names (Validation 2020-12, section 7.3).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace engine {

/// An ECMA-262 pattern that matches the whole text, or an empty one where the format is unknown,
/// and so only a note, as JSON Schema has it.
std::string format_pattern(std::string_view name);

/// How many characters a text of the format may have; 0 where its pattern says so itself. Apart
/// because a count beside a pattern is cheaper than one inside it.
std::uint32_t format_length(std::string_view name);

} // namespace engine
