"""A model made ready: header, vocabulary, weights, template, tokenizer and family in one place.

Knows how to load. Does not know conversations (`chat`) or tools.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from engine import fit, gguf
from engine.backend import Backend
from engine.dialect import Dialect
from engine.errors import TemplateError, UsageError
from engine.families import Detection, profile
from engine.loading import FlashAttention, LoadOptions
from engine.messages import ToolSpec
from engine.prefixes import PrefixStore, open_store
from engine.probing import recognise
from engine.profile import Profile
from engine.prompt import Prompt
from engine.sampler import Sampler, Sampling
from engine.sequence import Sequence as TokenSequence
from engine.store import find
from engine.template import ChatTemplate
from engine.tokenizer import LlamaTokenizer, Tokenizer
from engine.vocab import Vocab

if TYPE_CHECKING:
    from engine.chat import Answer, Chat
    from engine.compaction import Compaction, How, Rewrite
    from engine.tools.approval import Approvals

_NUMBER: Final[tuple[type, ...]] = (int, float)
# By the file's names: ours, and the types that a value may have.
_RECOMMENDED: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
    "temp": ("temperature", _NUMBER),
    "top_k": ("top_k", (int,)),
    "top_p": ("top_p", _NUMBER),
    "min_p": ("min_p", _NUMBER),
    "penalty_repeat": ("repeat_penalty", _NUMBER),
    "penalty_last_n": ("repeat_last_n", (int,)),
}


@dataclass
class Model:
    """A loaded model. Use it as a context manager, or call `close`.

    One model serves several chats one after the other; each sequence has a slot of its own in the
    KV cache (`n_seq` of them). Not thread-safe: one thread at a time.
    """

    name: str
    vocab: Vocab
    backend: Backend
    tokenizer: Tokenizer
    template: ChatTemplate
    detection: Detection
    path: Path | None = None
    sampling: Sampling = Sampling()  # of chats that ask for no other
    prefixes: PrefixStore | None = None  # where chats look for their first tokens

    def __post_init__(self) -> None:
        self._slots: dict[int, TokenSequence] = {}  # taken ones
        self._lock = threading.Lock()

    @property
    def profile(self) -> Profile:
        return self.detection.profile

    @property
    def n_ctx(self) -> int:
        return self.backend.n_ctx

    @cached_property
    def control(self) -> Mapping[str, int]:
        """Texts that never come from content, and their ids."""
        return self.vocab.control_texts(self.template.source, self.profile.markers)

    def encode(self, text: str) -> list[int]:
        """Plain text to ids: nothing in it becomes a control token, and no BOS is added."""
        return self.tokenizer.encode(text, forbidden=self.control.values())

    def encode_inside(self, text: str) -> list[int]:
        """As `encode`, for text behind other text: SentencePiece adds no space before it."""
        return self.tokenizer.encode(text, forbidden=self.control.values(), continues=True)

    def prompt(
        self,
        style: str | None = None,
        variables: Mapping[str, Any] | None = None,
        thinking: bool | None = None,
    ) -> Prompt:
        return Prompt(
            self.template,
            self.tokenizer,
            self.vocab,
            self.profile,
            self.profile.style(style),
            variables or {},
            thinking,
        )

    def dialect(self, style: str | None = None) -> Dialect:
        return Dialect(self.profile, self.profile.style(style), self.vocab, self.encode_inside)

    def sequence(self) -> TokenSequence:
        """An empty sequence in a free slot. Raises UsageError when all slots are taken."""
        with self._lock:
            free = [slot for slot in range(self.backend.n_seq) if slot not in self._slots]
            if not free:
                raise UsageError(
                    f"all {self.backend.n_seq} sequences of this model are in use; "
                    "close a chat or load with a larger n_seq"
                )
            sequence = self._slots[free[0]] = TokenSequence(self.backend, free[0])
            return sequence

    def fork(self, sequence: TokenSequence) -> TokenSequence:
        """A copy of a sequence in a free slot; see `Sequence.fork`."""
        slot = self.sequence().slot
        with self._lock:
            twin = self._slots[slot] = sequence.fork(slot)
        return twin

    def release(self, sequence: TokenSequence) -> None:
        """Give a sequence's slot back; its tokens are forgotten. Twice is fine."""
        with self._lock:
            if self._slots.get(sequence.slot) is not sequence:
                return
            sequence.clear()
            del self._slots[sequence.slot]

    def owns(self, sequence: TokenSequence) -> bool:
        """Whether the sequence still has its slot."""
        return self._slots.get(sequence.slot) is sequence

    def sequences(self) -> list[TokenSequence]:
        """Those that have a slot now."""
        with self._lock:
            return list(self._slots.values())

    def chat(
        self,
        system: str | None = None,
        tools: Sequence[Any] = (),
        *,
        tool_choice: str | Sequence[str] = "auto",
        sampling: Sampling | None = None,
        constrain: bool = True,
        force: bool = True,
        max_steps: int = 10,
        style: str | None = None,
        thinking: bool | None = None,
        thinking_budget: int | None = None,
        strict_format: bool = False,
        approvals: Approvals | None = None,
        variables: Mapping[str, Any] | None = None,
        compaction: Compaction | How | Rewrite | None = None,
    ) -> Chat:
        """A conversation. `tools` are functions, `@tool` functions or `Tool`s.

        With `force`, tokens that a grammar leaves no choice about are decoded in one batch instead
        of being asked of the model, which is faster and gives the same text.
        `thinking` and `variables` go to the chat template; `thinking_budget` ends the reasoning
        after that many tokens. With `strict_format`, calls in another form than the family's own
        are text. `approvals` decides which calls may run; without it, calls of tools that ask are
        denied. `compaction` makes room where the context gets full: a Compaction, or its `how`.
        See `engine.chat.Chat`.
        """
        from engine.chat import Chat, ChatOptions
        from engine.compaction import Compaction

        options = ChatOptions(
            tool_choice=tool_choice,
            sampling=sampling,
            constrain=constrain,
            force=force,
            max_steps=max_steps,
            style=style,
            thinking=thinking,
            thinking_budget=thinking_budget,
            strict_format=strict_format,
            approvals=approvals,
            variables=variables or {},
            compaction=Compaction.of(compaction),
        )
        return Chat(self, system, tools, options)

    def generate(
        self,
        prompt: str,
        *,
        system: str | None = None,
        response_format: Any = None,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
    ) -> Answer:
        """One answer to one message; see `Chat.run`. Frees its sequence afterwards."""
        with self.chat(system, sampling=sampling) as chat:
            return chat.run(prompt, response_format=response_format, max_tokens=max_tokens)

    def refused_tools(self, tools: Sequence[ToolSpec], style: str | None = None) -> list[Any]:
        """Tools whose arguments can't be enforced, with the reasons; see `Dialect.check`."""
        return self.dialect(style).check(tools)

    def close(self) -> None:
        """Free the weights and the cache. Chats of this model are of no use afterwards."""
        self.backend.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    name: str | Path | None = None,
    *,
    n_ctx: int = 0,
    gpu_layers: int | Literal["all"] = "all",
    threads: int = 0,
    flash_attention: FlashAttention = "auto",
    n_seq: int = 4,
    family: str | None = None,
    chat_template: str | None = None,
    prefix_cache: bool | str | Path = False,
    on_progress: Callable[[float], bool] | None = None,
    verbose: bool = False,
) -> Model:
    """Load a model by path or by the name that a local store knows it by.

    `n_ctx` 0 takes the model's own context, at most 8,192. `family` and `chat_template` (Jinja
    text) override what the file says. `on_progress` gets the share loaded; answering False stops.
    With `prefix_cache` (True, or a folder) what chats begin with, system message and tools, is
    kept on disk and not computed by the next process; the file is read whole for its hash, once.
    Raises ModelNotFound, GGUFError, UnsuitableModel, ModelError; TemplateError for a file without
    a chat template whose family is not known either.
    """
    from engine.llama import LlamaBackend, library_files

    path = find(None if name is None else str(name))
    header = gguf.read_header(path)
    fit.check_suitable(header)
    vocab = Vocab.from_header(header)
    detection = family_of(vocab, chat_template or header.chat_template, family)
    template = template_for(header, vocab, detection.profile, chat_template)
    sampling = recommended_sampling(header, detection.profile.sampling)
    store = None
    if prefix_cache:
        store = open_store(prefix_cache, header.parts, library_files(), on_progress=on_progress)
    options = LoadOptions(n_ctx, gpu_layers, threads, flash_attention, n_seq)
    backend = LlamaBackend(path, options, on_progress=on_progress, verbose=verbose)
    return Model(
        name=header.name or path.stem,
        vocab=vocab,
        backend=backend,
        tokenizer=LlamaTokenizer(vocab, backend.tokenize),
        template=template,
        detection=detection,
        path=path,
        sampling=sampling,
        prefixes=None if store is None else store(backend.state_parameters),
    )


