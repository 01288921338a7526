/// A JSON text as a value, with its numbers as they were written.
///
/// Knows JSON (RFC 8259) and exact decimal arithmetic. Does not know JSON Schema.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine {

struct JsonError : std::runtime_error {
    JsonError(std::size_t at, const std::string& why) : std::runtime_error(why), offset(at) {}
    std::size_t offset;
};

struct Json {
    enum class Type : std::uint8_t { null, boolean, number, string, array, object };
    Type type = Type::null;
    bool truth = false;
    std::string text; // of a string, in UTF-8; of a number, as written
    std::vector<Json> items;
    std::vector<std::pair<std::string, Json>> members; // in order; of equal keys the last

    const Json* find(std::string_view key) const {
        for (auto member = members.rbegin(); member != members.rend(); ++member)
            if (member->first == key) return &member->second;
        return nullptr;
    }
    bool is(Type wanted) const { return type == wanted; }
    bool is_bool(bool wanted) const { return type == Type::boolean && truth == wanted; }
};

/// Throws JsonError. Nesting beyond `max_depth` is an error.
Json parse_json(std::string_view text, std::size_t max_depth = 256);

/// An exact decimal number: 0.digits x 10^exponent. Zero has no digits.
struct Decimal {
    bool is_negative = false;
    std::string digits; // neither the first nor the last is 0
    std::int64_t exponent = 0;

    /// Of a JSON number. Exponents beyond 10^6 count as that.
    static Decimal parse(std::string_view text);
    bool is_zero() const { return digits.empty(); }
    bool is_integer() const { return exponent >= std::int64_t(digits.size()); }
    /// Digits before and behind the point, without leading or trailing zeros. Only for exponents
    /// of a few thousand.
    std::string whole() const;
    std::string fraction() const;
    bool operator==(const Decimal&) const = default;
};

/// Negative, zero or positive as a < b, a = b, a > b.
int compare(const Decimal& a, const Decimal& b);

/// Equal as JSON Schema has it: numbers by value, objects in any order.
bool equal(const Json& a, const Json& b);

} // namespace engine
