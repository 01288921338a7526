#include "summary.h"

#include <algorithm>
#include <vector>

#include "code_points.h"

namespace engine {

namespace {

constexpr std::size_t most_forced = 48; // bytes shown of what must come
constexpr std::size_t most_choices = 8; // that are listed one by one
constexpr int open_text = 64;           // bytes with which anything goes

std::string escaped(std::uint8_t byte) {
    static constexpr std::string_view digits = "0123456789abcdef";
    switch (byte) {
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    }
}

bool is_shown(std::uint8_t byte) {
    return byte >= 0x20 && byte < 0x7f;
}

/// The bytes of ASCII as a class, the others in words.
std::string class_of(const ByteSet& bytes) {
    if (bytes.count() >= open_text) return "any text";
    std::string out;
    bool others = false;
    const auto shown = [](unsigned byte) {
        if (!is_shown(std::uint8_t(byte))) return escaped(std::uint8_t(byte));
        const bool is_special = byte == '\\' || byte == ']' || byte == '[' || byte == '-';
        return (is_special ? "\\" : "") + std::string(1, char(byte));
    };
    for (unsigned first = 0; first < 256; ++first) {
        if (!bytes.has(std::uint8_t(first))) continue;
        if (first >= 0x80) {
            others = true;
            break;
        }
        unsigned last = first;
        while (last < 0x7f && bytes.has(std::uint8_t(last + 1))) ++last;
        out += shown(first);
        if (last > first + 1) out += '-';
        if (last > first) out += shown(last);
        first = last;
    }
    if (out.empty()) return "a character beyond ASCII";
    return "one of [" + out + "]" + (others ? " or a character beyond ASCII" : "");
}

/// Whether a byte stands out where nearly anything may come.
bool is_mark(std::uint8_t byte) {
    return byte == '"' || byte == '\\' || byte == '<';
}

/// Reads on from `place` while there is one way to go.
Place follow(Machine& machine, Place place, std::string& text) {
    while (text.size() < most_forced) {
        if (machine.is_accepting(place) || !machine.tokens(place).empty()) break;
        const ByteSet bytes = machine.bytes(place);
        if (bytes.count() != 1) break;
        text += char(bytes.first());
        place = machine.step(place, bytes.first());
    }
    return place;
}

/// Without the beginning of a character at the end.
std::string whole(std::string text) {
    for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
        const auto byte = std::uint8_t(text[text.size() - back]);
        if (byte < 0x80) break;
        if (byte < 0xc0) continue;
        const std::size_t needed = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
        if (back < needed) text.resize(text.size() - back);
        break;
    }
    return text;
}

struct Ways {
    std::vector<std::string> texts; // each behind a choice of one byte
    ByteSet others;                 // bytes of which several lead to the same place
};

Ways ways(Machine& machine, Place place, const std::string& before) {
    std::vector<std::pair<Place, ByteSet>> groups;
    machine.bytes(place).each([&](std::uint8_t byte) {
        const Place to = machine.step(place, byte);
        const auto known = std::ranges::find(groups, to, &std::pair<Place, ByteSet>::first);
        if (known != groups.end())
            known->second.add(byte);
        else
            groups.emplace_back(to, ByteSet::one(byte));
    });
    Ways out;
    const bool is_open = machine.bytes(place).count() >= open_text;
    for (const auto& [to, bytes] : groups) {
        if (bytes.count() > 1 || (is_open && !is_mark(bytes.first()))) {
            out.others = out.others | bytes;
            continue;
        }
        std::string text = before + char(bytes.first());
        follow(machine, to, text);
        out.texts.push_back(std::move(text));
    }
    return out;
}

bool begins_string(Machine& machine, Place place) {
    const Place inside = machine.step(place, '"');
    return inside != Machine::dead && machine.bytes(inside).count() >= open_text;
}

/// Takes the digits and the sign out of the ways where they make a number.
bool take_number(Ways& found) {
    const ByteSet digits = ByteSet::range('0', '9');
    if (found.others.count() >= open_text) return false;
    ByteSet all = found.others;
    for (const auto& text : found.texts)
        if (text.size() == 1) all.add(std::uint8_t(text[0]));
    if ((all & digits) != digits || !(all.has('-') || (found.others & digits) != digits))
        return false;
    found.others = found.others & ~(digits | ByteSet::one('-'));
    std::erase_if(found.texts, [&](const std::string& text) {
        return text.size() == 1 && (digits.has(std::uint8_t(text[0])) || text[0] == '-');
    });
    return true;
}

} // namespace

std::string quoted(std::string_view bytes) {
    std::string out = "'";
    while (!bytes.empty()) {
        const auto [point, length] = first_character(bytes);
        const bool is_bad = point == 0xfffd && length == 1;
        if (bytes[0] == '\'' || bytes[0] == '\\') out += '\\';
        if (is_bad || (length == 1 && !is_shown(std::uint8_t(bytes[0]))))
            out += escaped(std::uint8_t(bytes[0]));
        else
            out += bytes.substr(0, length);
        bytes.remove_prefix(length);
    }
    return out + "'";
}

std::string allowed_in_words(Machine& machine, Place place) {
    if (place == Machine::dead) return "nothing";
    std::vector<std::string> parts;
    const auto tokens = machine.tokens(place);
    for (std::size_t i = 0; i < std::min(tokens.size(), most_choices); ++i)
        parts.push_back("<[" + std::to_string(tokens[i]) + "]>");
    if (tokens.size() > most_choices)
        parts.push_back(std::to_string(tokens.size() - most_choices) + " other tokens");
    std::string forced;
    const Place choice = follow(machine, place, forced);
    Ways found;
    if (!forced.empty()) {
        found = ways(machine, choice, forced);
        const bool is_listed = found.others.empty() && found.texts.size() > 1 &&
                               found.texts.size() <= most_choices && !machine.is_accepting(choice);
        if (!is_listed) found = {{forced}, {}};
        if (forced == "\"" && begins_string(machine, place))
            found = {}, parts.push_back("a string");
    } else {
        found = ways(machine, place, "");
        const auto is_quote = [](const std::string& text) { return text == "\""; };
        if (std::ranges::any_of(found.texts, is_quote) && begins_string(machine, place)) {
            std::erase_if(found.texts, is_quote);
            parts.push_back("a string");
        }
        if (take_number(found)) parts.push_back("a number");
    }
    if (found.texts.size() > most_choices) {
        for (const auto& text : found.texts) found.others.add(std::uint8_t(text[0]));
        found.texts.clear();
    }
    std::vector<std::string> shown;
    for (const auto& text : found.texts) {
        const std::string part = whole(text);
        if (part.empty())
            found.others.add(std::uint8_t(text[0]));
        else if (std::ranges::find(shown, part) == shown.end())
            shown.push_back(part);
    }
    for (const auto& text : shown) parts.push_back(quoted(text));
    if (!found.others.empty()) parts.push_back(class_of(found.others));
    if (machine.is_accepting(place)) parts.emplace_back("the end");
    std::string out;
    for (std::size_t i = 0; i < parts.size(); ++i)
        out += (i == 0 ? "" : i + 1 < parts.size() ? ", " : " or ") + parts[i];
    return out;
}

} // namespace engine
