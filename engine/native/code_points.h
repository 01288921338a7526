/// Sets of Unicode characters, and the bytes that they are written with.
///
/// Knows UTF-8 and JSON's escapes. Does not know regular expressions' syntax.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "expressions.h"

namespace engine {

/// Ranges of code points, both ends included, in order and apart from each other.
class CodePoints {
  public:
    using Range = std::pair<std::uint32_t, std::uint32_t>;
    static constexpr std::uint32_t last = 0x10ffff;

    CodePoints() = default;
    CodePoints(std::initializer_list<Range> ranges) : ranges_(ranges) { tidy(); }
    explicit CodePoints(std::vector<Range> ranges) : ranges_(std::move(ranges)) { tidy(); }
    static CodePoints all() { return {{0, last}}; }
    static CodePoints one(std::uint32_t point) { return {{point, point}}; }

    const std::vector<Range>& ranges() const { return ranges_; }
    bool empty() const { return ranges_.empty(); }
    bool has(std::uint32_t point) const;
    void add(std::uint32_t first, std::uint32_t final) {
        ranges_.emplace_back(first, final);
        tidy();
    }
    /// Each of ASCII's letters in both cases where one of them is there.
    CodePoints without_ascii_case() const;

    friend CodePoints operator|(const CodePoints& a, const CodePoints& b);
    friend CodePoints operator&(const CodePoints& a, const CodePoints& b);
    CodePoints operator~() const;
    bool operator==(const CodePoints&) const = default;
    bool operator<(const CodePoints& other) const { return ranges_ < other.ranges_; }

  private:
    void tidy();
    std::vector<Range> ranges_;
};

/// The UTF-8 bytes of a code point; one that is no character gives U+FFFD's.
std::string utf8(std::uint32_t point);
/// The first character of `data` and how many bytes it takes; a byte that begins none counts as
/// U+FFFD and takes one.
std::pair<std::uint32_t, std::size_t> first_character(std::string_view data);

/// How characters are written.
enum class Writing : std::uint8_t {
    plain,       ///< UTF-8
    json,        ///< inside a JSON string, as JSON allows: plainly or with any escape
    json_needed, ///< inside a JSON string, escaped only where it must be, in the shortest way
};

/// Expressions for characters, each made once.
class Characters {
  public:
    Characters(Expressions& expressions, Writing writing)
        : expressions_(expressions), writing_(writing) {}

    Writing writing() const { return writing_; }
    /// One character of the set.
    Expr one_of(const CodePoints& set);
    Expr any() { return one_of(CodePoints::all()); }
    /// Any number of characters.
    Expr text() { return expressions_.star(any()); }
    /// Exactly these characters, in UTF-8 here.
    Expr literal(std::string_view data);
    /// These characters, escaped only where they must be.
    std::string spelled(std::string_view data) const;
    /// One of these texts, in UTF-8 here.
    Expr words(const std::vector<std::string>& literals);

    Expressions& expressions() { return expressions_; }

  private:
    Expr utf8_of(const CodePoints& set);
    Expr escapes_of(const CodePoints& set);
    Expr hex_of(const CodePoints& set);
    Expr sequence(std::uint32_t first, std::uint32_t final, unsigned units, unsigned bits);
    bool spell(std::string_view data, std::string& out) const;

    Expressions& expressions_;
    Writing writing_;
    std::map<CodePoints, Expr> known_;
};

} // namespace engine
