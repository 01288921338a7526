#include "json.h"

#include <algorithm>
#include <unordered_map>

#include "code_points.h"

namespace engine {

namespace {

class Parser {
  public:
    Parser(std::string_view text, std::size_t max_depth) : text_(text), max_depth_(max_depth) {}

    Json parse() {
        Json out = value();
        blanks();
        if (at_ != text_.size()) fail("something behind the value");
        return out;
    }

  private:
    [[noreturn]] void fail(const char* why) const { throw JsonError(at_, why); }
    char look() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void blanks() {
        while (look() == ' ' || look() == '\n' || look() == '\r' || look() == '\t') ++at_;
    }
    bool take(char c) {
        if (look() != c || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }
    bool take(std::string_view word) {
        if (!text_.substr(at_).starts_with(word)) return false;
        at_ += word.size();
        return true;
    }

    Json value() {
        blanks();
        Json out;
        if (take("null")) return out;
        if (take("true") || take("false")) {
            out.type = Json::Type::boolean;
            out.truth = text_[at_ - 2] == 'u';
            return out;
        }
        if (take('"')) {
            out.type = Json::Type::string;
            out.text = string();
            return out;
        }
        if (look() == '[' || look() == '{') {
            if (++depth_ > max_depth_) fail("nested too deeply");
            out = take('[') ? array() : object();
            --depth_;
            return out;
        }
        out.type = Json::Type::number;
        out.text = number();
        return out;
    }

    Json array() {
        Json out;
        out.type = Json::Type::array;
        blanks();
        if (take(']')) return out;
        do {
            out.items.push_back(value());
            blanks();
        } while (take(','));
        if (!take(']')) fail("an array without its ]");
        return out;
    }

    Json object() {
        Json out;
        out.type = Json::Type::object;
        ++at_;
        blanks();
        if (take('}')) return out;
        do {
            blanks();
            if (!take('"')) fail("a key without its quote");
            std::string key = string();
            blanks();
            if (!take(':')) fail("a key without its :");
            out.members.emplace_back(std::move(key), value());
            blanks();
        } while (take(','));
        if (!take('}')) fail("an object without its }");
        keep_last(out.members);
        return out;
    }

    /// Of members with equal keys the last, where the first one stood.
    static void keep_last(std::vector<std::pair<std::string, Json>>& members) {
        std::unordered_map<std::string_view, std::size_t> seen;
        std::vector<std::size_t> at; // where each goes
        for (const auto& [key, value] : members)
            at.push_back(seen.try_emplace(key, seen.size()).first->second);
        if (seen.size() == members.size()) return;
        std::vector<std::pair<std::string, Json>> kept(seen.size());
        for (std::size_t i = 0; i < members.size(); ++i) kept[at[i]] = std::move(members[i]);
        members = std::move(kept);
    }

    std::uint32_t hex() {
        std::uint32_t point = 0;
        for (int i = 0; i < 4; ++i) {
            const char c = look();
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) fail("a \\u without four digits");
            point = point << 4 | std::uint32_t(digit);
            ++at_;
        }
        return point;
    }

    std::string string() {
        std::string out;
        while (true) {
            if (at_ >= text_.size()) fail("a string without its end");
            const char c = text_[at_++];
            if (c == '"') return out;
            if (std::uint8_t(c) < 0x20) fail("a control character in a string");
            if (c != '\\') {
                out += c;
                continue;
            }
            static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
            if (const auto found = from.find(look()); found != from.npos && look() != '\0') {
                out += to[found];
                ++at_;
                continue;
            }
            if (!take('u')) fail("an unknown escape");
            std::uint32_t point = hex();
            const std::size_t back = at_;
            if (point >= 0xd800 && point <= 0xdbff && take("\\u")) {
                const std::uint32_t low = hex();
                if (low >= 0xdc00 && low <= 0xdfff)
                    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
                else
                    at_ = back; // no pair: the second is a character of its own
            }
            out += utf8(point);
        }
    }

    std::string number() {
        const std::size_t begin = at_;
        const auto digits = [&] {
            if (look() < '0' || look() > '9') fail("no JSON value");
            while (look() >= '0' && look() <= '9') ++at_;
        };
        take('-');
        if (!take('0')) digits();
        if (take('.')) digits();
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            digits();
        }
        return std::string(text_.substr(begin, at_ - begin));
    }

    std::string_view text_;
    std::size_t max_depth_, at_ = 0, depth_ = 0;
};

} // namespace

Json parse_json(std::string_view text, std::size_t max_depth) {
    return Parser(text, max_depth).parse();
}

Decimal Decimal::parse(std::string_view text) {
    Decimal out;
    constexpr std::int64_t most = 1'000'000;
    if (text.starts_with('-')) {
        out.is_negative = true;
        text.remove_prefix(1);
    }
    const std::size_t e = std::min(text.find_first_of("eE"), text.size());
    std::int64_t exponent = 0;
    if (e < text.size()) {
        std::string_view digits = text.substr(e + 1);
        const bool is_negative = digits.starts_with('-');
        if (is_negative || digits.starts_with('+')) digits.remove_prefix(1);
        for (const char c : digits) exponent = std::min(exponent * 10 + (c - '0'), most);
        if (is_negative) exponent = -exponent;
    }
    const std::string_view mantissa = text.substr(0, e);
    const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
    out.digits = mantissa.substr(0, point);
    if (point < mantissa.size()) out.digits += mantissa.substr(point + 1);
    out.exponent = exponent + std::int64_t(point);
    const std::size_t zeros = out.digits.find_first_not_of('0');
    if (zeros == std::string::npos) return {};
    out.digits.erase(0, zeros);
    out.exponent -= std::int64_t(zeros);
    out.digits.erase(out.digits.find_last_not_of('0') + 1);
    return out;
}

std::string Decimal::whole() const {
    if (exponent <= 0) return "";
    std::string out = digits.substr(0, std::min<std::size_t>(digits.size(), std::size_t(exponent)));
    out.append(std::size_t(exponent) - out.size(), '0');
    return out;
}

std::string Decimal::fraction() const {
    if (is_integer()) return "";
    if (exponent >= 0) return digits.substr(std::size_t(exponent));
    return std::string(std::size_t(-exponent), '0') + digits;
}

int compare(const Decimal& a, const Decimal& b) {
    if (a.is_zero() || b.is_zero() || a.is_negative != b.is_negative) {
        const auto sign = [](const Decimal& x) { return x.is_zero() ? 0 : x.is_negative ? -1 : 1; };
        return sign(a) - sign(b);
    }
    const int larger = a.is_negative ? -1 : 1;
    if (a.exponent != b.exponent) return a.exponent > b.exponent ? larger : -larger;
    return a.digits.compare(b.digits) * larger;
}

bool equal(const Json& a, const Json& b) {
    if (a.type != b.type) return false;
    switch (a.type) {
    case Json::Type::null:
        return true;
    case Json::Type::boolean:
        return a.truth == b.truth;
    case Json::Type::number:
        return Decimal::parse(a.text) == Decimal::parse(b.text);
    case Json::Type::string:
        return a.text == b.text;
    case Json::Type::array:
        return std::ranges::equal(a.items, b.items, equal);
    case Json::Type::object:
        return a.members.size() == b.members.size() &&
               std::ranges::all_of(a.members, [&](const auto& member) {
                   const Json* other = b.find(member.first);
                   return other != nullptr && equal(member.second, *other);
               });
    }
    return false;
}

} // namespace engine
