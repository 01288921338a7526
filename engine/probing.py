"""How an unknown template writes calls, found by having it render some.

Knows templates and what a call consists of. Does not know weights, streams or the known families.

A call, three calls, a result and a plain answer are rendered, with names and values that nothing
else would be; where they come out says what stands around them. Calls whose arguments are not JSON,
or that could be taken in two ways, are refused with a reason, and the generic family is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from engine.errors import TemplateError
from engine.families import GENERIC, Detection, detect, profile
from engine.family_file import deviations
from engine.framing import (
    ARGUMENTS,
    ID,
    NAME,
    Pieces,
    Unclear,
    framing_of,
    grammar_of,
    prompt_of,
    trigger_of,
)
from engine.messages import JSON, Call, Message, ToolSpec
from engine.profile import (
    Builtins,
    EndMeaning,
    Profile,
    ResultForm,
    Style,
    ThinkingMarks,
)
from engine.template import ChatTemplate
from engine.vocab import Vocab

DERIVED: Final = "derived"  # the name of such a family
_VALUES: Final[tuple[Mapping[str, JSON], ...]] = (
    {"probe_text": '값 "q" <b>', "probe_number": 7, "probe_flag": True, "probe_list": ["x", {}]},
    {"probe_text": "\n", "probe_nothing": None, "probe_share": 1.5},
    {"probe_last": "z"},
)
_CALLS: Final = (
    Call("probeid01", "alpha_probe_call", _VALUES[0]),
    Call("probeid02", "omega_probe_call", _VALUES[1]),
    Call("probeid03", "gamma_probe_call", _VALUES[2]),
)
_TOOL: Final = ToolSpec(
    "listed_probe_tool", "What is listed.", {"type": "object", "properties": {}}
)
_USER: Final = Message("user", "probe question")
_WORDS: Final = "☃ probe words"
_RESULT: Final = Message("tool", '{"probe_result": 21}', call_id="probeid01", name=_CALLS[0].name)
_THOUGHT = re.compile(r"\s*<think>\s*</think>\s*")
_THOUGHT_AT_END = re.compile(r"\s*<think>\s*(</think>\s*)?\Z")
_LONGEST: Final = 10_000  # characters of a message with three calls


def recognise(
    vocab: Vocab, template: str | None, candidates: Iterable[Profile] | None = None
) -> Detection:
    """The family of a vocabulary and a template: a known one, one derived, or the generic one.

    About ten renderings of the template where no family is known.
    """
    found = detect(vocab, template, candidates)
    if found.profile.name != GENERIC or template is None:
        return found
    try:
        item, how = derive(vocab, template)
    except Unclear as error:
        return replace(found, reason=f"{found.reason}; its template's calls can't be told: {error}")
    return Detection(item, f"{found.reason}; calls are as its template writes them: {how}")


def derive(vocab: Vocab, source: str) -> tuple[Profile, str]:
    """A family of which only the template is known, and what was found, in words.

    Raises Unclear.
    """
    probe = _Probe(vocab, source)
    framing = framing_of(probe.one, probe.several())
    trigger = trigger_of(framing, probe.control)
    grammar, text, parts = grammar_of(framing, probe.is_strict_about_ids)
    style = Style(
        "calls",
        grammar,
        (trigger,),
        parts,
        prompt=prompt_of(framing),
        separator=None if framing.separator is None else "".join(framing.separator),
        deviations=tuple(deviations()[name] for name in ("bare JSON", "JSON in a fence")),
        source=text,
    )
    ends = probe.ends
    item = Profile(
        name=DERIVED,
        title="unknown family, calls as in its template",
        tokens=(),
        template_marks=(),
        not_in_template=(),
        ends=ends,
        control={},
        thinking=_thinking(source),
        headers=(),
        result=probe.result_form(),
        builtins=Builtins(),
        styles={style.name: style},
        template=None,
        call_ids="call{n:05}" if probe.is_strict_about_ids else "",
    )
    count = "one a message" if framing.separator is None else "several a message"
    said = ", ".join(ends) or "the vocabulary's"
    return item, f"{trigger.kind} {trigger.text!r}, {count}, ends {said}"


class _Probe:
    """What a template makes of the probes. Raises Unclear where that is not to be told."""

    def __init__(self, vocab: Vocab, source: str) -> None:
        bos, eos = ("" if token is None else vocab.texts[token] for token in (vocab.bos, vocab.eos))
        self.control = vocab.control_texts(source)
        self._eog = {vocab.texts[token] for token in vocab.eog}
        try:
            self._template = ChatTemplate(source, bos=bos, eos=eos)
        except TemplateError as error:
            raise Unclear(error.message) from error
        plain = self._render(_USER, Message("assistant", _WORDS))
        if plain.count(_WORDS) != 1:
            raise Unclear("an answer's text is not shown once")
        before, _, self._footer = plain.partition(_WORDS)
        prompt = self._render(_USER, prompts=True)
        # An answer may have marks of its own, which a call has not.
        self._headers = [_THOUGHT_AT_END.sub("", text).rstrip() for text in (before, prompt)]
        self.end: str | None = None  # of a message with calls
        self.one = self._calls(1)
        self._check_what_follows()

    def _render(self, *messages: Message, prompts: bool = False) -> str:
        try:
            return self._template.render(
                messages, tools=[_TOOL], add_generation_prompt=prompts
            ).text
        except TemplateError as error:
            raise Unclear(error.message) from error

    def _said(self, *messages: Message) -> str:
        """What the model says, and what follows it."""
        text = self._render(_USER, *messages)
        header = next((each for each in self._headers if text.startswith(each)), None)
        if header is None:
            raise Unclear("a message with a call begins in another way than an answer")
        said = text[len(header) :]
        thought = _THOUGHT.match(said)
        said = said[thought.end() :] if thought else said.lstrip()
        if len(said) > _LONGEST:
            raise Unclear("a call is too long")
        return said

    def _calls(self, count: int) -> Pieces:
        return self._cut(self._pieces(self._said(_calling(count)), _CALLS[:count]))

    def several(self) -> Pieces | None:
        """Three calls in one message, None where the template won't have them."""
        try:
            said = self._said(_calling(3))
        except Unclear:
            return None
        is_one = not any(call.name in said for call in _CALLS[1:])
        return None if is_one else self._cut(self._pieces(said, _CALLS))

    def _check_what_follows(self) -> None:
        """That the calls are closed in the same way when a result follows them."""
        try:
            followed = self._said(_calling(1), _RESULT)
        except Unclear:
            return  # no results in this role
        alone = self._said(_calling(1))
        rest = self._pieces(alone, _CALLS[:1])[len(self.one) :]
        closed = len(alone) - len("".join(rest))
        if not followed.startswith(alone[:closed].rstrip()):
            raise Unclear("what closes a call depends on what follows it")

    def _pieces(self, said: str, calls: Sequence[Call]) -> Pieces:
        """The text in pieces, with marks in place of names, arguments and ids."""
        spans: list[tuple[int, int, str]] = []
        for call in calls:
            spans.append((*_only(said, call.name, "name"), NAME))
            spans.append((*_arguments(said, call), ARGUMENTS))
            if call.id in said:
                spans.append((*_only(said, call.id, "id"), ID))
        out: list[str] = []
        at = 0
        for start, end, mark in sorted(spans):
            if start < at:
                raise Unclear("a call's parts are inside each other")
            out += [*self._cut_up(said[at:start]), mark]
            at = end
        return (*out, *self._cut_up(said[at:]))

    def _cut_up(self, text: str) -> Sequence[str]:
        texts = sorted({*self.control, *self._eog}, key=len, reverse=True)
        texts = [each for each in texts if len(each) > 1 and each in text]
        pattern = "|".join([*map(re.escape, texts), r"(?s:.)"])
        return re.findall(pattern, text)

    def _cut(self, pieces: Pieces) -> Pieces:
        """The pieces without the message's end, which is noted."""
        behind = len(pieces) - pieces[::-1].index(ARGUMENTS)
        ended = self._footer.strip()
        is_ended = bool(ended) and ended in "".join(pieces[:behind])
        if is_ended or not self._eog.isdisjoint(pieces[:behind]):
            raise Unclear("a call is a message of its own")
        for index, piece in enumerate(pieces[behind:], behind):
            if piece in self._eog:
                self.end = piece
                return pieces[:index]
        footer = tuple(self._cut_up(self._footer.rstrip()))
        while pieces[-1].isspace():
            pieces = pieces[:-1]
        if footer and pieces[-len(footer) :] != footer:
            raise Unclear("what ends a call's message is not what ends an answer")
        self.end = self._end_of(footer)
        return pieces[: len(pieces) - len(footer)]

    def _end_of(self, pieces: Sequence[str]) -> str | None:
        """The token that ends a message: the first known to do so, else the first there is."""
        found = [each for each in pieces if each in self.control or each in self._eog]
        return next((each for each in found if each in self._eog), found[0] if found else None)

    @property
    def ends(self) -> dict[str, EndMeaning]:
        answer = self._end_of(self._cut_up(self._footer))
        found: dict[str, EndMeaning] = {} if answer is None else {answer: "turn_end"}
        if self.end is not None and self.end != answer:
            found[self.end] = "turn_end" if answer is None else "tool_call"
        return found

    @cached_property
    def is_strict_about_ids(self) -> bool:
        """Whether ids of another length than nine are refused."""
        if ID not in self.one:
            return False
        call = replace(_CALLS[0], id="call_1")
        try:
            self._render(_USER, Message("assistant", calls=(call,)))
        except Unclear:
            return True
        return False

    def result_form(self) -> ResultForm:
        """The first form in which a result is shown as it is."""
        as_object = replace(_RESULT, content=json.loads(_RESULT.text))
        for form, message in (("text", _RESULT), ("object", as_object)):
            try:
                text = self._render(_USER, _calling(1), message)
            except Unclear:
                continue
            if _RESULT.text in text:
                return ResultForm(form="text" if form == "text" else "object")
        return profile(GENERIC).result


