#include "formats.h"

#include <map>

namespace engine {

namespace {

using Table = std::map<std::string, std::string, std::less<>>;

std::string whole(const std::string& pattern) {
    return "^(?:" + pattern + ")$";
}

std::string choice(const std::string& a, const std::string& b) {
    return "(?:" + a + "|" + b + ")";
}

/// RFC 3339, section 5.6; leap seconds only where they can be, at the end of a UTC day, and with
/// offsets of whole and half hours.
void add_times(Table& out) {
    const std::string leap_year = "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|"
                                  "(?:[02468][048]|[13579][26])00)";
    const std::string date = "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|"
                             "(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))|" +
                             leap_year + "-02-29)";
    const std::string hour = "(?:[01]\\d|2[0-3])", minute = "[0-5]\\d";
    std::string leap; // the offsets at which it is 23:59:60 UTC
    for (int h = 0; h < 24; ++h) {
        const auto two = [](int n) { return std::string{char('0' + n / 10), char('0' + n % 10)}; };
        // local = UTC + offset: 23:59 + h:mm
        for (const int m : {0, 30}) {
            const int plus = (23 * 60 + 59 + h * 60 + m) % 1440;
            const int minus = (23 * 60 + 59 - h * 60 - m + 1440) % 1440;
            const std::string offset = two(h) + ":" + two(m);
            leap += "|" + two(plus / 60) + ":" + two(plus % 60) + ":60(?:\\.\\d+)?\\+" + offset;
            leap += "|" + two(minus / 60) + ":" + two(minus % 60) + ":60(?:\\.\\d+)?-" + offset;
        }
    }
    const std::string zone = "(?:[zZ]|[+-]" + hour + ":" + minute + ")";
    const std::string time = "(?:" + hour + ":" + minute + ":[0-5]\\d(?:\\.\\d+)?" + zone +
                             "|23:59:60(?:\\.\\d+)?[zZ]" + leap + ")";
    out["date"] = date;
    out["time"] = time;
    out["date-time"] = date + "[tT]" + time;
    const std::string clock = "T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)";
    out["duration"] = "P(?:\\d+W|(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)(?:" + clock +
                      ")?|" + clock + ")";
}

/// RFC 1123 and 5890, 2673 and 4291.
void add_hosts(Table& out) {
    const std::string label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    out["hostname"] = "(?!.*(?:^|\\.)..--)" + label + "(?:\\." + label + ")*";
    const std::string wide = "[^\\x00-\\x2f:-@\\x5b-`{-\\x7f\\u3002\\uff0e\\uff61]";
    const std::string wide_label = wide + "(?:(?:" + wide + "|-){0,61}" + wide + ")?";
    out["idn-hostname"] = wide_label + "(?:[.\\u3002\\uff0e\\uff61]" + wide_label + ")*";
    const std::string octet = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
    const std::string ipv4 = octet + "(?:\\." + octet + "){3}";
    out["ipv4"] = ipv4;
    const std::string h16 = "[0-9A-Fa-f]{1,4}", ls32 = choice(h16 + ":" + h16, ipv4);
    std::string ipv6 = "(?:" + h16 + ":){6}" + ls32;
    for (int before = 0; before <= 7; ++before) {
        // `before` groups at most, then ::, then those that are left but one
        const std::string front =
            before == 0 ? ""
                        : "(?:" + h16 + "(?::" + h16 + "){0," + std::to_string(before - 1) + "})?";
        const int behind = 7 - before;
        std::string back;
        if (behind == 0)
            back = "";
        else if (behind == 1)
            back = h16;
        else
            back =
                (behind > 2 ? "(?:" + h16 + ":){" + std::to_string(behind - 2) + "}" : "") + ls32;
        ipv6 += "|" + front + "::" + back;
    }
    out["ipv6"] = "(?:" + ipv6 + ")";
}

/// RFC 5321 and 6531.
void add_mail(Table& out, const std::string& ipv4, const std::string& ipv6) {
    const std::string label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    const std::string literal = "\\[(?:" + ipv4 + "|IPv6:" + ipv6 + ")\\]";
    const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
    const std::string quoted = "\"(?:[ !#-\\x5b\\x5d-~]|\\\\[ -~])*\"";
    out["email"] = choice(atom + "(?:\\." + atom + ")*", quoted) + "@" +
                   choice(label + "(?:\\." + label + ")*", literal);
    const std::string wide = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\u0080-\\u{10ffff}-]+";
    const std::string wide_label =
        "[A-Za-z0-9\\u0080-\\u{10ffff}]"
        "(?:[A-Za-z0-9\\u0080-\\u{10ffff}-]*[A-Za-z0-9\\u0080-\\u{10ffff}])?";
    out["idn-email"] = choice(wide + "(?:\\." + wide + ")*", quoted) + "@" +
                       choice(wide_label + "(?:\\." + wide_label + ")*", literal);
}

/// RFC 3986, 3987 and 6570.
void add_addresses(Table& out, const std::string& ipv4, const std::string& ipv6) {
    const std::string escape = "%[0-9A-Fa-f]{2}";
    const std::string scheme = "[A-Za-z][A-Za-z0-9+.-]*";
    const std::string wide_ranges =
        "\\u00a0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef\\u{10000}-\\u{1fffd}\\u{20000}-\\u{2fffd}"
        "\\u{30000}-\\u{3fffd}\\u{e1000}-\\u{efffd}";
    for (const bool is_wide : {false, true}) {
        const std::string more = is_wide ? wide_ranges : "";
        const std::string unreserved = "A-Za-z0-9._~" + more, sub = "!$&'()*+,;=";
        const auto any_of = [&](const std::string& set) {
            return "(?:[" + set + "-]|" + escape + ")";
        };
        const std::string pchar = any_of(unreserved + sub + ":@");
        const std::string segment = pchar + "*", segment1 = pchar + "+";
        const std::string user = any_of(unreserved + sub + ":") + "*";
        const std::string name = any_of(unreserved + sub) + "*";
        const std::string future = "[vV][0-9A-Fa-f]+\\.[A-Za-z0-9._~!$&'()*+,;=:-]+";
        const std::string host =
            "(?:\\[(?:" + ipv6 + "|" + future + ")\\]|" + ipv4 + "|" + name + ")";
        const std::string authority = "(?:" + user + "@)?" + host + "(?::\\d*)?";
        const std::string rest = "(?:/" + segment + ")*";
        const std::string absolute = "/(?:" + segment1 + rest + ")?";
        const std::string query_more = is_wide ? "\\ue000-\\uf8ff\\u{f0000}-\\u{ffffd}" : "";
        const std::string query = "(?:\\?" + any_of(unreserved + sub + ":@/?" + query_more) + "*)?";
        const std::string fragment = "(?:#" + any_of(unreserved + sub + ":@/?") + "*)?";
        const std::string hier =
            "(?://" + authority + rest + "|" + absolute + "|" + segment1 + rest + "|)";
        const std::string first = any_of(unreserved + sub + "@") + "+";
        const std::string relative =
            "(?://" + authority + rest + "|" + absolute + "|" + first + rest + "|)";
        const std::string whole_one = scheme + ":" + hier + query + fragment;
        out[is_wide ? "iri" : "uri"] = whole_one;
        out[is_wide ? "iri-reference" : "uri-reference"] =
            choice(whole_one, relative + query + fragment);
    }
    const std::string name =
        "(?:[A-Za-z0-9_]|" + escape + ")(?:\\.?(?:[A-Za-z0-9_]|" + escape + "))*";
    const std::string variable = name + "(?::[1-9]\\d{0,3}|\\*)?";
    const std::string expression = "\\{[+#./;?&=,!@|]?" + variable + "(?:," + variable + ")*\\}";
    out["uri-template"] =
        "(?:[^\\x00-\\x20\"'%<>\\\\^`{|}\\x7f]|" + escape + "|" + expression + ")*";
}

/// ECMA-262's patterns, as far as they are regular: groups inside each other up to a depth, no
/// names, no look-behind and no references to groups, ranges and counts in order.
std::string pattern_of_patterns() {
    constexpr int most_nested = 4;
    std::string range; // of a class: the first end is not behind the second
    for (int c = 0x20; c < 0x7f; ++c) {
        if (c == '\\' || c == ']' || c == '-') continue;
        static constexpr std::string_view hex = "0123456789abcdef";
        const std::string from =
            std::string("\\x") + hex[std::size_t(c) / 16] + hex[std::size_t(c) % 16];
        range += (range.empty() ? "" : "|") + from + "-[" + from + (c < '\\' ? "-\\x5b\\x5e" : "") +
                 "-\\u{10ffff}]";
    }
    const std::string escape =
        "\\\\(?:[dDwWsSfnrtv0^$\\\\.*+?()\\[\\]{}|/ !\"#%&',:;<=>@_`~-]|c[A-Za-z]|"
        "x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[pP]\\{[A-Z][A-Za-z_]*\\})";
    const std::string item = "(?:" + range + "|[^\\\\\\]-]|" + escape + ")";
    const std::string set = "\\[\\^?(?:-" + item + "*|" + item + "+)-?\\]";
    std::string counts; // n,m with n at most m
    for (char ten = '0'; ten <= '9'; ++ten) {
        for (char one = '0'; one <= '9'; ++one) {
            const std::string from = (ten == '0' ? "" : std::string(1, ten)) + one;
            counts += std::string("|") + from + ",(?:" + (ten == '0' ? "" : std::string(1, ten)) +
                      "[" + one + "-9]|" +
                      (ten == '9' ? "" : "[" + std::string(1, char(ten + 1)) + "-9]\\d|") +
                      "[1-9]\\d{2,3})";
        }
    }
    const std::string count = "(?:[*+?]|\\{(?:\\d{1,4},?" + counts + ")\\})\\??";
    const std::string simple = "[^\\\\^$.*+?()\\[\\]{}|]|\\.|" + escape + "|" + set;
    std::string inner = "(?!)";
    for (int depth = 0; depth <= most_nested; ++depth) {
        const std::string group = depth == 0 ? "" : "|\\((?:\\?[:=!])?" + inner + "\\)";
        inner = "(?:(?:" + simple + group + ")(?:" + count + ")?|[\\^$|]|\\\\[bB])*";
    }
    return inner;
}

Table make() {
    Table out;
    add_times(out);
    add_hosts(out);
    const std::string ipv4 = out["ipv4"], ipv6 = out["ipv6"];
    add_mail(out, ipv4, ipv6);
    add_addresses(out, ipv4, ipv6);
    const std::string token = "(?:[^~/]|~[01])*";
    out["json-pointer"] = "(?:/" + token + ")*";
    out["relative-json-pointer"] = "(?:0|[1-9]\\d*)(?:#|(?:/" + token + ")*)";
    out["regex"] = pattern_of_patterns();
    out["uuid"] = "[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}";
    for (auto& [name, pattern] : out) pattern = whole(pattern);
    return out;
}

} // namespace

std::string format_pattern(std::string_view name) {
    static const Table table = make();
    const auto found = table.find(name);
    return found == table.end() ? std::string() : found->second;
}

std::uint32_t format_length(std::string_view name) {
    return name == "hostname" ? 253 : 0;
}

} // namespace engine
