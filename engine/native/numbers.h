/// JSON numbers as expressions: ranges and multiples, exact on the decimal text.
///
/// Knows decimals and digits. Does not know JSON Schema.
#pragma once

#include <optional>
#include <vector>

#include "code_points.h"
#include "expressions.h"
#include "json.h"

namespace engine {

struct Bound {
    Decimal at;
    bool is_open = false; // the bound itself is outside
};

struct NumberRange {
    std::optional<Bound> low, high;
    bool with_integers = true, with_fractions = true; // values, not spellings: 1.0 is an integer
    std::vector<Decimal> multiples, not_multiples;
    std::vector<Decimal> excluded;
};

/// The numbers of a range. With `Writing::json` in every spelling that JSON has; else integers
/// without a fraction of zeros. An exponent is written only where there are neither bounds nor
/// multiples: the value of such a number depends on more than what a regular language remembers.
/// Throws TooComplex for a multiple of more than 40,000 (digits without the point) and for bounds
/// of thousands.
Expr number_language(Expressions& pool, const NumberRange& range, Writing writing);

/// One number, spelled as it was given or plainly.
Expr number_literal(Expressions& pool, const std::string& text, Writing writing);

/// Whether a number lies in the range.
bool contains(const NumberRange& range, const Decimal& value);

} // namespace engine
