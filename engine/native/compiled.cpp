#include "compiled.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "excess.h"

namespace engine {

namespace {

Json document(std::string_view text, std::size_t max_depth) {
    if (const auto at = nested_beyond(text, max_depth); at != text.npos)
        throw LimitExceeded("depth", max_depth, max_depth + 1, "brackets inside each other",
                            pointer_at(text, at));
    return parse_json(text, max_depth);
}

} // namespace

Vocabulary::Vocabulary(std::string_view data, std::span<const std::uint64_t> offsets,
                       std::vector<std::int32_t> ends)
    : build_us_(-std::chrono::duration<double, std::micro>(
                     std::chrono::steady_clock::now().time_since_epoch())
                     .count()),
      trie_(TokenTrie(data, offsets)), slices_(data, offsets), ends_(std::move(ends)) {
    std::ranges::sort(ends_);
    for (const auto id : ends_)
        if (id < 0 || std::size_t(id) >= n_vocab())
            throw std::invalid_argument("an end token that is not in the vocabulary");
    build_us_ += std::chrono::duration<double, std::micro>(
                     std::chrono::steady_clock::now().time_since_epoch())
                     .count();
}

bool Vocabulary::is_end(std::int32_t id) const {
    return std::ranges::binary_search(ends_, id);
}

Compiled::Compiled(std::shared_ptr<const Vocabulary> vocabulary, SchemaOptions options)
    : vocabulary_(std::move(vocabulary)), plain_(pool_, Writing::plain),
      json_(pool_, options.writing), keys_(pool_, Writing::json_needed),
      options_(std::move(options)) {
    options_.spacing.comma = pool_.text(",");
    options_.spacing.colon = pool_.text(":");
    make_schemas();
}

void Compiled::make_schemas() {
    schemas_ = std::make_unique<Schemas>(pool_, options_);
    SchemaOptions plain = options_;
    plain.writing = Writing::plain;
    texts_ = std::make_unique<Schemas>(pool_, plain);
}

void Compiled::set_spacing(const std::vector<std::string>& patterns) {
    if (patterns.size() != 4) throw std::invalid_argument("spacing has four patterns");
    const PatternOptions plain;
    options_.spacing = {pattern(patterns[0], plain), pattern(patterns[1], plain),
                        pattern(patterns[2], plain), pattern(patterns[3], plain)};
    make_schemas();
}

Expr Compiled::pattern(std::string_view pattern, const PatternOptions& options) {
    return pattern_language(parse_pattern(pattern, options), plain_, true);
}

Node Compiled::add(GrammarNode::Kind kind, std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    grammar_.nodes.push_back({kind, a, b, c});
    return Node(grammar_.nodes.size() - 1);
}

Node Compiled::add_list(GrammarNode::Kind kind, std::span<const Node> parts) {
    const auto first = std::uint32_t(grammar_.lists.size());
    grammar_.lists.insert(grammar_.lists.end(), parts.begin(), parts.end());
    return add(kind, first, std::uint32_t(parts.size()), 0);
}

Node Compiled::add_unordered(Unordered parts) {
    if (parts.parts.size() > Unordered::most)
        throw std::invalid_argument("more than " + std::to_string(Unordered::most) +
                                    " parts in any order");
    grammar_.unordered.push_back(std::move(parts));
    return add(GrammarNode::Kind::unordered, std::uint32_t(grammar_.unordered.size() - 1), 0, 0);
}

std::uint32_t Compiled::declare() {
    grammar_.rules.push_back(0);
    return std::uint32_t(grammar_.rules.size() - 1);
}

std::uint32_t Compiled::capture(const std::string& name) {
    const auto known = std::ranges::find(grammar_.captures, name);
    if (known != grammar_.captures.end()) return std::uint32_t(known - grammar_.captures.begin());
    if (grammar_.captures.size() >= 64) throw TooComplex("more than 64 captures in a grammar");
    grammar_.captures.push_back(name);
    return std::uint32_t(grammar_.captures.size() - 1);
}

/// Calls `work`, which compiles a schema; its limits become errors about that.
template <class Work>
void Compiled::with_few_steps(Work&& work) {
    struct FewSteps { // a search that takes long here would take long in each mask
        std::size_t& limit;
        const std::size_t before;
        FewSteps(std::size_t& l, std::size_t most) : limit(l), before(l) { limit = most; }
        ~FewSteps() { limit = before; }
    } const few(pool_.work_limit, options_.max_steps);
    try {
        work();
    } catch (const LimitExceeded&) {
        throw;
    } catch (const TooComplex& error) {
        refuse_schema(error, options_.max_steps, "");
    }
}

Node Compiled::schema(std::string_view schema) {
    constexpr std::size_t worked_out_now = 2000; // so that what is refused is refused here
    const Value root = schemas_->add(document(schema, options_.max_depth));
    with_few_steps([&] {
        schemas_->check(root, worked_out_now);
        if (schemas_->is_dead(root)) throw SchemaError("", "", "no JSON value is valid");
    });
    return add(GrammarNode::Kind::value, root, 0, 0);
}

Expr Compiled::schema_text(std::string_view schema) {
    const Value root = texts_->add(document(schema, options_.max_depth));
    Expr out = Expressions::none;
    with_few_steps([&] { out = texts_->texts(root); });
    return out;
}

std::vector<std::pair<std::string, std::string>> Compiled::weakened() const {
    auto out = schemas_->weakened();
    const auto& more = texts_->weakened();
    out.insert(out.end(), more.begin(), more.end());
    return out;
}

void Compiled::add_resource(const std::string& uri, std::string_view text) {
    Json json = document(text, options_.max_depth);
    texts_->add_resource(uri, json);
    schemas_->add_resource(uri, std::move(json));
}

void Compiled::finish(Node start) {
    grammar_.start = start;
    check_numbers();
    prune();
    fresh_machine();
}

void Compiled::define(std::uint32_t rule, Node node) {
    if (rule >= grammar_.rules.size()) throw std::invalid_argument("a rule that was not declared");
    grammar_.rules[rule] = node;
}

/// Every number in the grammar is one of something that is there.
void Compiled::check_numbers() const {
    using Kind = GrammarNode::Kind;
    const auto check = [](bool is_there) {
        if (!is_there) throw std::invalid_argument("a grammar that refers to what isn't there");
    };
    const std::size_t n = grammar_.nodes.size();
    check(grammar_.start < n);
    for (const Node rule : grammar_.rules) check(rule < n);
    for (const Node part : grammar_.lists) check(part < n);
    for (const Unordered& all : grammar_.unordered)
        check(all.separator < n &&
              std::ranges::all_of(all.parts, [&](Node part) { return part < n; }));
    for (const GrammarNode& node : grammar_.nodes) {
        if (node.kind == Kind::word) check(node.a < pool_.size());
        if (node.kind == Kind::token) check(node.a < vocabulary_->n_vocab());
        if (node.kind == Kind::repeat) check(node.a < n && node.b <= node.c);
        if (node.kind == Kind::rule) check(node.a < grammar_.rules.size());
        if (node.kind == Kind::capture) check(node.b < n && node.a < grammar_.captures.size());
        if (node.kind == Kind::unordered) check(node.a < grammar_.unordered.size());
    }
}

namespace {

/// Whether parts in any order can come to an end, where `ends` tells which of them can.
bool has_end(const Unordered& all, const std::vector<bool>& ends) {
    std::size_t n_required = 0;
    for (std::size_t i = 0; i < all.parts.size(); ++i) {
        if ((all.required >> i & 1) == 0) continue;
        if (!ends[all.parts[i]]) return false;
        ++n_required;
    }
    return n_required <= 1 || ends[all.separator];
}

/// Leaves out the parts that can't come. Without a separator that is all but one that must.
void drop_dead(Unordered& all, const std::vector<bool>& ends) {
    all.is_alone = !ends[all.separator];
    const bool has_required = all.required != 0;
    Unordered kept{{}, 0, 0, all.separator, all.is_alone};
    for (std::size_t i = 0; i < all.parts.size(); ++i) {
        const bool is_required = (all.required >> i & 1) != 0;
        if (!ends[all.parts[i]] || (all.is_alone && has_required && !is_required)) continue;
        const std::uint64_t bit = 1ULL << kept.parts.size();
        kept.parts.push_back(all.parts[i]);
        if (is_required) kept.required |= bit;
        if ((all.endless >> i & 1) != 0) kept.endless |= bit;
    }
    all = std::move(kept);
}

} // namespace

/// Leaves out what no text matches, such as a rule that has no end: every place is then alive.
void Compiled::prune() {
    using Kind = GrammarNode::Kind;
    const std::size_t n = grammar_.nodes.size();
    const auto parts = [&](const GrammarNode& node) {
        return std::span(grammar_.lists).subspan(node.a, node.b);
    };
    std::vector<std::vector<Node>> above(n); // the nodes that a node is a part of
    for (Node i = 0; i < n; ++i) {
        const GrammarNode& node = grammar_.nodes[i];
        if (node.kind == Kind::sequence || node.kind == Kind::choice)
            for (const Node part : parts(node)) above[part].push_back(i);
        else if (node.kind == Kind::repeat)
            above[node.a].push_back(i);
        else if (node.kind == Kind::rule)
            above[grammar_.rules[node.a]].push_back(i);
        else if (node.kind == Kind::capture)
            above[node.b].push_back(i);
        else if (node.kind == Kind::unordered) {
            const Unordered& all = grammar_.unordered[node.a];
            for (const Node part : all.parts) above[part].push_back(i);
            above[all.separator].push_back(i);
        }
    }
    std::vector<bool> ends(n); // whether some text matches
    const auto can_end = [&](const GrammarNode& node) {
        switch (node.kind) {
        case Kind::word:
            return !pool_.is_dead(node.a);
        case Kind::token:
            return true;
        case Kind::value:
            return !schemas_->is_dead(node.a);
        case Kind::sequence:
            return std::ranges::all_of(parts(node), [&](Node part) { return ends[part]; });
        case Kind::choice:
            return std::ranges::any_of(parts(node), [&](Node part) { return ends[part]; });
        case Kind::repeat:
            return node.b == 0 || ends[node.a];
        case Kind::rule:
            return bool(ends[grammar_.rules[node.a]]);
        case Kind::capture:
            return bool(ends[node.b]);
        case Kind::unordered:
            return has_end(grammar_.unordered[node.a], ends);
        }
        return false;
    };
    std::vector<Node> open(n);
    std::iota(open.begin(), open.end(), Node(0));
    while (!open.empty()) {
        const Node i = open.back();
        open.pop_back();
        if (ends[i] || !can_end(grammar_.nodes[i])) continue;
        ends[i] = true;
        open.insert(open.end(), above[i].begin(), above[i].end());
    }
    if (!ends[grammar_.start]) throw std::invalid_argument("no text matches the grammar");
    for (Unordered& all : grammar_.unordered) drop_dead(all, ends);
    for (GrammarNode& node : grammar_.nodes) {
        if (node.kind == Kind::repeat && !ends[node.a]) node.c = 0;
        if (node.kind != Kind::choice) continue;
        const auto first = grammar_.lists.begin() + std::ptrdiff_t(node.a);
        const auto kept =
            std::stable_partition(first, first + node.b, [&](Node part) { return ends[part]; });
        node.b = std::uint32_t(kept - first);
    }
}

void Compiled::fresh_machine() {
    ++epoch_;
    masks_.reset();
    captures_ = std::make_unique<Captures>(pool_, grammar_, schemas_.get());
    machine_ = std::make_unique<Machine>(pool_, grammar_, schemas_.get());
    masks_ = std::make_unique<Masks>(vocabulary_->written_trie(), vocabulary_->slices(), *machine_,
                                     std::vector{json_.any(), keys_.any(), plain_.any()},
                                     vocabulary_->word_masks());
}

std::size_t Compiled::memory_bytes() const {
    if (!is_finished()) return pool_.memory_bytes();
    return pool_.memory_bytes() + machine_->memory_bytes() + masks_->memory_bytes() +
           captures_->memory_bytes();
}

void Compiled::bound_memory() {
    if (memory_bytes() <= memory_limit) return;
    pool_.forget();
    fresh_machine();
    if (memory_bytes() > memory_limit)
        throw TooComplex("the grammar needs more than " + std::to_string(memory_limit >> 20) +
                         " MiB");
}

} // namespace engine
