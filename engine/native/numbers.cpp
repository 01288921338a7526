#include "numbers.h"

#include <algorithm>

namespace engine {

namespace {

constexpr std::size_t most_digits = 2000;
constexpr unsigned long most_remainders = 40'000; // each is a state

class Digits {
  public:
    Digits(Expressions& pool, Writing writing)
        : pool_(pool), writing_(writing), digit_(digits('0', '9')), any_(pool.star(digit_)),
          zeros_(pool.star(digits('0', '0'))) {}

    Expr digits(char first, char last) {
        return first > last ? Expressions::none
                            : pool_.bytes(ByteSet::range(std::uint8_t(first), std::uint8_t(last)));
    }
    Expr point(Expr behind) { return pool_.concat(pool_.text("."), behind); }
    Expr whole() { // without leading zeros
        return pool_.either({pool_.text("0"), pool_.concat(digits('1', '9'), any_)});
    }
    Expr fraction() { return pool_.optional(point(pool_.plus(digit_))); }
    /// A fraction of the value 0: none, or zeros where every spelling counts.
    Expr no_fraction(bool is_lenient) {
        return is_lenient ? pool_.optional(point(pool_.plus(digits('0', '0'))))
                          : Expressions::empty;
    }

    /// Non-negative numbers of at least, or more than, a value.
    Expr at_least(const Decimal& value, bool is_open) {
        const std::string whole_part = value.whole(), rest = value.fraction();
        const Expr same = whole_part.empty() ? pool_.text("0") : pool_.text(whole_part);
        return pool_.either({pool_.concat(larger(whole_part), fraction()),
                             pool_.concat(same, fraction_from(rest, is_open))});
    }
    /// Non-negative numbers of at most, or less than, a value.
    Expr at_most(const Decimal& value, bool is_open) {
        const std::string whole_part = value.whole(), rest = value.fraction();
        const Expr same = whole_part.empty() ? pool_.text("0") : pool_.text(whole_part);
        return pool_.either({pool_.concat(smaller(whole_part), fraction()),
                             pool_.concat(same, fraction_to(rest, is_open))});
    }

  private:
    /// Whole numbers with more digits, or as many and larger.
    Expr larger(const std::string& than) {
        if (than.empty()) return pool_.concat(digits('1', '9'), any_); // than 0
        const auto n = std::uint32_t(than.size());
        std::vector<Expr> parts{
            pool_.concat(digits('1', '9'), pool_.repeat(digit_, n, Expressions::forever))};
        for (std::uint32_t i = 0; i < n; ++i)
            parts.push_back(
                pool_.concat({pool_.text(than.substr(0, i)), digits(char(than[i] + 1), '9'),
                              pool_.repeat(digit_, n - i - 1, n - i - 1)}));
        return pool_.either(parts);
    }
    Expr smaller(const std::string& than) {
        if (than.empty()) return Expressions::none;
        const auto n = std::uint32_t(than.size());
        std::vector<Expr> parts{pool_.text("0")};
        if (n > 1) parts.push_back(pool_.concat(digits('1', '9'), pool_.repeat(digit_, 0, n - 2)));
        for (std::uint32_t i = 0; i < n; ++i)
            parts.push_back(pool_.concat({pool_.text(than.substr(0, i)),
                                          digits(i == 0 ? '1' : '0', char(than[i] - 1)),
                                          pool_.repeat(digit_, n - i - 1, n - i - 1)}));
        return pool_.either(parts);
    }
    Expr fraction_from(const std::string& rest, bool is_open) {
        const Expr above = pool_.concat({zeros_, digits('1', '9'), any_});
        if (rest.empty()) return is_open ? point(above) : fraction();
        Expr out = is_open ? above : any_;
        for (std::size_t i = rest.size(); i-- > 0;)
            out = pool_.either({pool_.concat(digits(char(rest[i] + 1), '9'), any_),
                                pool_.concat(digits(rest[i], rest[i]), out)});
        return point(out);
    }
    Expr fraction_to(const std::string& rest, bool is_open) {
        if (rest.empty()) return is_open ? Expressions::none : no_fraction(true);
        Expr out = is_open ? Expressions::none : zeros_;
        for (std::size_t i = rest.size(); i-- > 0;) {
            const std::array parts{pool_.concat(digits('0', char(rest[i] - 1)), any_),
                                   pool_.concat(digits(rest[i], rest[i]), out),
                                   i > 0 ? Expressions::empty : Expressions::none};
            out = pool_.either(parts);
        }
        return pool_.optional(point(out));
    }

