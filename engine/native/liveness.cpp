#include <algorithm>
#include <bit>
#include <set>

#include "branches.h"
#include "excess.h"
#include "schema.h"

namespace engine {

// Whether anything is of a kind

bool Schemas::is_dead(Value value) {
    prove(value);
    return data_[value].life == Life::dead;
}

bool Schemas::is_object_dead(std::uint32_t shape) {
    return is_shape_dead(objects_[shape], object_lives_[shape]);
}

bool Schemas::is_array_dead(std::uint32_t shape) {
    return is_shape_dead(arrays_[shape], array_lives_[shape]);
}

template <class Shape>
bool Schemas::is_shape_dead(const Shape& shape, Life& life) {
    while (life == Life::unasked) {
        questions_.clear();
        if (is_alive(shape)) {
            life = Life::alive;
        } else if (questions_.empty()) {
            life = Life::dead;
        } else {
            const std::vector<Value> asked = questions_;
            for (const Value value : asked) prove(value);
        }
    }
    return life == Life::dead;
}

/// Finds out whether some value is of a kind: the smallest proof doesn't need itself, so a kind is
/// denied while it is asked about, and asked again as long as that makes others alive. Kinds are
/// nested as deeply as one likes, so this doesn't call itself.
void Schemas::prove(Value root) {
    if (data_[root].life == Life::alive || data_[root].life == Life::dead) return;
    std::vector<Value> open{root}, asked{root};
    data_[root].life = Life::asking;
    struct Settle { // however this ends, nothing stays half asked
        std::deque<ValueData>& data;
        std::vector<Value>& asked;
        Life denied = Life::unasked;
        ~Settle() {
            for (const Value value : asked)
                if (data[value].life == Life::asking) data[value].life = denied;
        }
    } settle{data_, asked};
    for (bool is_news = true; is_news; open = asked) {
        is_news = false;
        while (!open.empty()) {
            const Value value = open.back();
            questions_.clear();
            const bool was_alive = data_[value].life == Life::alive;
            if (!was_alive && is_alive(forms(value))) {
                data_[value].life = Life::alive;
                is_news = true;
            }
            if (data_[root].life == Life::alive) return;
            if (data_[value].life == Life::alive || questions_.empty()) {
                open.pop_back();
                continue;
            }
            std::ranges::sort(questions_);
            questions_.erase(std::unique(questions_.begin(), questions_.end()), questions_.end());
            for (const Value question : questions_) data_[question].life = Life::asking;
            open.insert(open.end(), questions_.begin(), questions_.end());
            asked.insert(asked.end(), questions_.begin(), questions_.end());
        }
    }
    settle.denied = Life::dead;
}

/// Whether a kind is known to be alive; one that was never asked about becomes a question.
bool Schemas::is_known_alive(Value value) {
    if (data_[value].life == Life::unasked) questions_.push_back(value);
    return data_[value].life == Life::alive;
}

/// The same of all kinds that `value` gives for 0 .. n; asks about all of them at once, or about
/// none where one is denied.
template <class ValueAt>
bool Schemas::are_known_alive(std::size_t n, ValueAt&& value) {
    const std::size_t before = questions_.size();
    for (std::size_t i = 0; i < n; ++i) {
        const std::optional<Value> one = value(i);
        if (!one || is_known_alive(*one) || data_[*one].life == Life::unasked) continue;
        questions_.resize(before);
        return false;
    }
    return questions_.size() == before;
}

// These find out what is known so far: false, with questions, where it isn't known. They ask as
// little as they can, since an answer works out what a kind allows.

bool Schemas::is_alive(const ValueForms& forms) {
    if (!pool_.is_dead(forms.scalar)) return true;
    bool alive = false;
    for (std::size_t i = 0; !alive && questions_.empty() && i < forms.arrays.size(); ++i)
        alive = is_alive(arrays_[forms.arrays[i]]);
    for (std::size_t i = 0; !alive && questions_.empty() && i < forms.objects.size(); ++i)
        alive = is_alive(objects_[forms.objects[i]]);
    return alive;
}

bool Schemas::is_alive(const ObjectShape& shape) {
    const std::size_t n = shape.properties.size();
    if (shape.min > shape.max) return false;
    std::vector<bool> must(n);
    std::vector<std::uint32_t> roots;
    for (std::uint32_t i = 0; i < n; ++i) {
        must[i] = shape.properties[i].is_required;
        if (must[i]) roots.push_back(i);
    }
    shape.close_needs(must, std::move(roots));
    const auto can_come = [&](const OtherKeys& other) { return is_known_alive(other.value); };
    const std::uint64_t others = shape.fewest_keys(shape.wishes, can_come);
    const std::uint64_t count = std::uint64_t(std::ranges::count(must, true)) + others;
    if (others == Expressions::forever || count > shape.max) return false;
    if (!are_known_alive(n, [&](std::size_t i) {
            return must[i] ? std::optional(shape.properties[i].value) : std::nullopt;
        }))
        return false;
    if (count >= shape.min) return true;
    for (const auto& other : shape.others) {
        if (can_come(other)) return true;
        if (!questions_.empty()) return false;
    }
    std::vector<bool> can(n);
    for (std::size_t i = 0; i < n; ++i) can[i] = is_known_alive(shape.properties[i].value);
    shape.drop_lacking(can, std::vector<bool>(n));
    return std::uint64_t(std::ranges::count(can, true)) >= shape.min;
}

bool Schemas::is_alive(const ArrayShape& shape) {
    if (shape.min > shape.max) return false;
    const std::size_t needed = std::min<std::size_t>(shape.min, shape.first.size());
    if (!are_known_alive(needed, [&](std::size_t i) { return std::optional(shape.first[i]); }))
        return false;
    std::vector<ArrayShape::Left> left;
    for (const auto& each : shape.contains) left.push_back(ArrayShape::left_of(each, 0));
    return shape.can_end(0, left, [&](std::uint32_t at, std::uint32_t way) {
        const Value kind = at < shape.first.size() ? shape.first[at] : shape.rest;
        return questions_.empty() && is_known_alive(item(shape, kind, way));
    });
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
    const struct Nested {
        std::size_t& count;
        explicit Nested(std::size_t& n) : count(n) { ++count; }
        ~Nested() { --count; }
    } nested(n_nested_proofs_);
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
