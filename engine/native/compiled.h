/// A vocabulary made ready for grammars, and a grammar made ready for matching.
///
/// Knows how the parts of the core fit together, and their locks. Does not know Python.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "captures.h"
#include "expressions.h"
#include "grammar.h"
#include "machine.h"
#include "masks.h"
#include "schema.h"
#include "slices.h"
#include "token_trie.h"

namespace engine {

/// Set up once for a process and a vocabulary. Tokens without bytes are never allowed as text.
class Vocabulary {
  public:
    /// Token `i` is `data[offsets[i]] .. data[offsets[i + 1]]`; `ends` may follow a whole sentence.
    Vocabulary(std::string_view data, std::span<const std::uint64_t> offsets,
               std::vector<std::int32_t> ends);

    const TokenTrie& trie() const { return trie_.trie; }
    const WrittenTrie& written_trie() const { return trie_; }
    const Slices& slices() const { return slices_; }
    /// Filled by all grammars over this vocabulary.
    const std::shared_ptr<WordMasks>& word_masks() const { return word_masks_; }
    std::size_t n_vocab() const { return trie().n_vocab(); }
    std::span<const std::int32_t> ends() const { return ends_; }
    bool is_end(std::int32_t id) const;
    double build_us() const { return build_us_; }
    std::size_t memory_bytes() const {
        return trie_.memory_bytes() + slices_.memory_bytes() + word_masks_->memory_bytes();
    }

  private:
    double build_us_ = 0;
    WrittenTrie trie_;
    Slices slices_;
    std::vector<std::int32_t> ends_;
    std::shared_ptr<WordMasks> word_masks_ = std::make_shared<WordMasks>();
};

/// A grammar under construction, then its automaton, shared by all matchers over it.
///
/// Building is for one thread. After `finish`, everything goes through `lock()`.
class Compiled {
  public:
    Compiled(std::shared_ptr<const Vocabulary> vocabulary, SchemaOptions options);

    /// Patterns for what stands behind an opening bracket, before a closing one, the comma and the
    /// colon. Before any schema.
    void set_spacing(const std::vector<std::string>& patterns);

    // Expressions for the words of a grammar.
    Expr literal(std::string_view text) { return plain_.literal(text); }
    Expr pattern(std::string_view pattern, const PatternOptions& options);
    Expressions& expressions() { return pool_; }

    // Rules.
    Node add(GrammarNode::Kind kind, std::uint32_t a, std::uint32_t b, std::uint32_t c);
    Node add_list(GrammarNode::Kind kind, std::span<const Node> parts);
    /// Parts in any order: bits of those that are required and of those that may come again. Throws
    /// std::invalid_argument for more than Unordered::most.
    Node add_unordered(Unordered parts);
    std::uint32_t declare();
    void define(std::uint32_t rule, Node node);
    std::uint32_t capture(const std::string& name);
    /// A JSON value that `schema`, JSON text, allows. Throws JsonError, SchemaError, TooComplex.
    Node schema(std::string_view schema);
    /// The strings that `schema` allows, as they are: no quotes, no escapes. Throws the same.
    Expr schema_text(std::string_view schema);
    void add_resource(const std::string& uri, std::string_view text);
    std::size_t max_pattern_length() const { return options_.pattern.max_length; }
    /// What was weakened with `best_effort`: pointer and keyword.
    std::vector<std::pair<std::string, std::string>> weakened() const;

    /// Throws std::invalid_argument for a grammar that no text matches.
    void finish(Node start);

    bool is_finished() const { return masks_ != nullptr; }
    const Vocabulary& vocabulary() const { return *vocabulary_; }
    const Grammar& grammar() const { return grammar_; }
    std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }
    Machine& machine() { return *machine_; }
    Masks& masks() { return *masks_; }
    Captures& captures() { return *captures_; }
    /// Counts up whenever all places were forgotten.
    std::uint64_t epoch() const { return epoch_; }
    /// Forgets everything that can be worked out again if it is more than `memory_limit`.
    void bound_memory();
    std::size_t memory_bytes() const;
    std::size_t memory_limit = std::size_t(128) << 20;

  private:
    void make_schemas();
    template <class Work>
    void with_few_steps(Work&& work);
    void check_numbers() const;
    void prune();
    void fresh_machine();

    std::shared_ptr<const Vocabulary> vocabulary_;
    Expressions pool_;
    Characters plain_, json_, keys_;
    SchemaOptions options_;
    std::unique_ptr<Schemas> schemas_, texts_; // of JSON, of what its strings say
    Grammar grammar_;
    std::unique_ptr<Machine> machine_;
    std::unique_ptr<Masks> masks_;
    std::unique_ptr<Captures> captures_;
    std::uint64_t epoch_ = 0;
    std::mutex mutex_;
};

} // namespace engine