    Expressions& pool_;
    Writing writing_;
    Expr digit_, any_, zeros_;
};

Expr multiple(Expressions& pool, const Decimal& of) {
    const std::string rest = of.fraction();
    const std::string all = of.whole() + rest;
    const std::size_t begin = std::min(all.find_first_not_of('0'), all.size());
    const std::string digits = all.substr(begin);
    if (digits.size() > 5 || std::stoul("0" + digits) > most_remainders || rest.size() > 300)
        throw TooComplex("a multiple of a number whose digits make more than " +
                         std::to_string(most_remainders));
    return pool.multiple_of(std::uint32_t(std::stoul(digits)), std::uint32_t(rest.size()));
}

bool is_multiple(const Decimal& value, const Decimal& of) {
    Expressions pool;
    const std::string text = (value.whole().empty() ? "0" : value.whole()) + "." +
                             (value.fraction().empty() ? "0" : value.fraction());
    return pool.matches(multiple(pool, of), text);
}

} // namespace

Expr number_language(Expressions& pool, const NumberRange& range, Writing writing) {
    const bool every = writing == Writing::json;
    Digits made(pool, writing);
    for (const auto& bound : {range.low, range.high})
        if (bound && (std::abs(bound->at.exponent) > std::int64_t(most_digits) ||
                      bound->at.digits.size() > most_digits))
            throw TooComplex("a bound with thousands of digits");
    const Expr minus = pool.text("-");
    const auto bounded = [&](const std::optional<Bound>& low, const std::optional<Bound>& high) {
        std::vector<Expr> parts{pool.concat(made.whole(), made.fraction())};
        if (low) parts.push_back(made.at_least(low->at, low->is_open));
        if (high) parts.push_back(made.at_most(high->at, high->is_open));
        if (parts.size() > 1) parts.erase(parts.begin());
        return pool.both(parts);
    };
    // At and above zero, then below: there the bounds change places.
    std::vector<Expr> parts;
    const Bound zero{};
    if (!range.high || compare(range.high->at, zero.at) >= 0) {
        const bool from_zero = !range.low || compare(range.low->at, zero.at) < 0;
        parts.push_back(bounded(from_zero ? std::nullopt : range.low, range.high));
    }
    if (!range.low || compare(range.low->at, zero.at) <= 0) {
        const bool to_zero = !range.high || compare(range.high->at, zero.at) > 0;
        auto low = to_zero ? std::optional(Bound{{}, !every}) : range.high;
        auto high = range.low;
        if (low && low->at.is_zero() && !every) low->is_open = true; // no -0
        if (low) low->at.is_negative = false;
        if (high) high->at.is_negative = false;
        parts.push_back(pool.concat(minus, bounded(low, high)));
    }
    Expr out = pool.either(parts);
    const Expr sign = pool.optional(minus);
    const Expr integers = pool.concat({sign, made.whole(), made.no_fraction(every)});
    const Expr plain = pool.concat({sign, made.whole(), made.no_fraction(false)});
    const Expr all_integers = pool.concat({sign, made.whole(), made.no_fraction(true)});
    const bool is_free = !range.low && !range.high && range.multiples.empty() &&
                         range.not_multiples.empty() && range.excluded.empty();
    if (!range.with_fractions) {
        out = is_free ? integers : pool.both(out, integers);
    } else if (!range.with_integers) {
        out = pool.minus(out, all_integers);
    } else if (!every && !is_free) {
        out = out; // 1.0 is as good as 1 where fractions may come
    }
    if (is_free) {
        const Expr digit = pool.bytes(ByteSet::range('0', '9'));
        const Expr e = pool.either({pool.text("e"), pool.text("E")});
        // As numbers are usually written, which keeps them in a double's range.
        const Expr digits = pool.repeat(digit, 1, every ? Expressions::forever : 2);
        if (range.with_fractions && range.with_integers) {
            const Expr exponent =
                pool.concat({e, pool.optional(pool.either({pool.text("+"), minus})), digits});
            out = pool.concat({sign, made.whole(), made.fraction(), pool.optional(exponent)});
        } else if (every && range.with_integers) {
            const Expr exponent = pool.concat({e, pool.optional(pool.text("+")), digits});
            out = pool.either({integers, pool.concat({sign, made.whole(), exponent})});
        }
    }
    for (const auto& of : range.multiples) out = pool.both(out, multiple(pool, of));
    for (const auto& of : range.not_multiples) out = pool.minus(out, multiple(pool, of));
    for (const auto& value : range.excluded) {
        const Expr digits = value.whole().empty() ? pool.text("0") : pool.text(value.whole());
        const Expr zeros = pool.star(pool.text("0"));
        const Expr rest = value.fraction().empty()
                              ? made.no_fraction(true)
                              : pool.concat({pool.text("."), pool.text(value.fraction()), zeros});
        const Expr front = value.is_zero() ? sign : value.is_negative ? minus : Expressions::empty;
        out = pool.minus(out, pool.concat({front, digits, rest}));
    }
    (void)plain;
    return out;
}

Expr number_literal(Expressions& pool, const std::string& text, Writing writing) {
    const Decimal value = Decimal::parse(text);
    std::vector<Expr> parts{pool.text(text)};
    if (std::abs(value.exponent) <= std::int64_t(most_digits) && writing == Writing::json) {
        const std::string whole = value.whole().empty() ? "0" : value.whole();
        const Expr zeros = pool.star(pool.text("0"));
        const Expr rest =
            value.fraction().empty()
                ? pool.optional(pool.concat(pool.text("."), pool.plus(pool.text("0"))))
                : pool.concat({pool.text("."), pool.text(value.fraction()), zeros});
        const Expr sign = value.is_zero()     ? pool.optional(pool.text("-"))
                          : value.is_negative ? pool.text("-")
                                              : Expressions::empty;
        parts.push_back(pool.concat({sign, pool.text(whole), rest}));
    }
    return pool.either(parts);
}

bool contains(const NumberRange& range, const Decimal& value) {
    if (range.low) {
        const int order = compare(value, range.low->at);
        if (order < 0 || (order == 0 && range.low->is_open)) return false;
    }
    if (range.high) {
        const int order = compare(value, range.high->at);
        if (order > 0 || (order == 0 && range.high->is_open)) return false;
    }
    if (value.is_integer() ? !range.with_integers : !range.with_fractions) return false;
    if (std::ranges::find(range.excluded, value) != range.excluded.end()) return false;
    for (const auto& of : range.multiples)
        if (!is_multiple(value, of)) return false;
    for (const auto& of : range.not_multiples)
        if (is_multiple(value, of)) return false;
    return true;
}

} // namespace engine