def recommended_sampling(header: gguf.Header, family: Mapping[str, float] = {}) -> Sampling:
    """What the file recommends (`general.sampling.*`, read by llama.cpp's tools as well), else the
    family's vendor.

    Values of the wrong type or out of range count as none: a recommendation blocks no model.
    """
    given = replace(Sampling(), **family)  # type: ignore[arg-type]
    for name, (ours, kinds) in _RECOMMENDED.items():
        value: Any = header.metadata.get(f"general.sampling.{name}")
        if type(value) not in kinds or (name == "penalty_last_n" and value < 0):
            continue
        changes: dict[str, Any] = {ours: value}
        try:
            Sampler(replace(Sampling(), **changes))
        except UsageError:
            continue
        given = replace(given, **changes)
    return given


def family_of(vocab: Vocab, template: str | None, family: str | None) -> Detection:
    """The family asked for by name, else the one detected or read off the template."""
    if family is not None:
        return Detection(profile(family), "asked for by name")
    return recognise(vocab, template)


def template_for(
    header: gguf.Header, vocab: Vocab, family: Profile, override: str | None = None
) -> ChatTemplate:
    """The chat template: `override`, else the file's, else the family's.

    Raises TemplateError where there is none; the generic family's is used only for vocabularies
    that have its control tokens.
    """
    source = override or header.chat_template
    if source is None and family.template is not None and _has_its_marks(vocab, family):
        source = family.template
    if source is None:
        raise TemplateError(
            f"{header.path.name} has no chat template and its family is not known; "
            "give one with --chat-template FILE or name the family with --family NAME",
            name=header.path.name,
        )
    bos, eos = ("" if token is None else vocab.texts[token] for token in (vocab.bos, vocab.eos))
    name = "the given chat template" if override else header.path.name
    return ChatTemplate(source, name=name, bos=bos, eos=eos)


def _has_its_marks(vocab: Vocab, family: Profile) -> bool:
    return family.tokens != () or vocab.find("<|im_start|>") is not None
