#include <algorithm>
#include <bit>
#include <set>

#include "branches.h"
#include "excess.h"
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
    std::uint64_t count = shape.fewest_keys(
        shape.wishes, [&](const OtherKeys& other) { return is_alive(other.value, is_open); });
    while (!open.empty()) {
        const auto& property = shape.properties[open.back()];
        open.pop_back();
        ++count;
        if (!is_alive(property.value, is_open)) return false;
        for (const auto needed : property.needs)
            if (!must[needed]) must[needed] = true, open.push_back(needed);
    }
    if (count > shape.max || shape.min > shape.max) return false;
    if (count >= shape.min) return true;
    for (const auto& other : shape.others)
        if (is_alive(other.value, is_open)) return true;
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

/// The same, but only as far as it is cheap to see: false where it isn't. May be asked while the
/// forms of other kinds are being worked out.
bool Schemas::is_surely_dead(Value value, std::size_t depth) {
    constexpr std::size_t most_nested = 3;
    if (data_[value].life == Life::alive || data_[value].life == Life::dead)
        return data_[value].life == Life::dead;
    if (data_[value].is_working || depth == 0 || n_nested_proofs_ >= most_nested) return false;
    if (!data_[value].forms && n_proofs_ >= options_.max_proofs) return false;
    ++n_proofs_;
    ++n_nested_proofs_;
    bool out = false;
    try {
        const ValueForms found = forms(value);
        out = pool_.is_dead(found.scalar);
        for (const auto shape : found.objects)
            out = out && std::ranges::any_of(objects_[shape].properties, [&](const auto& property) {
                      return property.is_required && is_surely_dead(property.value, depth - 1);
                  });
        for (const auto shape : found.arrays) {
            const ArrayShape& array = arrays_[shape];
            out = out && array.min > 0 &&
                  is_surely_dead(array.first.empty() ? array.rest : array.first.front(), depth - 1);
        }
    } catch (const TooComplex&) {
        out = false;
    }
    --n_nested_proofs_;
    return out;
}

void Schemas::check(Value root, std::size_t most) {
    survey(root);
    std::vector<Value> open{root};
    std::set<Value> seen{root};
    const auto add = [&](Value value) {
        if (seen.insert(value).second) open.push_back(value);
    };
    constexpr std::size_t cheap_branches = 1000, cheap_expressions = 10'000;
    const std::size_t most_branches = n_branches_ + cheap_branches;
    const std::size_t most_expressions = pool_.size() + cheap_expressions;
    for (std::size_t i = 0; i < open.size() && i < most; ++i) {
        if (n_branches_ >= most_branches || pool_.size() >= most_expressions) break;
        const ValueForms found = forms_here(open[i]);
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

/// The forms of a value; a limit that is reached on the way becomes an error with a place.
ValueForms Schemas::forms_here(Value value) {
    try {
        return forms(value);
    } catch (const LimitExceeded&) {
        throw; // has its place
    } catch (const TooComplex& error) {
        const auto& atoms = values_[value].atoms;
        refuse_schema(error, options_.max_steps,
                      atoms.empty() ? "" : schemas_[atoms.front() / 2].pointer);
    }
}

Branches::Inside Branches::inside(Atom given) {
    check_forms(given / 2);
    joins_ = false; // each part is looked at
    Branch branch;
    Inside out;
    if (!apply_atom(branch, given, 0)) return out;
    const auto add = [](auto& to, const auto& from) {
        to.insert(to.end(), from.begin(), from.end());
    };
    const auto add_facts = [&](const std::vector<Fact>& facts) {
        for (const Fact& fact : facts) {
            if (fact.kind == Kind::atom)
                out.here.push_back(fact.atom);
            else if (fact.kind == Kind::item_at || fact.kind == Kind::contains ||
                     fact.kind == Kind::property || fact.has_atom)
                out.within.push_back(fact.atom);
        }
    };
    add_facts(branch.todo);
    for (const auto& options : branch.choices) std::ranges::for_each(options, add_facts);
    for (const auto& one_of : branch.one_ofs) add(out.here, one_of.parts);
    const Clause& clause = branch.clause;
    for (const auto& member : clause.members) {
        for (const auto& property : member.table->properties) out.within.push_back(property.second);
        for (const auto& pattern : member.table->patterns) out.within.push_back(pattern.second);
        if (member.table->additional) out.within.push_back(*member.table->additional);
    }
    for (const auto& member : clause.items) {
        add(out.within, member.first);
        if (member.rest) out.within.push_back(*member.rest);
    }
    for (const auto& other : clause.other_items) out.within.push_back(other.atom);
    for (const auto& other : clause.other_properties) out.within.push_back(other.atom);
    add(out.within, clause.names);
    return out;
}

/// Looks at all schemas that can be reached, each by itself, for what must be refused: what can't
/// be enforced, and a schema whose value would have to be checked against itself first.
void Schemas::survey(Value root) {
    enum : std::uint8_t { unseen, open, done };
    std::map<Atom, std::uint8_t> seen;
    std::vector<Atom> others = values_[root].atoms; // roots of their own
    Branches branches(*this);
    struct Step {
        Atom atom;
        std::vector<Atom> here;
    };
    for (std::size_t next = 0; next < others.size(); ++next) {
        std::vector<Step> path{{others[next], {others[next]}}};
        while (!path.empty()) {
            if (path.back().here.empty()) {
                seen[path.back().atom] = done;
                path.pop_back();
                continue;
            }
            const Atom atom = path.back().here.back();
            path.back().here.pop_back();
            const auto state = seen[atom];
            const bool is_root = path.size() == 1 && atom == path.back().atom;
            if (state == open && !is_root)
                fail(atom / 2, "",
                     "a value that must be checked against this would have to be "
                     "checked against it again");
            if (state != unseen) continue;
            seen[atom] = open;
            auto inside = branches.inside(atom);
            std::ranges::reverse(inside.here); // the first is looked at first
            others.insert(others.end(), inside.within.begin(), inside.within.end());
            path.push_back({atom, std::move(inside.here)});
        }
    }
}

} // namespace engine
