/// What a schema says of a value without looking inside it: its types, and the few values it can
/// be.
///
/// Knows JSON values. Does not know schemas. A sketch allows at least what its schema allows, so
/// that two whose sketches don't meet can't both hold; that is cheap to see.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"

namespace engine {

/// JSON's types as bits; numbers are integers or fractions, by value.
namespace types {
inline constexpr std::uint32_t null = 1, yes = 2, no = 4, integer = 8, fraction = 16, string = 32,
                               array = 64, object = 128, number = integer | fraction,
                               boolean = yes | no, all = 255;
/// Of a type's name; 0 where there is no such type.
std::uint32_t named(std::string_view name);
std::uint32_t of(const Json& json);
} // namespace types

inline bool is_scalar(const Json& json) {
    return !json.is(Json::Type::array) && !json.is(Json::Type::object);
}

/// The same for equal scalars; of arrays and objects only roughly.
std::string key_of(const Json& json);

/// Leaves those of `values` that are among `others`, by value. Fast for thousands of scalars.
void keep_common(std::vector<const Json*>& values, const std::vector<const Json*>& others);
/// Drops those that are among `others`.
void drop_common(std::vector<const Json*>& values, const std::vector<const Json*>& others);

struct Sketch {
    std::uint32_t types = types::all;
    std::optional<std::vector<const Json*>> values; // nothing but these
    std::vector<const Json*> excluded;
    bool is_exact = true; // allows no more than its schema

    bool is_dead() const { return types == 0 || (values && values->empty()); }
    /// Nothing but what `other` allows too.
    void meet(const Sketch& other);
    /// All that this one doesn't allow; everything unless it is exact.
    Sketch opposite() const;

  private:
    void tidy();
};

} // namespace engine
