#include "code_points.h"

#include <algorithm>

namespace engine {

namespace {

constexpr std::uint32_t no_character = 0xfffd;

bool is_surrogate(std::uint32_t point) {
    return point >= 0xd800 && point <= 0xdfff;
}

/// What JSON writes behind the backslash for a character that has a short escape, else 0.
char short_escape(std::uint32_t point) {
    switch (point) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '/':
        return '/';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

const CodePoints& characters() {
    static const CodePoints set{{0, 0xd7ff}, {0xe000, CodePoints::last}};
    return set;
}

/// Those that a JSON string can't hold as they are.
const CodePoints& must_escape() {
    static const CodePoints set{{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    return set;
}

} // namespace

bool CodePoints::has(std::uint32_t point) const {
    return std::ranges::any_of(
        ranges_, [&](const Range& range) { return range.first <= point && point <= range.second; });
}

void CodePoints::tidy() {
    std::ranges::sort(ranges_);
    std::vector<Range> out;
    for (const auto& [first, final] : ranges_) {
        if (!out.empty() && first <= out.back().second + 1)
            out.back().second = std::max(out.back().second, final);
        else
            out.emplace_back(first, final);
    }
    ranges_ = std::move(out);
}

CodePoints CodePoints::without_ascii_case() const {
    auto out = ranges_;
    for (const auto& [first, final] : ranges_) {
        for (const auto& [from, to, shift] :
             {std::tuple{'a', 'z', -32}, std::tuple{'A', 'Z', 32}}) {
            const auto low = std::max(first, std::uint32_t(from));
            const auto high = std::min(final, std::uint32_t(to));
            if (low <= high)
                out.emplace_back(low + std::uint32_t(shift), high + std::uint32_t(shift));
        }
    }
    return CodePoints(std::move(out));
}

CodePoints operator|(const CodePoints& a, const CodePoints& b) {
    auto ranges = a.ranges_;
    ranges.insert(ranges.end(), b.ranges_.begin(), b.ranges_.end());
    return CodePoints(std::move(ranges));
}

CodePoints operator&(const CodePoints& a, const CodePoints& b) {
    std::vector<CodePoints::Range> out;
    auto x = a.ranges_.begin(), y = b.ranges_.begin();
    while (x != a.ranges_.end() && y != b.ranges_.end()) {
        const auto first = std::max(x->first, y->first), final = std::min(x->second, y->second);
        if (first <= final) out.emplace_back(first, final);
        (x->second < y->second ? x : y) += 1;
    }
    return CodePoints(std::move(out));
}

CodePoints CodePoints::operator~() const {
    std::vector<Range> out;
    std::uint32_t next = 0;
    for (const auto& [first, final] : ranges_) {
        if (first > next) out.emplace_back(next, first - 1);
        next = final + 1;
    }
    if (next <= last) out.emplace_back(next, last);
    return CodePoints(std::move(out));
}

std::string utf8(std::uint32_t point) {
    if (point > CodePoints::last || is_surrogate(point)) point = no_character;
    if (point < 0x80) return {char(point)};
    if (point < 0x800) return {char(0xc0 | point >> 6), char(0x80 | (point & 63))};
    if (point < 0x10000)
        return {char(0xe0 | point >> 12), char(0x80 | (point >> 6 & 63)),
                char(0x80 | (point & 63))};
    return {char(0xf0 | point >> 18), char(0x80 | (point >> 12 & 63)),
            char(0x80 | (point >> 6 & 63)), char(0x80 | (point & 63))};
}

std::pair<std::uint32_t, std::size_t> first_character(std::string_view data) {
    const auto byte = [&](std::size_t i) { return std::uint32_t(std::uint8_t(data[i])); };
    const std::uint32_t lead = byte(0);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xc2 ? 0
                               : lead < 0xe0 ? 2
                               : lead < 0xf0 ? 3
                               : lead < 0xf5 ? 4
                                             : 0;
    if (length == 1) return {lead, 1};
    if (length == 0 || data.size() < length) return {no_character, 1};
    std::uint32_t point = lead & (0x7fU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {no_character, 1};
        point = point << 6 | (byte(i) & 63);
    }
    if (utf8(point).size() != length || is_surrogate(point)) return {no_character, 1};
    return {point, length};
}

Expr Characters::one_of(const CodePoints& given) {
    const CodePoints set = given & characters();
    if (const auto found = known_.find(set); found != known_.end()) return found->second;
    Expr out;
    if (writing_ == Writing::plain) {
        out = utf8_of(set);
    } else {
        const Expr escapes = escapes_of(set);
        const Expr escaped = expressions_.concat(expressions_.text("\\"), escapes);
        const std::array parts{utf8_of(set & ~must_escape()), escaped};
        out = expressions_.either(parts);
    }
    known_.emplace(set, out);
    return out;
}

Expr Characters::literal(std::string_view data) {
    std::string spelled;
    if (spell(data, spelled)) return expressions_.text(spelled);
    std::vector<Expr> parts;
    while (!data.empty()) {
        const auto [point, length] = first_character(data);
        parts.push_back(one_of(CodePoints::one(point)));
        data.remove_prefix(length);
    }
    Expr out = Expressions::empty;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part)
        out = expressions_.concat(*part, out);
    return out;
}

Expr Characters::words(const std::vector<std::string>& literals) {
    std::vector<std::string> spelled;
    std::vector<Expr> others;
    for (const auto& each : literals) {
        std::string out;
        if (spell(each, out))
            spelled.push_back(std::move(out));
        else
            others.push_back(literal(each));
    }
    others.push_back(expressions_.words(std::move(spelled)));
    return expressions_.either(others);
}

/// Whether there is but one way to write `data`, appended to `out`.
bool Characters::spell(std::string_view data, std::string& out) const {
    if (writing_ == Writing::json) return data.empty();
    out += spelled(data);
    return true;
}

std::string Characters::spelled(std::string_view data) const {
    std::string out;
    static constexpr std::string_view digits = "0123456789abcdef";
    while (!data.empty()) {
        const auto [point, length] = first_character(data);
        const char letter = short_escape(point);
        if (writing_ == Writing::plain || !must_escape().has(point))
            out += utf8(point);
        else if (letter != 0)
            out += {'\\', letter};
        else
            out += {'\\', 'u', '0', '0', digits[point >> 4], digits[point & 15]};
        data.remove_prefix(length);
    }
    return out;
}

Expr Characters::utf8_of(const CodePoints& set) {
    static constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 4> lengths{
        {{0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xffff}, {0x10000, CodePoints::last}}};
    std::vector<Expr> parts;
    for (const auto& [first, final] : set.ranges()) {
        for (unsigned units = 1; units <= 4; ++units) {
            const auto low = std::max(first, lengths[units - 1].first);
            const auto high = std::min(final, lengths[units - 1].second);
            if (low <= high) parts.push_back(sequence(low, high, units, 6));
        }
    }
    return expressions_.either(parts);
}

/// What may follow the backslash.
Expr Characters::escapes_of(const CodePoints& set) {
    std::vector<Expr> parts;
    CodePoints in_hex = set;
    ByteSet letters;
    for (const char c : std::string_view("\"\\/\b\f\n\r\t")) {
        const auto point = std::uint32_t(c);
        if (!set.has(point)) continue;
        if (writing_ == Writing::json_needed && c == '/') continue;
        letters.add(std::uint8_t(short_escape(point)));
        if (writing_ == Writing::json_needed) in_hex = in_hex & ~CodePoints::one(point);
    }
    if (writing_ == Writing::json_needed) in_hex = in_hex & must_escape();
    parts.push_back(expressions_.bytes(letters));
    parts.push_back(expressions_.concat(expressions_.text("u"), hex_of(in_hex)));
    return expressions_.either(parts);
}

/// Four hexadecimal digits, or for a character beyond the first 65,536 a pair of surrogates.
Expr Characters::hex_of(const CodePoints& set) {
    std::vector<Expr> parts;
    const auto pair = [&](std::uint32_t high_first, std::uint32_t high_last,
                          std::uint32_t low_first, std::uint32_t low_last) {
        const Expr high = sequence(0xd800 + high_first, 0xd800 + high_last, 4, 4);
        const Expr low = sequence(0xdc00 + low_first, 0xdc00 + low_last, 4, 4);
        parts.push_back(expressions_.concat({high, expressions_.text("\\u"), low}));
    };
    for (const auto& [first, final] : set.ranges()) {
        if (first <= 0xffff) parts.push_back(sequence(first, std::min(final, 0xffffU), 4, 4));
        if (final <= 0xffff) continue;
        const std::uint32_t low = std::max(first, 0x10000U) - 0x10000, high = final - 0x10000;
        const std::uint32_t a = low >> 10, b = high >> 10;
        if (a == b) {
            pair(a, a, low & 1023, high & 1023);
            continue;
        }
        pair(a, a, low & 1023, 1023);
        if (a + 1 < b) pair(a + 1, b - 1, 0, 1023);
        pair(b, b, 0, high & 1023);
    }
    return expressions_.either(parts);
}

/// The numbers from `first` to `final` in `units` digits of `bits` bits: UTF-8 bytes of 6 bits, or
/// hexadecimal digits of 4. Splits the range until each digit varies independently of the others.
Expr Characters::sequence(std::uint32_t first, std::uint32_t final, unsigned units, unsigned bits) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> open{{first, final}};
    std::vector<Expr> parts;
    while (!open.empty()) {
        auto [low, high] = open.back();
        open.pop_back();
        bool is_split = false;
        for (unsigned i = 1; i < units && !is_split; ++i) {
            const std::uint32_t below = (1U << (bits * i)) - 1;
            if ((low & ~below) == (high & ~below)) continue;
            if ((low & below) != 0) {
                open.emplace_back((low | below) + 1, high);
                open.emplace_back(low, low | below);
                is_split = true;
            } else if ((high & below) != below) {
                open.emplace_back(high & ~below, high);
                open.emplace_back(low, (high & ~below) - 1);
                is_split = true;
            }
        }
        if (is_split) continue;
        Expr out = Expressions::empty;
        for (unsigned i = 0; i < units; ++i) {
            const std::uint32_t digit = (1U << bits) - 1;
            std::uint32_t from = low >> (bits * i), to = high >> (bits * i);
            ByteSet set;
            if (bits == 4) {
                for (auto value = from & digit; value <= (to & digit); ++value) {
                    set.add(std::uint8_t("0123456789abcdef"[value]));
                    if (writing_ == Writing::json) set.add(std::uint8_t("0123456789ABCDEF"[value]));
                }
            } else {
                static constexpr std::array<unsigned, 5> leads{0, 0, 0xc0, 0xe0, 0xf0};
                const bool is_lead = i + 1 == units;
                const unsigned mark = is_lead ? leads[units] : 0x80;
                if (!is_lead) from &= digit, to &= digit;
                set = ByteSet::range(mark | from, mark | to);
            }
            out = expressions_.concat(expressions_.bytes(set), out);
        }
        parts.push_back(out);
    }
    return expressions_.either(parts);
}

} // namespace engine
