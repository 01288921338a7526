#include <algorithm>
#include <numeric>
#include <utility>

#include "branches.h"
#include "excess.h"
#include "schema.h"

namespace engine {

ValueForms Schemas::work_out(const std::vector<Atom>& atoms) {
    ValueForms out;
    std::vector<Expr> parts;
    for (const Clause& clause : Branches(*this).of(atoms)) {
        // Alternatives that match nothing would be carried along through every text.
        if (const Expr part = scalars(clause); !is_hopeless(part)) parts.push_back(part);
        if (clause.values) continue;
        if ((clause.types & types::array) != 0) add_array(out, clause);
        if ((clause.types & types::object) != 0) add_objects(out, clause);
    }
    out.scalar = pool_.either(parts);
    return out;
}

// Scalars

/// Whether it is soon seen that nothing matches.
bool Schemas::is_hopeless(Expr expression) {
    constexpr std::size_t soon = 500; // states
    const std::size_t limit = std::exchange(pool_.search_limit, soon);
    bool out = false;
    try {
        out = pool_.is_dead(expression);
    } catch (const TooComplex&) {
        out = false;
    }
    pool_.search_limit = limit;
    return out;
}

Expr Schemas::string_language(const Clause& clause, bool is_key) {
    if (clause.min_length > clause.max_length) return Expressions::none;
    Characters& characters = is_key ? keys_ : characters_;
    std::vector<Expr> parts;
    for (const auto& [text, key] : clause.languages) parts.push_back(is_key ? key : text);
    const bool is_bounded = clause.min_length > 0 || clause.max_length != Expressions::forever;
    if (is_bounded || parts.empty())
        parts.push_back(pool_.repeat(characters.any(), clause.min_length, clause.max_length));
    if (!clause.not_strings.empty())
        parts.push_back(pool_.negate(characters.words(clause.not_strings)));
    return pool_.both(parts);
}

bool Schemas::fits(const Clause& clause, const Json& json) {
    using Type = Json::Type;
    switch (json.type) {
    case Type::null:
        return (clause.types & types::null) != 0;
    case Type::boolean:
        return (clause.types & (json.truth ? types::yes : types::no)) != 0;
    case Type::number: {
        NumberRange range = clause.number;
        range.with_integers = (clause.types & types::integer) != 0;
        range.with_fractions = (clause.types & types::fraction) != 0;
        return contains(range, Decimal::parse(json.text));
    }
    case Type::string: {
        if ((clause.types & types::string) == 0) return false;
        if (std::ranges::find(clause.not_strings, json.text) != clause.not_strings.end())
            return false;
        std::uint32_t length = 0;
        for (std::string_view rest = json.text; !rest.empty(); ++length)
            rest.remove_prefix(first_character(rest).second);
        if (length < clause.min_length || length > clause.max_length) return false;
        const std::string spelled = keys_.spelled(json.text);
        return std::ranges::all_of(clause.languages, [&](const Clause::Language& language) {
            return pool_.matches(language.key, spelled);
        });
    }
    default:
        return false;
    }
}

Expr Schemas::scalars(const Clause& clause) {
    const Expr quote = pool_.text("\"");
    std::vector<Expr> parts;
    if (clause.values) {
        std::vector<std::string> words;
        for (const Json* json : *clause.values) {
            if (!fits(clause, *json)) continue;
            if (json->is(Json::Type::string))
                words.push_back(json->text);
            else if (json->is(Json::Type::number))
                parts.push_back(number_literal(pool_, json->text, options_.writing));
            else
                parts.push_back(pool_.text(json->is(Json::Type::null) ? "null"
                                           : json->truth              ? "true"
                                                                      : "false"));
        }
        parts.push_back(pool_.concat({quote, characters_.words(words), quote}));
        return pool_.either(parts);
    }
    if ((clause.types & types::null) != 0) parts.push_back(pool_.text("null"));
    if ((clause.types & types::yes) != 0) parts.push_back(pool_.text("true"));
    if ((clause.types & types::no) != 0) parts.push_back(pool_.text("false"));
    if ((clause.types & types::number) != 0) {
        NumberRange range = clause.number;
        range.with_integers = (clause.types & types::integer) != 0;
        range.with_fractions = (clause.types & types::fraction) != 0;
        parts.push_back(number_language(pool_, range, options_.writing));
    }
    if ((clause.types & types::string) != 0)
        parts.push_back(pool_.concat({quote, string_language(clause, false), quote}));
    return pool_.either(parts);
}

// Arrays

void Schemas::add_array(ValueForms& forms, const Clause& clause) {
    ArrayShape shape;
    shape.min = clause.min_items, shape.max = clause.max_items;
    std::size_t front = 0;
    for (const auto& member : clause.items) front = std::max(front, member.first.size());
    for (const auto& [index, atom] : clause.items_at)
        front = std::max<std::size_t>(front, index + 1);
    const auto kind_at = [&](std::size_t index) {
        std::vector<Atom> atoms;
        for (const auto& member : clause.items) {
            if (index < member.first.size())
                atoms.push_back(member.first[index]);
            else if (member.rest)
                atoms.push_back(*member.rest);
        }
        for (const auto& [at, atom] : clause.items_at)
            if (at == index) atoms.push_back(atom);
        for (const auto& [atom, scope] : clause.other_items) {
            const bool is_covered =
                std::ranges::any_of(clause.items, [&](const ArrayMember& member) {
                    return clause.is_inside(member.scope, scope) &&
                           (index < member.first.size() || member.rest);
                });
            if (is_covered) continue;
            std::vector<Atom> ways{atom}; // what `contains` counts is evaluated too
            for (const auto& each : clause.contains)
                if (clause.is_inside(each.scope, scope)) ways.push_back(each.atom);
            atoms.push_back(ways.size() == 1 ? atom : positive_of(any_of(std::move(ways))));
        }
        return value_of(std::move(atoms));
    };
    for (std::size_t i = 0; i < front && i < shape.max; ++i) shape.first.push_back(kind_at(i));
    shape.rest = kind_at(front);
    for (const auto& each : clause.contains) {
        if (each.min == 0 && each.max == Expressions::forever) continue;
        shape.contains.push_back(
            {value_of({each.atom}), value_of({each.atom ^ 1}), each.min, each.max});
    }
    if (shape.contains.size() > 4) throw TooComplex("more than four contains for one array");
    if (shape.min > shape.max) return;
    shape.is_unique = clause.unique_by && shape.max > 1 && check_unique(shape, *clause.unique_by);
    arrays_.push_back(std::move(shape));
    array_lives_.push_back(Life::unasked);
    forms.arrays.push_back(std::uint32_t(arrays_.size() - 1));
}

// Objects

/// A wish for some key is fulfilled by a property that is named anyway, or by another key.
void Schemas::add_objects(ValueForms& forms, const Clause& clause) {
    std::vector<std::string> names;
    const auto add = [&](const std::string& name) {
        if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    };
    if (!clause.wishes.empty()) {
        for (const auto& member : clause.members)
            for (const auto& [name, atom] : member.table->properties) add(name);
        for (const auto& name : clause.required) add(name);
    }
    using Wished = std::vector<std::pair<std::string, std::optional<Atom>>>;
    std::vector<std::pair<Wished, std::vector<std::size_t>>> ways{{}};
    for (std::size_t i = 0; i < clause.wishes.size(); ++i) {
        decltype(ways) more;
        for (const auto& [wished, open] : ways) {
            for (const auto& name : names) {
                if (!pool_.matches(clause.wishes[i].keys, keys_.spelled(name))) continue;
                auto way = std::pair(wished, open);
                way.first.emplace_back(name, clause.wishes[i].atom);
                more.push_back(std::move(way));
            }
            auto way = std::pair(wished, open);
            way.second.push_back(i);
            more.push_back(std::move(way));
        }
        ways = std::move(more);
        if (ways.size() > options_.max_branches)
            throw LimitExceeded("branches", options_.max_branches, ways.size(),
                                "ways to deny a schema");
        count_steps(ways.size());
    }
    for (const auto& [wished, open] : ways) {
        ObjectShape shape;
        if (!add_object(shape, clause, wished, open)) continue;
        objects_.push_back(std::move(shape));
        object_lives_.push_back(Life::unasked);
        forms.objects.push_back(std::uint32_t(objects_.size() - 1));
    }
}

bool Schemas::add_object(ObjectShape& shape, const Clause& clause,
                         const std::vector<std::pair<std::string, std::optional<Atom>>>& wished,
                         const std::vector<std::size_t>& open_wishes) {
    shape.min = clause.min_properties, shape.max = clause.max_properties;
    shape.is_ordered = !options_.any_order;
    if (shape.min > shape.max) return false;
    if (open_wishes.size() > ObjectShape::max_wishes)
        throw TooComplex("too many demands that some key exists");
    std::map<std::string, std::uint32_t> index;
    std::vector<std::vector<Atom>> atoms;
    const auto property = [&](const std::string& name) {
        const auto [at, is_new] = index.emplace(name, std::uint32_t(atoms.size()));
        if (is_new) {
            shape.properties.push_back({name, 0, false, {}});
            atoms.emplace_back();
        }
        return at->second;
    };
    for (const auto& name : clause.written) property(name);
    for (const auto& member : clause.members)
        for (const auto& [name, atom] : member.table->properties) property(name);
    for (const auto& name : clause.required) shape.properties[property(name)].is_required = true;
    for (const auto& [name, atom] : clause.properties) property(name);
    for (const auto& [name, needed] : clause.needs) {
        const auto from = property(name), to = property(needed);
        shape.properties[from].needs.push_back(to);
    }
    for (const auto& name : clause.absent) atoms[property(name)].push_back(literal_false() * 2);
    for (const auto& [name, atom] : wished) {
        const auto at = property(name);
        shape.properties[at].is_required = true;
        if (atom) atoms[at].push_back(*atom);
    }
    for (const auto& [name, atom] : clause.properties) atoms[index[name]].push_back(atom);
    const std::optional<Expr> names =
        clause.names.empty() ? std::nullopt : std::optional(strings(value_of(clause.names), true));
    std::vector<std::string> spelled;
    for (std::size_t i = 0; i < shape.properties.size(); ++i) {
        const std::string& name = shape.properties[i].name;
        const std::string written = keys_.spelled(name);
        spelled.push_back(written + "\"");
        std::vector<bool> covers;
        for (const auto& member : clause.members) {
            covers.push_back(member.table->collect(pool_, name, written, atoms[i]));
        }
        for (const auto& [atom, scope] : clause.other_properties) {
            bool is_covered = false;
            for (std::size_t m = 0; m < covers.size(); ++m)
                is_covered |= covers[m] && clause.is_inside(clause.members[m].scope, scope);
            if (!is_covered) atoms[i].push_back(atom);
        }
        if (names && !pool_.matches(*names, written)) atoms[i].push_back(literal_false() * 2);
        shape.properties[i].value = value_of(atoms[i]);
    }
    shape.by_word.resize(spelled.size());
    std::iota(shape.by_word.begin(), shape.by_word.end(), 0U);
    std::ranges::sort(shape.by_word, {}, [&](std::uint32_t i) { return spelled[i]; });
    shape.names = pool_.words(std::move(spelled));
    add_others(shape, clause, open_wishes);
    return true;
}

/// Keys that no property names, by what their values must be.
void Schemas::add_others(ObjectShape& shape, const Clause& clause,
                         const std::vector<std::size_t>& open_wishes) {
    struct Class {
        Expr keys;
        std::vector<Expr> matched;
    };
    std::vector<Expr> tests;
    const auto add_test = [&](Expr keys) {
        if (std::ranges::find(tests, keys) == tests.end()) tests.push_back(keys);
    };
    for (const auto& member : clause.members)
        for (const auto& [keys, atom] : member.table->patterns) add_test(keys);
    for (const auto i : open_wishes) add_test(clause.wishes[i].keys);
    const auto atoms_of = [&](const Class& keys) {
        std::vector<Atom> atoms;
        std::vector<bool> covers;
        for (const auto& member : clause.members) {
            bool is_named = false;
            for (const auto& [pattern, atom] : member.table->patterns)
                if (std::ranges::find(keys.matched, pattern) != keys.matched.end())
                    atoms.push_back(atom), is_named = true;
            if (!is_named && member.table->additional) atoms.push_back(*member.table->additional);
            covers.push_back(is_named || member.table->additional);
        }
        for (const auto& [atom, scope] : clause.other_properties) {
            bool is_covered = false;
            for (std::size_t m = 0; m < covers.size(); ++m)
                is_covered |= covers[m] && clause.is_inside(clause.members[m].scope, scope);
            if (!is_covered) atoms.push_back(atom);
        }
        return atoms;
    };
    const auto is_false = [&](Value value) {
        const auto& atoms = values_[value].atoms;
        return atoms.size() == 1 && atoms[0] == literal_false() * 2;
    };
    if (tests.empty() && is_false(value_of(atoms_of({Expressions::none, {}})))) return;
    std::vector<Expr> all{keys_.text()};
    if (!shape.properties.empty()) {
        std::vector<std::string> names;
        for (const auto& property : shape.properties) names.push_back(property.name);
        all.push_back(pool_.negate(keys_.words(names)));
    }
    if (!clause.names.empty()) all.push_back(strings(value_of(clause.names), true));
    std::vector<Class> classes{{pool_.both(all), {}}};
    for (const Expr test : tests) {
        std::vector<Class> split;
        for (auto& each : classes) {
            Class in{pool_.both(each.keys, test), each.matched};
            in.matched.push_back(test);
            Class out{pool_.minus(each.keys, test), std::move(each.matched)};
            if (!pool_.is_dead(in.keys)) split.push_back(std::move(in));
            if (!pool_.is_dead(out.keys)) split.push_back(std::move(out));
        }
        classes = std::move(split);
        if (classes.size() > 64) throw TooComplex("more than 64 overlapping patterns of keys");
    }
    const Expr quote = pool_.text("\"");
    for (const auto& each : classes) {
        if (pool_.is_dead(each.keys)) continue;
        const Value kind = value_of(atoms_of(each));
        const Expr keys = pool_.concat(each.keys, quote);
        // One such key may fulfil several wishes: by its name alone, or by its value too.
        std::uint32_t by_name = 0;
        std::vector<std::size_t> by_value;
        for (std::size_t i = 0; i < open_wishes.size(); ++i) {
            const auto& wish = clause.wishes[open_wishes[i]];
            if (std::ranges::find(each.matched, wish.keys) == each.matched.end()) continue;
            if (wish.atom)
                by_value.push_back(i);
            else
                by_name |= 1U << i;
        }
        for (std::uint32_t some = 0; some < 1U << by_value.size(); ++some) {
            std::vector<Atom> atoms = values_[kind].atoms;
            std::uint32_t wishes = by_name;
            for (std::size_t i = 0; i < by_value.size(); ++i) {
                if ((some >> i & 1) == 0) continue;
                atoms.push_back(*clause.wishes[open_wishes[by_value[i]]].atom);
                wishes |= 1U << by_value[i];
            }
            const Value value = value_of(std::move(atoms));
            if (!is_false(value)) shape.others.push_back({keys, value, wishes});
        }
    }
    for (std::size_t i = 0; i < open_wishes.size(); ++i) shape.wishes |= 1U << i;
}

} // namespace engine
