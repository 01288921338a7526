"""
The compiled core: token bytes as a trie, logits under a mask, sampling.
"""

from collections.abc import Callable, Mapping, Sequence
import enum
from typing import Annotated

import numpy
from numpy.typing import NDArray


class Status(enum.IntEnum):
    """What became of looking at logits."""

    ok = 0

    nan = 1
    """An allowed logit is NaN or +infinity."""

    none = 2
    """No token is allowed, or all that are have -infinity."""

def mask_words(n_vocab: int) -> int:
    """How many uint32 words a mask has."""

def count_allowed(mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)], n_vocab: int) -> int:
    """How many tokens below `n_vocab` the mask allows."""

def argmax(logits: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None) -> tuple[int, Status]:
    """
    The best allowed token, the lowest of equals; -1 unless the status is `ok`.
    """

def top_k(logits: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], k: int, mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None) -> tuple[Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.float32], dict(shape=(None,))]]:
    """
    Ids and logits of the k best allowed tokens, best first, lower ids first among equals.

    Tokens with -infinity or NaN are left out; ask `argmax` whether there is NaN.
    """

def gather(logits: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None) -> tuple[Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.float32], dict(shape=(None,))]]:
    """
    Ids and logits of all allowed tokens in order of ids, without those of -infinity or NaN.
    """

def log_sum_exp(logits: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None) -> tuple[float, Status]:
    """
    log(sum(exp(logit))) over the allowed tokens: exp(logit - it) is a probability.
    """

class Needle:
    """
    Finds one byte string in a stream of pieces. A state is the number of its bytes that the stream's end matches; `len(needle)` means found, for good.
    """

    def __init__(self, text: bytes) -> None: ...

    def __len__(self) -> int: ...

    @property
    def text(self) -> bytes: ...

    def advance(self, state: int, data: bytes) -> int:
        """The state after `data`."""