def _calling(count: int) -> Message:
    return Message("assistant", calls=_CALLS[:count])


def _only(said: str, text: str, what: str) -> tuple[int, int]:
    if text not in said:
        raise Unclear(f"a call's {what} is not shown")
    if said.count(text) != 1:
        raise Unclear(f"a call's {what} is shown {said.count(text)} times")
    start = said.index(text)
    return start, start + len(text)


def _arguments(said: str, call: Call) -> tuple[int, int]:
    """Where the arguments stand as one JSON object."""
    wanted, found = json.dumps(call.arguments, sort_keys=True), []
    for match in re.finditer(r"\{", said):
        try:
            value, end = json.JSONDecoder().raw_decode(said, match.start())
        except (ValueError, RecursionError):
            continue
        if json.dumps(value, sort_keys=True) == wanted:
            found.append((match.start(), end))
    if len(found) == 1:
        return found[0]
    if found:
        raise Unclear(f"a call's arguments are shown {len(found)} times")
    key = next(iter(call.arguments))
    if f'\\"{key}' in said:
        raise Unclear("the arguments are JSON inside a JSON text")
    raise Unclear(f"the arguments are {'not one JSON object' if key in said else 'not shown'}")


def _thinking(source: str) -> ThinkingMarks | None:
    is_there = "<think>" in source and "</think>" in source
    return ThinkingMarks("<think>", "</think>") if is_there else None
