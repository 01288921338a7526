#include "matcher.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "summary.h"

namespace engine {

Matcher::Matcher(std::shared_ptr<Compiled> grammar) : grammar_(std::move(grammar)) {
    const auto lock = grammar_->lock();
    if (!grammar_->is_finished()) throw std::invalid_argument("a grammar that is not finished");
    epoch_ = grammar_->epoch();
    start_ = grammar_->machine().start();
}

/// With the lock held: keeps memory in bounds, and finds its places again if they were forgotten.
void Matcher::refresh() {
    grammar_->bound_memory();
    if (epoch_ == grammar_->epoch()) return;
    epoch_ = grammar_->epoch();
    readings_.clear();
    start_ = grammar_->machine().start();
    Place place = start_;
    std::uint32_t from = 0;
    for (Step& step : steps_) {
        const bool is_end = is_ended_ && &step == &steps_.back();
        if (step.token < 0)
            place = after(place, std::string_view(text_).substr(from, step.text - from));
        else if (!is_end)
            place = after(place, step.token);
        step.place = place;
        from = step.text;
    }
}

Place Matcher::after(Place place, std::string_view bytes) {
    for (const char byte : bytes) {
        if (place == Machine::dead) break;
        place = grammar_->machine().step(place, std::uint8_t(byte));
    }
    return place;
}

/// Behind a token: as one that the grammar names, as text, or as either.
Place Matcher::after(Place place, std::int32_t token) {
    if (token < 0 || std::size_t(token) >= grammar_->vocabulary().n_vocab()) return Machine::dead;
    const Place named = grammar_->machine().step_token(place, std::uint32_t(token));
    const std::string_view bytes = grammar_->vocabulary().slices().token(token);
    return bytes.empty() ? named : grammar_->machine().either(named, after(place, bytes));
}

void Matcher::mask(Mask mask) {
    const auto lock = grammar_->lock();
    refresh();
    if (is_ended_) {
        std::ranges::fill(mask, 0U);
        return;
    }
    std::ranges::copy(grammar_->masks().of(here()), mask.begin());
    if (grammar_->machine().is_accepting(here()))
        for (const auto id : grammar_->vocabulary().ends()) set_bit(mask, std::size_t(id));
}

bool Matcher::knows_mask() {
    const auto lock = grammar_->lock();
    refresh();
    return is_ended_ || grammar_->masks().knows(here());
}

bool Matcher::allows(std::int32_t token) {
    const auto lock = grammar_->lock();
    refresh();
    if (is_ended_) return false;
    if (after(here(), token) != Machine::dead) return true;
    return grammar_->vocabulary().is_end(token) && grammar_->machine().is_accepting(here());
}

bool Matcher::advance(std::int32_t token) {
    const auto lock = grammar_->lock();
    refresh();
    if (is_ended_) return false;
    Place place = after(here(), token);
    if (place != Machine::dead) {
        text_ += grammar_->vocabulary().slices().token(token);
    } else {
        if (!grammar_->vocabulary().is_end(token) || !grammar_->machine().is_accepting(here()))
            return false;
        is_ended_ = true;
        place = here();
    }
    steps_.push_back({place, std::uint32_t(text_.size()), token});
    return true;
}

bool Matcher::advance(std::string_view bytes) {
    const auto lock = grammar_->lock();
    refresh();
    if (is_ended_) return false;
    const Place place = after(here(), bytes);
    if (place == Machine::dead) return false;
    text_ += bytes;
    steps_.push_back({place, std::uint32_t(text_.size()), -1});
    return true;
}

void Matcher::rewind(std::size_t count) {
    if (count > steps_.size()) throw std::out_of_range("more advances to undo than were made");
    if (count == 0) return;
    steps_.resize(steps_.size() - count);
    text_.resize(steps_.empty() ? 0 : steps_.back().text);
    readings_.resize(std::min(readings_.size(), steps_.size() + 1));
    is_ended_ = false; // nothing follows an end, so it was the last
}

bool Matcher::is_accepting() {
    const auto lock = grammar_->lock();
    refresh();
    return is_ended_ || grammar_->machine().is_accepting(here());
}

bool Matcher::is_done() {
    const auto lock = grammar_->lock();
    refresh();
    if (is_ended_) return true;
    Machine& machine = grammar_->machine();
    return machine.is_accepting(here()) && machine.tokens(here()).empty() &&
           machine.bytes(here()).empty();
}

std::string Matcher::forced(std::size_t most) {
    const auto lock = grammar_->lock();
    refresh();
    std::string out;
    if (is_ended_) return out;
    Machine& machine = grammar_->machine();
    Place place = here();
    while (out.size() < most) {
        if (machine.is_accepting(place) || !machine.tokens(place).empty()) break;
        const ByteSet bytes = machine.bytes(place);
        if (bytes.count() != 1) break;
        const std::uint8_t byte = bytes.first();
        place = machine.step(place, byte);
        if (place == Machine::dead) break;
        out += char(byte);
    }
    return out;
}

ByteSet Matcher::first_bytes() {
    const auto lock = grammar_->lock();
    refresh();
    return is_ended_ ? ByteSet{} : grammar_->machine().bytes(here());
}

Matcher::Refusal Matcher::explain(std::int32_t token) {
    const auto lock = grammar_->lock();
    refresh();
    Machine& machine = grammar_->machine();
    Place place = here();
    std::size_t taken = 0;
    if (is_ended_) return {0, {}, "nothing"};
    if (token < 0 || std::size_t(token) >= grammar_->vocabulary().n_vocab())
        return {0, machine.bytes(place), allowed_in_words(machine, place)};
    for (const char byte : grammar_->vocabulary().slices().token(token)) {
        const Place next = machine.step(place, std::uint8_t(byte));
        if (next == Machine::dead) break;
        place = next;
        ++taken;
    }
    return {taken, machine.bytes(place), allowed_in_words(machine, place)};
}

std::string Matcher::allowed_summary() {
    const auto lock = grammar_->lock();
    refresh();
    return is_ended_ ? "nothing" : allowed_in_words(grammar_->machine(), here());
}

/// How the text can be read, up to here. Each step is looked at once.
const Captures::Readings& Matcher::readings() {
    Captures& captures = grammar_->captures();
    if (readings_.empty()) readings_.push_back(captures.start());
    while (readings_.size() <= steps_.size()) {
        const Step& step = steps_[readings_.size() - 1];
        const std::uint32_t from = readings_.size() == 1 ? 0 : steps_[readings_.size() - 2].text;
        const bool is_end = is_ended_ && readings_.size() == steps_.size();
        Captures::Readings now = readings_.back();
        Captures::Readings named;
        if (step.token >= 0 && !is_end)
            named = captures.step_token(now, std::uint32_t(step.token), step.text);
        if (step.token >= 0 && !is_end && step.text == from) now.clear();
        for (std::uint32_t at = from; at < step.text; ++at)
            now = captures.step(now, std::uint8_t(text_[at]), at);
        readings_.push_back(captures.either(std::move(named), now));
    }
    return readings_.back();
}

Matcher::Progress Matcher::progress(std::size_t skip) {
    const auto lock = grammar_->lock();
    refresh();
    const auto& names = grammar_->grammar().captures;
    Progress out{{}, std::uint32_t(text_.size())};
    if (names.empty()) return out;
    const Captures::Readings& now = readings();
    const auto found = grammar_->captures().progress(
        is_ended_ ? Captures::whole(now) : std::span(now), out.certain_to, skip);
    for (const auto& [which, at, is_end] : found.marks)
        out.marks.emplace_back(names[which], at, is_end);
    out.certain_to = found.certain_to;
    return out;
}

std::vector<std::pair<std::string, std::string>> Matcher::captures() {
    const auto lock = grammar_->lock();
    refresh();
    const auto& names = grammar_->grammar().captures;
    std::vector<std::pair<std::string, std::string>> out;
    if (names.empty()) return out;
    const Captures& captures = grammar_->captures();
    const Captures::Readings& now = readings();
    auto spans = is_ended_ ? captures.of_whole(now) : captures.of_part(now);
    std::ranges::stable_sort(spans, [](const auto& x, const auto& y) {
        return x.begin != y.begin ? x.begin < y.begin : x.end > y.end;
    });
    for (const auto& [which, begin, end] : spans)
        out.emplace_back(names[which], text_.substr(begin, end - begin));
    return out;
}

} // namespace engine