class TokenTrie:
    """
    The vocabulary as a byte trie. Ids with equal bytes share a node; a token without bytes is never found.
    """

    def __init__(self, data: bytes, offsets: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """
        Token i is data[offsets[i]:offsets[i + 1]]; `offsets` is uint64, one more than tokens.
        """

    @property
    def n_vocab(self) -> int: ...

    @property
    def n_nodes(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...

    @property
    def build_us(self) -> float:
        """Microseconds that building took."""

    def ids_of(self, data: bytes) -> Annotated[NDArray[numpy.int32], dict(shape=(None,))]:
        """Every id whose bytes are exactly `data`, lowest first."""

    def longest_match(self, data: bytes) -> tuple[int, int]:
        """
        (id, length) of the longest token that `data` begins with, else (-1, 0).
        """

    def mask_of_prefix(self, prefix: bytes, mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu')]) -> int:
        """
        Write into `mask` exactly the tokens that begin with `prefix`; returns how many.
        """

    def tokens_containing(self, needle: Needle, state: int, mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu')]) -> int:
        """
        Write into `mask` exactly the tokens that complete `needle` from `state`; returns how many.

        One walk of the whole trie: keep the masks, a needle has len(needle) of them.
        """

class Sampler:
    """
    Chooses tokens as llama.cpp's chain does: penalties, top-k, top-p, min-p, temperature, chance. The same seed gives the same tokens on every machine.
    """

    def __init__(self, seed: int, *, temperature: float = 0.800000011920929, top_k: int = 40, top_p: float = 0.949999988079071, min_p: float = 0.05000000074505806, repeat: float = 1.0, frequency: float = 0.0, presence: float = 0.0) -> None:
        """
        temperature below 0.00001 is greedy; top_k 0, top_p 1, min_p 0 and repeat 1 are off.

        Raises ValueError naming a number that makes no sense.
        """

    @property
    def state(self) -> int:
        """
        The random stream's state, one 64-bit number: copy it to fork or replay.
        """

    @state.setter
    def state(self, arg: int, /) -> None: ...

    def sample(self, logits: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, recent: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None) -> tuple[int, Status]:
        """
        The next token's id, -1 unless the status is `ok`.

        `recent` (int32) are the ids that penalties count, in any order. IndexError for an id that is no token.
        """

    def chances(self, logits: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, recent: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None) -> tuple[Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.float64], dict(shape=(None,))], Status]:
        """
        What `sample` would choose among: ids and probabilities, best first, and the status.

        Leaves the random stream as it is.
        """

class PatternError(ValueError):
    """A pattern that can't be read or isn't regular: (message, offset)."""

class SchemaError(ValueError):
    """
    A schema that is wrong or can't be enforced: (message, pointer, keyword).
    """

class JsonError(ValueError):
    """A text that is no JSON: (message, offset)."""

class TooComplex(ValueError):
    """
    A limit on work or memory was reached: (message,), or (message, option, limit, found, pointer) where the limit is an option.
    """

class Vocabulary:
    """Tokens made ready for grammars; set up once."""

    def __init__(self, data: bytes, offsets: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], ends: Sequence[int]) -> None: ...

    @property
    def n_vocab(self) -> int: ...

    def is_extended(self, data: bytes) -> bool:
        """Whether some token begins with `data` and is longer."""

    @property
    def build_us(self) -> float: ...

    @property
    def memory_bytes(self) -> int:
        """With the masks of words that the grammars over it have filled in."""

    def forget(self) -> None:
        """
        Drops the masks of words that all grammars share, as for a measurement from cold.
        """

class Grammar:
    """A grammar, built node by node, then matched by any number of matchers."""

    def __init__(self, vocabulary: Vocabulary, *, escapes: str = 'needed', any_order: bool = False, best_effort: bool = False, checks_formats: bool = True, spacing: Sequence[str] | None = None, property: Callable[[str], Sequence[tuple[int, int]]] | None = None, limits: Mapping[str, int] = {}) -> None:
        """
        `spacing` are four patterns: behind an opening bracket, before a closing one, the comma, the colon. `property` gives the ranges of a Unicode property. `limits` may name depth, properties, enum_values, pattern_length, branches and steps.
        """

    def literal(self, data: bytes) -> int:
        """The expression of exactly these bytes."""

    def pattern(self, pattern: str, *, dot_all: bool = False, ignore_case: bool = False, rust: bool = False, property: Callable[[str], Sequence[tuple[int, int]]] | None = None) -> int:
        """
        The expression of a regular expression that matches from end to end. Raises PatternError(message, offset).
        """

    def concat(self, parts: Sequence[int]) -> int: ...

    def either(self, parts: Sequence[int]) -> int: ...

    def both(self, parts: Sequence[int]) -> int: ...

    def negate(self, expression: int) -> int:
        """Any text that the expression doesn't match."""

    def repeat(self, expression: int, min: int, max: int | None = None) -> int: ...

    def is_dead(self, expression: int) -> bool:
        """Whether nothing matches."""

    def is_nullable(self, expression: int) -> bool:
        """Whether the empty text matches."""

    def word(self, expression: int) -> int:
        """The node of a text that an expression matches."""

    def token(self, id: int) -> int:
        """The node of a token by its id."""

    def sequence(self, parts: Sequence[int]) -> int: ...

    def choice(self, parts: Sequence[int]) -> int: ...

    def times(self, node: int, min: int, max: int | None = None) -> int: ...

    def unordered(self, parts: Sequence[int], kinds: Sequence[int], separator: int) -> int:
        """
        The node of parts in any order, `separator` between two of them. The kinds: 0 comes at most once, 1 exactly once, 2 any number of times. ValueError for more than 62.
        """

    def declare(self) -> int:
        """A new rule's number."""

    def define(self, rule: int, node: int) -> None: ...

    def rule(self, rule: int) -> int:
        """The node that refers to a rule."""

    def capture(self, name: str, node: int) -> int: ...

    def schema(self, text: str) -> int:
        """
        The node of a JSON value that a schema, JSON text, allows. Raises SchemaError(message, pointer, keyword), JsonError, TooComplex.
        """

    def schema_text(self, source: str) -> int:
        """
        The expression of the strings that a schema, JSON text, allows: their characters as they are. Raises the same.
        """

    def add_resource(self, uri: str, text: str) -> None:
        """A document that schemas may refer to."""

    def finish(self, start: int) -> None:
        """Makes `start` the grammar's start."""

    @property
    def weakened(self) -> list[tuple[str, str]]: ...

    @property
    def memory_bytes(self) -> int: ...

    @property
    def memory_limit(self) -> int: ...

    @memory_limit.setter
    def memory_limit(self, arg: int, /) -> None: ...

class Matcher:
    """One walk through a grammar, a token at a time."""

    def __init__(self, grammar: Grammar) -> None: ...

    def mask(self, mask: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu')]) -> None:
        """Writes the tokens that may follow."""

    @property
    def knows_mask(self) -> bool:
        """Whether `mask` has nothing to work out here."""

    def allows(self, token: int) -> bool: ...

    def advance(self, token: int) -> bool:
        """False, and nothing changes, where the token is refused."""

    def advance_bytes(self, data: bytes) -> bool: ...

    def rewind(self, count: int) -> None: ...

    def fork(self) -> Matcher: ...

    def __len__(self) -> int: ...

    @property
    def is_accepting(self) -> bool: ...

    @property
    def is_done(self) -> bool: ...

    def forced(self, most: int = 4096) -> bytes:
        """The bytes that must come, as far as there is no choice."""

    def first_bytes(self) -> bytes: ...

    def explain(self, token: int) -> tuple[int, bytes, str]:
        """
        How many bytes of a token are taken before it is refused, the bytes that could stand there, and what could in words.
        """

    def allowed_summary(self) -> str:
        """What may come next, in words for people."""

    def captures(self) -> list[tuple[str, bytes]]: ...

    def progress(self, skip: int = 0) -> tuple[list[tuple[str, int, bool]], int]:
        """
        The begins and ends of captures (name, place, is an end) that are certain however the text goes on, and the place before which there are no others. Without the first `skip`, which were told before and cost nothing.
        """

    def text(self, begin: int, end: int) -> bytes:
        """A stretch of the text so far; special tokens have no bytes in it."""
