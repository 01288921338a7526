"""What tests run on instead of weights: a byte vocabulary and a backend that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import Cancelled
from engine.families import Detection, detect, profile
from engine.model import Model
from engine.profile import Profile
from engine.template import ChatTemplate
from engine.vocab import CONTROL, NORMAL, USER_DEFINED, Vocab

CHATML = """
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}
"""


def byte_vocab(
    control: Sequence[str] = ("<|im_start|>", "<|im_end|>"),
    *,
    words: Sequence[str] = (),
    user_defined: Sequence[str] = (),
    ends: Sequence[str] = ("<|im_end|>",),
) -> Vocab:
    """Ids 0 to 255 are bytes; then `words`, then the control and user-defined tokens."""
    texts = [f"<0x{byte:02X}>" for byte in range(256)] + [*words, *control, *user_defined]
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [text.encode() for text in (*words, *control, *user_defined)]
    kinds = [NORMAL] * (256 + len(words)) + [CONTROL] * len(control)
    kinds += [USER_DEFINED] * len(user_defined)
    eog = frozenset(texts.index(text) for text in ends)
    return Vocab(
        tokens=tokens,
        texts=texts,
        kinds=np.array(kinds, dtype=np.uint8),
        model="byte",
        eos=min(eog, default=None),
        eog=eog,
    )


class ByteTokenizer:
    """Longest word first, else bytes."""

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab
        self._words = sorted(
            ((vocab.tokens[i], i) for i in range(256, vocab.n_vocab) if vocab.kinds[i] == NORMAL),
            key=lambda word: -len(word[0]),
        )

    def encode(
        self, text: str, *, forbidden: Collection[int] | None = None, continues: bool = False
    ) -> list[int]:
        data, ids, place = text.encode(), [], 0
        while place < len(data):
            word = next((w for w in self._words if data.startswith(w[0], place)), None)
            ids.append(word[1] if word else data[place])
            place += len(word[0]) if word else 1
        return ids


class ScriptedBackend:
    """A backend whose best next token is the script's next one; every other is far behind.

    `say` adds to the script. `computed` is every (position, id) ever decoded: what tests count.
    """

    can_rewind = True
    owner: object | None = None

    def __init__(self, n_vocab: int, *, n_ctx: int = 4096, n_batch: int = 64, n_seq: int = 4):
        self.n_vocab, self.n_ctx, self.n_seq = n_vocab, n_ctx, n_seq
        self._n_batch = n_batch
        self._script: list[int] = []
        self._place = 0
        self._last = -1
        self.cells: dict[int, list[int]] = {seq: [] for seq in range(n_seq)}
        self.computed: list[tuple[int, int]] = []
        self.closed = False
        self.logits_at: Callable[[int], NDArray[np.float32] | None] = lambda step: None
        self._steps = 0

    @property
    def n_batch(self) -> int:
        return self._n_batch

    def say(self, ids: Iterable[int]) -> None:
        self._script += ids

    def decode(
        self,
        tokens: Sequence[int],
        position: int,
        *,
        seq: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        assert 0 < len(tokens) <= self._n_batch
        cells = self.cells[seq]
        assert position == len(cells), f"decode at {position}, the cache ends at {len(cells)}"
        assert position + len(tokens) <= self.n_ctx
        if cancelled is not None and len(tokens) > 1 and cancelled():
            raise Cancelled("stopped", position=position)
        cells += tokens
        self.computed += enumerate(tokens, position)
        # Tokens that the grammar forced come without being asked for: the script passes them over.
        chosen = self._place > 0 and tokens[0] == self._script[self._place - 1]
        for token in tokens[chosen:]:
            if self._place >= len(self._script) or self._script[self._place] != token:
                break
            self._place += 1

    def logits(self) -> NDArray[np.float32]:
        """One-hot for the script's next token; a script that ran out is a fault of the test."""
        self._steps += 1
        special = self.logits_at(self._steps - 1)
        if special is not None:
            return special
        logits = np.linspace(0, -1, self.n_vocab, dtype=np.float32)
        assert self._place < len(self._script), "the script is over, the chat goes on"
        logits[self._script[self._place]] = 20.0
        self._place += 1
        return logits

    def forget(self, start: int, *, seq: int = 0) -> bool:
        del self.cells[seq][start:]
        return True

    def copy(self, source: int, target: int) -> None:
        self.cells[target] = self.cells[source].copy()

    def save(self, *, seq: int = 0) -> bytes:
        return np.array(self.cells[seq], dtype=np.int32).tobytes()

    def load(self, state: bytes, *, seq: int = 0) -> None:
        self.cells[seq] = np.frombuffer(state, dtype=np.int32).tolist()

    def close(self) -> None:
        self.closed = True


def scripted_model(
    vocab: Vocab | None = None,
    template: str = CHATML,
    *,
    family: str | Profile | None = None,
    n_ctx: int = 4096,
    tokenizer: object = None,
) -> Model:
    """A model on a ScriptedBackend, reached as `model.backend`."""
    vocab = vocab or byte_vocab()
    found = detect(vocab, template) if family is None else None
    if found is None:
        item = profile(family) if isinstance(family, str) else family
        assert item is not None
        found = Detection(item, "the test says so")
    bos = "" if vocab.bos is None else vocab.texts[vocab.bos]
    return Model(
        name="scripted",
        vocab=vocab,
        backend=ScriptedBackend(vocab.n_vocab, n_ctx=n_ctx),
        tokenizer=tokenizer or ByteTokenizer(vocab),  # type: ignore[arg-type]
        template=ChatTemplate(template, bos=bos),
        detection=found,
    )
