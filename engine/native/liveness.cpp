#include <algorithm>
#include <bit>
#include <set>

#include "schema.h"

namespace engine {

// Whether anything is of a kind

bool Schemas::is_dead(Value value) {
    bool is_open = false;
    return !is_alive(value, is_open);
}

/// By a proof that some value exists. A kind that is asked about inside its own proof counts as
/// dead there, since the smallest proof doesn't need it; `is_open` then says that a denial holds
/// for this question only.
bool Schemas::is_alive(Value value, bool& is_open) {
    ValueData& data = data_[value];
    if (data.life == Life::alive || data.life == Life::dead) return data.life == Life::alive;
    if (data.life == Life::asking) {
        is_open = true;
        return false;
    }
    const ValueForms found = forms(value);
    bool alive = found.scalar != Expressions::none && !pool_.is_dead(found.scalar);
    bool depends = false;
    data_[value].life = Life::asking;
    for (std::size_t i = 0; !alive && i < found.arrays.size(); ++i)
        alive = is_array_alive(arrays_[found.arrays[i]], depends);
    for (std::size_t i = 0; !alive && i < found.objects.size(); ++i)
        alive = is_object_alive(objects_[found.objects[i]], depends);
    data_[value].life = alive ? Life::alive : depends ? Life::unasked : Life::dead;
    is_open |= depends && !alive;
    return alive;
}

bool Schemas::is_object_alive(const ObjectShape& shape, bool& is_open) {
    std::vector<bool> must;
    std::vector<std::size_t> open;
    for (const auto& property : shape.properties) must.push_back(property.is_required);
    for (std::size_t i = 0; i < must.size(); ++i)
        if (must[i]) open.push_back(i);
    std::uint64_t count = std::uint64_t(std::popcount(shape.wishes));
    while (!open.empty()) {
        const auto& property = shape.properties[open.back()];
        open.pop_back();
        ++count;
        if (!is_alive(property.value, is_open)) return false;
        for (const auto needed : property.needs)
            if (!must[needed]) must[needed] = true, open.push_back(needed);
    }
    if (count > shape.max || shape.min > shape.max) return false;
    std::uint32_t wishes = 0;
    bool others = false;
    for (const auto& other : shape.others) {
        if (other.wish == 0 && (others || count >= shape.min)) continue;
        if (!is_alive(other.value, is_open)) continue;
        wishes |= other.wish;
        others = true;
    }
    if ((shape.wishes & ~wishes) != 0) return false;
    if (others || count >= shape.min) return true;
    for (std::size_t i = 0; i < must.size() && count < shape.min; ++i)
        if (!must[i] && is_alive(shape.properties[i].value, is_open)) ++count;
    return count >= shape.min;
}

bool Schemas::is_array_alive(const ArrayShape& shape, bool& is_open) {
    std::uint32_t needed = shape.min;
    for (const auto& each : shape.contains) needed = std::max(needed, each.min);
    if (needed > shape.max || shape.min > shape.max) return false;
    for (std::uint32_t i = 0; i < needed; ++i) {
        const bool is_rest = i >= shape.first.size();
        if (!is_alive(is_rest ? shape.rest : shape.first[i], is_open)) return false;
        if (is_rest) break;
    }
    for (const auto& each : shape.contains) {
        if (each.min == 0) continue;
        bool some = false;
        for (std::size_t i = 0; i < shape.first.size() && i < shape.max; ++i)
            some = some || is_alive(meet(shape.first[i], each.counted), is_open);
        if (shape.first.size() < shape.max)
            some = some || is_alive(meet(shape.rest, each.counted), is_open);
        if (!some) return false;
    }
    return true;
}

void Schemas::check(Value root, std::size_t most) {
    std::vector<Value> open{root};
    std::set<Value> seen{root};
    const auto add = [&](Value value) {
        if (seen.insert(value).second) open.push_back(value);
    };
    while (!open.empty() && seen.size() < most) {
        const Value value = open.back();
        open.pop_back();
        const ValueForms found = forms(value);
        for (const auto shape : found.objects) {
            for (const auto& property : objects_[shape].properties) add(property.value);
            for (const auto& other : objects_[shape].others) add(other.value);
        }
        for (const auto shape : found.arrays) {
            for (const auto item : arrays_[shape].first) add(item);
            if (arrays_[shape].max > arrays_[shape].first.size()) add(arrays_[shape].rest);
        }
    }
}

} // namespace engine
