#include <algorithm>
#include <optional>
#include <utility>

#include "pattern.h"

namespace engine {

namespace {

using Kind = PatternNode::Kind;

const CodePoints digits{{'0', '9'}};
const CodePoints word{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CodePoints space{{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                       {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                       {0x3000, 0x3000}, {0xfeff, 0xfeff}};
/// What the dot leaves out.
const CodePoints ecma_line_ends{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
const CodePoints rust_line_ends{{'\n', '\n'}};

class Parser {
  public:
    Parser(std::string_view pattern, const PatternOptions& options)
        : text_(pattern), options_(options), ignore_case_(options.ignore_case),
          dot_all_(options.dot_all) {}

    PatternNode parse() {
        if (text_.size() > options_.max_length)
            fail("the pattern is longer than " + std::to_string(options_.max_length) + " bytes");
        PatternNode out = choice();
        if (!at_end()) fail("an unmatched )");
        return out;
    }

  private:
    [[noreturn]] void fail(const std::string& why) const { throw PatternError(at_, why); }
    [[noreturn]] void fail(std::size_t at, const std::string& why) const {
        throw PatternError(at, why);
    }
    bool at_end() const { return at_ >= text_.size(); }
    bool sees(std::string_view what) const { return text_.substr(at_).starts_with(what); }
    bool take(std::string_view what) {
        if (!sees(what)) return false;
        at_ += what.size();
        return true;
    }
    std::uint32_t character() {
        const auto [point, length] = first_character(text_.substr(at_));
        at_ += length;
        return point;
    }

    PatternNode choice() {
        if (++depth_ > options_.max_depth)
            fail("groups nested deeper than " + std::to_string(options_.max_depth));
        const bool case_before = ignore_case_, dot_before = dot_all_;
        PatternNode out{.kind = Kind::choice, .offset = at_};
        do out.parts.push_back(sequence());
        while (take("|"));
        --depth_;
        ignore_case_ = case_before, dot_all_ = dot_before;
        return out.parts.size() == 1 ? std::move(out.parts.front()) : with_looks(std::move(out));
    }

    static PatternNode with_looks(PatternNode node) {
        for (const auto& part : node.parts) node.looks |= part.looks;
        return node;
    }

    PatternNode sequence() {
        PatternNode out{.kind = Kind::sequence, .offset = at_};
        while (!at_end() && !sees("|") && !sees(")")) out.parts.push_back(quantified());
        if (out.parts.size() == 1) return std::move(out.parts.front());
        return with_looks(std::move(out));
    }

    PatternNode quantified() {
        const std::size_t begin = at_;
        PatternNode item = atom();
        for (int in_a_row = 1; const auto bounds = quantifier(); ++in_a_row) {
            if (in_a_row > (options_.is_rust ? 3 : 1)) fail("nothing to repeat");
            take("?"); // lazy: the same texts
            if (item.kind == Kind::empty) continue;
            PatternNode out{.kind = Kind::repeat, .offset = begin};
            out.min = bounds->first, out.max = bounds->second;
            out.parts.push_back(std::move(item));
            item = with_looks(std::move(out));
        }
        return item;
    }

    std::optional<std::pair<std::uint32_t, std::uint32_t>> quantifier() {
        constexpr auto forever = Expressions::forever;
        if (take("*")) return {{0, forever}};
        if (take("+")) return {{1, forever}};
        if (take("?")) return {{0, 1}};
        if (!sees("{")) return {};
        const std::size_t begin = at_++;
        const auto low = number();
        std::optional<std::uint32_t> high = low;
        if (take(",")) high = sees("}") ? std::optional(forever) : number();
        if ((!low && !options_.is_rust) || !high || !take("}")) {
            at_ = begin; // not a quantifier: a brace
            return {};
        }
        if (low.value_or(0) > *high) fail(begin, "a repetition whose bounds are out of order");
        return {{low.value_or(0), *high}};
    }

    std::optional<std::uint32_t> number() {
        const std::size_t begin = at_;
        std::uint64_t value = 0;
        while (!at_end() && text_[at_] >= '0' && text_[at_] <= '9') {
            value = std::min<std::uint64_t>(value * 10 + std::uint64_t(text_[at_++] - '0'),
                                            Expressions::forever);
        }
        if (at_ == begin) return {};
        if (value >= Expressions::forever) fail(begin, "a repetition count that is too large");
        return std::uint32_t(value);
    }

    PatternNode assertion(Kind kind) const {
        PatternNode out{.kind = kind, .offset = at_};
        out.looks = true;
        return out;
    }

    PatternNode characters(CodePoints set, std::size_t begin) const {
        PatternNode out{.kind = Kind::characters, .offset = begin};
        out.set = ignore_case_ ? set.without_ascii_case() : std::move(set);
        return out;
    }

    const CodePoints& line_ends() const {
        return options_.is_rust ? rust_line_ends : ecma_line_ends;
    }

    PatternNode atom() {
        const std::size_t begin = at_;
        if (take("(")) return group(begin);
        if (take("[")) return characters(character_class(begin), begin);
        if (take(".")) return characters(dot_all_ ? CodePoints::all() : ~line_ends(), begin);
        if (take("^")) return assertion(Kind::start);
        if (take("$")) return assertion(Kind::end);
        if (take("\\")) return escape(begin);
        if (sees("*") || sees("+") || sees("?")) fail("nothing to repeat");
        return characters(CodePoints::one(character()), begin);
    }

    PatternNode group(std::size_t begin) {
        if (take("?<=") || take("?<!")) fail(begin, "look-behind");
        const bool is_ahead = take("?="), is_not_ahead = !is_ahead && take("?!");
        const bool case_before = ignore_case_, dot_before = dot_all_;
        bool names_flags = false;
        if (!is_ahead && !is_not_ahead && sees("?") && !take("?:")) {
            if (take("?<") || take("?P<")) {
                while (!at_end() && !sees(">")) ++at_;
                if (!take(">")) fail(begin, "a group's name without its end");
            } else {
                ++at_;
                names_flags = true;
            }
        }
        if (names_flags && flags(begin)) return {.kind = Kind::empty, .offset = begin};
        PatternNode inside = choice();
        if (!take(")")) fail(begin, "a group without its )");
        ignore_case_ = case_before, dot_all_ = dot_before;
        if (!is_ahead && !is_not_ahead) return inside;
        PatternNode out = assertion(is_ahead ? Kind::ahead : Kind::not_ahead);
        out.offset = begin;
        out.parts.push_back(std::move(inside));
        return out;
    }

    /// `i)`, `s-i:` and the like; true if they hold for the rest of the group around.
    bool flags(std::size_t begin) {
        bool on = true;
        while (!at_end()) {
            const char c = text_[at_++];
            if (c == ')') {
                if (!options_.is_rust && begin != 0) fail(begin, "flags inside the pattern");
                return true;
            }
            if (c == ':') return false;
            if (c == '-')
                on = false;
            else if (c == 'i')
                ignore_case_ = on;
            else if (c == 's')
                dot_all_ = on;
            else if (c != 'u')
                fail(begin, std::string("the flag or group (?") + c);
        }
        fail(begin, "a group without its )");
    }

    PatternNode escape(std::size_t begin) {
        if (at_end()) fail(begin, "a \\ with nothing behind it");
        if (take("b")) return assertion(Kind::boundary);
        if (take("B")) return assertion(Kind::not_boundary);
        if (options_.is_rust && take("A")) return assertion(Kind::start);
        if (options_.is_rust && take("z")) return assertion(Kind::end);
        if (text_[at_] >= '1' && text_[at_] <= '9') fail(begin, "a back-reference");
        if (sees("k<")) fail(begin, "a back-reference");
        if (auto set = class_escape()) return characters(std::move(*set), begin);
        return characters(CodePoints::one(character_escape(begin)), begin);
    }

    /// \d, \w, \s, \p{...} and their opposites.
    std::optional<CodePoints> class_escape() {
        if (take("d")) return digits;
        if (take("D")) return ~digits;
        if (take("w")) return word;
        if (take("W")) return ~word;
        if (take("s")) return space;
        if (take("S")) return ~space;
        const bool is_not = sees("P{");
        if (!is_not && !sees("p{")) return {};
        const std::size_t begin = at_, end = text_.find('}', at_);
        if (end == text_.npos) fail(begin, "a property without its }");
        const std::string name(text_.substr(at_ + 2, end - at_ - 2));
        const CodePoints set = options_.property ? options_.property(name) : CodePoints{};
        if (set.empty()) fail(begin, "the unknown Unicode property " + name);
        at_ = end + 1;
        return is_not ? ~set : set;
    }

    std::uint32_t character_escape(std::size_t begin) {
        static constexpr std::string_view from = "tnvfr0", to = "\t\n\v\f\r";
        if (const auto found = from.find(text_[at_]); found != from.npos) {
            ++at_;
            return found == 5 ? 0 : std::uint32_t(to[found]);
        }
        if (sees("c") && at_ + 1 < text_.size() &&
            ((text_[at_ + 1] | 32) >= 'a' && (text_[at_ + 1] | 32) <= 'z')) {
            at_ += 2;
            return std::uint32_t(text_[at_ - 1]) % 32;
        }
        if (take("x")) return hex(begin, 2);
        if (take("u{") || (options_.is_rust && take("x{"))) {
            const std::size_t end = text_.find('}', at_);
            if (end == text_.npos || end == at_ || end - at_ > 6) fail(begin, "a bad \\u{...}");
            const std::uint32_t point = hex(begin, end - at_);
            if (point > CodePoints::last) fail(begin, "a \\u{...} beyond Unicode");
            ++at_;
            return point;
        }
        if (take("u")) {
            const std::uint32_t high = hex(begin, 4);
            if (high < 0xd800 || high > 0xdbff || !sees("\\u")) return high;
            const std::size_t back = at_;
            at_ += 2;
            const std::uint32_t low = hex(begin, 4);
            if (low >= 0xdc00 && low <= 0xdfff)
                return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            at_ = back;
            return high;
        }
        const std::uint32_t point = character();
        const bool is_letter = point < 128 && word.has(point) && point != '_';
        if (is_letter) fail(begin, std::string("the unknown escape \\") + char(point));
        return point;
    }

    std::uint32_t hex(std::size_t begin, std::size_t count) {
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const char c = at_end() ? 'g' : text_[at_++];
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) fail(begin, "an escape without its hexadecimal digits");
            value = value << 4 | std::uint32_t(digit);
        }
        return value;
    }

    CodePoints character_class(std::size_t begin) {
        const bool is_not = take("^");
        CodePoints out;
        bool is_first = true;
        while (!(sees("]") && !(is_first && options_.is_rust))) {
            if (at_end()) fail(begin, "a [ without its ]");
            is_first = false;
            CodePoints low = class_item();
            const std::size_t dash = at_;
            if (take("-") && !sees("]") && !at_end()) {
                const CodePoints high = class_item();
                const bool is_range = single(low) && single(high);
                if (is_range) {
                    const auto from = low.ranges().front().first, to = high.ranges().front().first;
                    if (from > to) fail(dash, "a range whose ends are out of order");
                    low = {{from, to}};
                } else {
                    low = low | high | CodePoints::one('-');
                }
            } else {
                at_ = dash;
            }
            out = out | low;
        }
        ++at_;
        if (ignore_case_) out = out.without_ascii_case();
        return is_not ? ~out : out;
    }

    static bool single(const CodePoints& set) {
        return set.ranges().size() == 1 && set.ranges()[0].first == set.ranges()[0].second;
    }

    CodePoints class_item() {
        const std::size_t begin = at_;
        if (sees("[:")) return posix(begin);
        if (!take("\\")) return CodePoints::one(character());
        if (at_end()) fail(begin, "a \\ with nothing behind it");
        if (take("b")) return CodePoints::one('\b');
        if (take("-")) return CodePoints::one('-');
        if (auto set = class_escape()) return *set;
        return CodePoints::one(character_escape(begin));
    }

    /// [:alpha:] is a plain [ in ECMA-262, and a class elsewhere.
    CodePoints posix(std::size_t begin) {
        if (options_.is_rust) fail(begin, "a POSIX class");
        return CodePoints::one(character());
    }

    std::string_view text_;
    const PatternOptions& options_;
    std::size_t at_ = 0, depth_ = 0;
    bool ignore_case_, dot_all_;
};

} // namespace

PatternNode parse_pattern(std::string_view pattern, const PatternOptions& options) {
    return Parser(pattern, options).parse();
}

} // namespace engine
