/// What may come next, in words for people.
///
/// Knows places and bytes. Does not know tokens' texts.
#pragma once

#include <string>
#include <string_view>

#include "machine.h"

namespace engine {

/// `'"name": ' or '"age": '`, `a number or 'null'`, `one of [0-9a-f]`, `the end`; a token that a
/// grammar names reads as grammars spell it, `<[128009]>`. Never empty for a place that is alive.
std::string allowed_in_words(Machine& machine, Place place);

/// Bytes in single quotes, with escapes for what can't be shown.
std::string quoted(std::string_view bytes);

} // namespace engine
