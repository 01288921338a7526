/// Regular expressions as people write them, parsed and turned into `Expr`.
///
/// Knows the syntax of ECMA-262 (with the `u` flag, and lenient where its Annex B is) and what it
/// means. Does not know JSON Schema.
///
/// A match may depend on what stands before and behind: `^`, `$`, `\b`, and look-ahead are exact.
/// Each part is translated together with what follows it, once for each thing that can stand
/// before it: nothing, a word character, another character.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "code_points.h"
#include "expressions.h"

namespace engine {

/// A pattern that can't be parsed or isn't regular: `offset` in bytes, and why.
struct PatternError : std::runtime_error {
    PatternError(std::size_t at, const std::string& why) : std::runtime_error(why), offset(at) {}
    std::size_t offset;
};

struct PatternNode {
    enum class Kind : std::uint8_t {
        empty,
        characters,
        sequence,
        choice,
        repeat,
        start,
        end,
        boundary,
        not_boundary,
        ahead,
        not_ahead,
    };
    Kind kind = Kind::empty;
    CodePoints set{};
    std::vector<PatternNode> parts{};
    std::uint32_t min = 1, max = 1;
    std::size_t offset = 0;
    bool looks = false; // whether an assertion is in it
};

struct PatternOptions {
    bool dot_all = false;
    bool ignore_case = false; // of ASCII's letters
    bool is_rust = false;     // (?i) and the like, \A, \z; `$` and `^` mean the whole text
    std::size_t max_depth = 200;
    std::size_t max_length = 65'536;
    /// The characters of a Unicode property, `Letter`, `L` or `Script=Greek`; empty if unknown.
    std::function<CodePoints(const std::string&)> property{};
};

/// Throws PatternError.
PatternNode parse_pattern(std::string_view pattern, const PatternOptions& options);

/// The texts in which the pattern is found, or those that match it from end to end if `is_whole`.
/// Throws PatternError for what can't be translated.
Expr pattern_language(const PatternNode& pattern, Characters& characters, bool is_whole);

} // namespace engine
