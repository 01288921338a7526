#include "excess.h"

#include <algorithm>
#include <vector>

#include "json.h"
#include "schema.h"
#include "uris.h"

namespace engine {

namespace {

/// Behind the string whose opening quote is at `at`; the text's end if it has no other.
std::size_t behind_string(std::string_view json, std::size_t at) {
    for (++at; at < json.size() && json[at] != '"'; ++at)
        if (json[at] == '\\') ++at;
    return std::min(at + 1, json.size());
}

std::string key_at(std::string_view json, std::size_t from, std::size_t to) {
    try {
        return parse_json(json.substr(from, to - from)).text;
    } catch (const JsonError&) {
        return std::string(json.substr(from + 1, to - from - 1));
    }
}

} // namespace

void refuse_schema(const TooComplex& error, std::size_t max_steps, const std::string& pointer) {
    if (dynamic_cast<const TooMuchWork*>(&error)) // expressions don't know options
        throw LimitExceeded("steps", max_steps, max_steps + 1, "steps to find a text that matches",
                            pointer);
    throw SchemaError(pointer, "", error.what());
}

std::string pointer_at(std::string_view json, std::size_t offset) {
    struct Around {
        bool is_object, awaits_key;
        std::size_t index;
        std::string key;
    };
    std::vector<Around> around;
    for (std::size_t at = 0; at < std::min(offset, json.size());) {
        const char c = json[at];
        if (c == '"') {
            const std::size_t end = behind_string(json, at);
            if (!around.empty() && around.back().awaits_key) {
                around.back().key = key_at(json, at, end);
                around.back().awaits_key = false;
            }
            at = end;
            continue;
        }
        if (c == '{' || c == '[') around.push_back({c == '{', c == '{', 0, {}});
        if ((c == '}' || c == ']') && !around.empty()) around.pop_back();
        if (c == ',' && !around.empty()) {
            ++around.back().index;
            around.back().awaits_key = around.back().is_object;
        }
        ++at;
    }
    std::string out;
    for (const Around& each : around) {
        if (each.awaits_key) break;
        out += "/" + (each.is_object ? escape_pointer(each.key) : std::to_string(each.index));
    }
    return out;
}

std::size_t nested_beyond(std::string_view json, std::size_t most) {
    std::size_t depth = 0;
    for (std::size_t at = 0; at < json.size();) {
        const char c = json[at];
        if (c == '"') {
            at = behind_string(json, at);
            continue;
        }
        if ((c == '{' || c == '[') && ++depth > most) return at;
        if ((c == '}' || c == ']') && depth > 0) --depth;
        ++at;
    }
    return json.npos;
}

} // namespace engine
