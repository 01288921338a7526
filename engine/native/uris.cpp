#include "uris.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <vector>

namespace engine {

std::string resolve_uri(const std::string& base, const std::string& reference) {
    const auto scheme_end = [](const std::string& uri) {
        const std::size_t colon = uri.find(':'), slash = uri.find_first_of("/?#");
        return colon != uri.npos && (slash == uri.npos || colon < slash) ? colon : uri.npos;
    };
    if (reference.empty()) return base.substr(0, base.find('#'));
    if (scheme_end(reference) != reference.npos) return reference;
    const std::string trunk = base.substr(0, base.find_first_of("#"));
    if (reference.front() == '#') return trunk + reference;
    const std::size_t colon = scheme_end(trunk);
    std::size_t path = colon == trunk.npos ? 0 : colon + 1;
    if (trunk.compare(path, 2, "//") == 0) path = std::min(trunk.find('/', path + 2), trunk.size());
    const std::string front = trunk.substr(0, path);
    if (reference.front() == '?') return trunk.substr(0, trunk.find('?')) + reference;
    const std::string old = trunk.substr(path, trunk.find('?', path) - path);
    std::string joined = reference;
    if (reference.front() != '/') {
        const std::size_t slash = old.rfind('/');
        joined =
            (slash == old.npos ? (front.empty() ? "" : "/") : old.substr(0, slash + 1)) + reference;
    }
    const std::size_t tail = std::min(joined.find_first_of("?#"), joined.size());
    std::vector<std::string> parts;
    std::string part;
    bool is_last_dot = false;
    for (std::size_t i = 0; i <= tail; ++i) {
        if (i < tail && joined[i] != '/') {
            part += joined[i];
            continue;
        }
        is_last_dot = part == "." || part == "..";
        if (part == ".." && parts.size() > 1)
            parts.pop_back();
        else if (!is_last_dot)
            parts.push_back(part);
        part.clear();
    }
    std::string out;
    for (std::size_t i = 0; i < parts.size(); ++i) out += (i > 0 ? "/" : "") + parts[i];
    return front + out + (is_last_dot ? "/" : "") + joined.substr(tail);
}

std::string unescape_pointer(std::string_view token) {
    std::string out;
    for (std::size_t i = 0; i < token.size(); ++i) {
        const bool is_escape = token[i] == '%' && i + 2 < token.size() &&
                               std::isxdigit(std::uint8_t(token[i + 1])) != 0 &&
                               std::isxdigit(std::uint8_t(token[i + 2])) != 0;
        if (is_escape) {
            out += char(std::stoi(std::string(token.substr(i + 1, 2)), nullptr, 16));
            i += 2;
        } else {
            out += token[i];
        }
    }
    std::string plain;
    for (std::size_t i = 0; i < out.size(); ++i) {
        if (out[i] == '~' && i + 1 < out.size())
            plain += out[++i] == '1' ? '/' : '~';
        else
            plain += out[i];
    }
    return plain;
}

std::string escape_pointer(std::string_view key) {
    std::string out;
    for (const char c : key) {
        if (c == '~')
            out += "~0";
        else if (c == '/')
            out += "~1";
        else
            out += c;
    }
    return out;
}

} // namespace engine
