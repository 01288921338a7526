/// URIs and JSON pointers, as references between schemas use them.
///
/// Knows RFC 3986 and RFC 6901. Does not know schemas.
#pragma once

#include <string>
#include <string_view>

namespace engine {

/// RFC 3986, section 5.2, as far as schemas use it: no scheme-relative references.
std::string resolve_uri(const std::string& base, const std::string& reference);

/// A part of a JSON pointer in a URI's fragment, as the key that it means.
std::string unescape_pointer(std::string_view token);

/// A key as a part of a JSON pointer.
std::string escape_pointer(std::string_view key);

} // namespace engine
