"""A GGUF model as a Backend, through llama-cpp-python's low-level API.

The only module that imports llama_cpp. Knows pointers, batches and KV cells. Does not know
templates, grammars or tools. Facts about llama.cpp here were read from the sources that
llama-cpp-python 0.3.36 carries.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as ll  # not `import llama_cpp as ll`: its names are re-exports
import numpy as np
from numpy.typing import NDArray

from engine.device import fast_cores
from engine.errors import (
    Cancelled,
    ContextFull,
    DecodeFailed,
    ModelError,
    StorageError,
    UsageError,
)
from engine.loading import MAX_DEFAULT_CTX, LoadOptions
from engine.question import Question

FLASH: Final[dict[str, int]] = {"auto": -1, "off": 0, "on": 1}
# A cancel is seen between chunks everywhere (Metal has no abort callback), so a chunk is the
# longest wait for Ctrl-C on a GPU. Prefill gains nothing measurable from larger ones on a CPU.
CHUNK: Final = 256
LOG_LINES: Final = 200


class _Log:
    """llama.cpp's log: the last lines are kept, and shown on stderr when `verbose`."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.verbose = False
        self._callback = ll.llama_log_callback(self._write)
        ll.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _write(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace")
        self.lines.append(line)
        if self.verbose:
            sys.stderr.write(line)

    def errors(self) -> str:
        """The last lines that say what failed, as one line."""
        wanted = [line.strip() for line in self.lines if "error" in line or "failed" in line]
        return "; ".join(wanted[-2:]) or "llama.cpp gave no reason"


_log: _Log | None = None
_backend_lock = threading.Lock()


def start(*, verbose: bool = False) -> _Log:
    """Initialise llama.cpp once per process and capture its log."""
    global _log
    with _backend_lock:
        if _log is None:
            _log = _Log()
            ll.llama_backend_init()
        _log.verbose = verbose
        return _log


def libraries() -> tuple[ctypes.CDLL, Path]:
    """The loaded libllama, and the folder that holds it and the ggml libraries."""
    library: ctypes.CDLL = ll._lib
    return library, Path(ll._base_path)


def library_files() -> list[Path]:
    """Every library that computes: what a state saved by one build may differ by."""
    folder = libraries()[1]
    return sorted(path for path in folder.glob("*") if path.suffix in (".so", ".dylib", ".dll"))


def build_info() -> dict[str, Any]:
    """What this llama.cpp is: versions and the features that it was compiled with."""
    import llama_cpp

    start()
    return {
        "llama_cpp_python": str(llama_cpp.__version__),
        "llama_cpp": ll.llama_version().decode(),
        "system_info": ll.llama_print_system_info().decode().strip(),
        "gpu_offload": bool(ll.llama_supports_gpu_offload()),
    }


class LlamaBackend:
    """One loaded model with one context. See `engine.backend.Backend` for the contract."""

    can_rewind: bool
    owner: object | None = None

    def __init__(
        self,
        path: Path,
        options: LoadOptions | None = None,
        *,
        on_progress: Callable[[float], bool] | None = None,
        verbose: bool = False,
    ) -> None:
        """Load weights and make a context. The header must have been checked already.

        `on_progress` gets the share done, 0 to 1; answering False stops the load (Cancelled).
        Raises ModelError with llama.cpp's own words, ContextFull never.
        """
        self._log = start(verbose=verbose)
        self.path = path
        self.options = (options or LoadOptions()).checked()
        self._held = _Held()
        self._free = weakref.finalize(self, self._held.free)
        try:
            self._load(on_progress)
            self._open_context()
        except BaseException:
            self.close()
            raise

    @property
    def _context(self) -> Any:
        if not self._held.context:
            raise UsageError("this model is closed; load it again")
        return self._held.context

    def _load(self, on_progress: Callable[[float], bool] | None) -> None:
        params = ll.llama_model_default_params()
        layers = self.options.gpu_layers
        params.n_gpu_layers = -1 if layers == "all" else layers
        params.load_mode = (
            ll.LLAMA_LOAD_MODE_MMAP if self.options.use_mmap else ll.LLAMA_LOAD_MODE_NONE
        )
        question = Question(lambda share: on_progress is not None and not on_progress(share))
        callback = ll.llama_progress_callback(lambda share, _: not question.says_stop(share))
        params.progress_callback = callback
        self._held.model = ll.llama_model_load_from_file(os.fsencode(self.path), params)
        question.settle()
        if question.is_stopped:
            raise Cancelled(f"loading {self.path.name} was stopped")
        if not self._held.model:
            raise ModelError(
                f"{self.path}: llama.cpp could not load it: {self._log.errors()}", path=self.path
            )

    def _open_context(self) -> None:
        options = self.options
        params = ll.llama_context_default_params()
        model = self._held.model
        trained = ll.llama_model_n_ctx_train(model)
        wanted = options.n_ctx or min(trained, MAX_DEFAULT_CTX)
        # llama.cpp rounds up to whole blocks of 256, and aborts on a batch below n_seq; what was
        # asked for is the limit that we keep.
        params.n_ctx = max(wanted, CHUNK)
        params.n_batch = params.n_ubatch = max(CHUNK, options.n_seq)
        params.n_seq_max = options.n_seq
        params.kv_unified = True  # forks share cells, and one sequence may use the whole context
        params.flash_attn_type = FLASH[options.flash_attention]
        params.n_threads = params.n_threads_batch = options.threads or fast_cores()
        params.no_perf = True
        self._held.context = ll.llama_init_from_model(model, params)
        if not self._held.context:
            raise ModelError(
                f"no memory or no support for a context of {wanted} tokens: "
                f"{self._log.errors()}; try a smaller --ctx-size",
                n_ctx=wanted,
            )
        self._memory = ll.llama_get_memory(self._context)
        self._vocab = ll.llama_model_get_vocab(model)
        self.n_vocab = ll.llama_vocab_n_tokens(self._vocab)
        self.n_ctx = min(wanted, int(ll.llama_n_ctx(self._context)))
        self.n_seq = options.n_seq
        self.threads = int(params.n_threads)
        self.n_ctx_train = int(trained)
        self._n_batch = int(ll.llama_n_batch(self._context))
        recurrent = ll.llama_model_is_recurrent(model)
        self.can_rewind = not (recurrent or ll.llama_model_is_hybrid(model))
        self._batch = self._held.batch = ll.llama_batch_init(self._n_batch, 0, 1)
        for index in range(self._n_batch):
            self._batch.n_seq_id[index] = 1
        self._tokens = np.ctypeslib.as_array(self._batch.token, (self._n_batch,))
        self._positions = np.ctypeslib.as_array(self._batch.pos, (self._n_batch,))
        self._flags = np.ctypeslib.as_array(self._batch.logits, (self._n_batch,))
        self._rows: list[int] = [-1] * self._n_batch  # the sequence written in each row's seq_id
        # c_void_p instead of POINTER(c_float): building a pointer object costs more than the call.
        prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
        self._logits_address = prototype(("llama_get_logits_ith", ll._lib))
        self._view: NDArray[np.float32] | None = None
        self._view_address = 0

    @property
    def n_batch(self) -> int:
        return self._n_batch

    @property
    def description(self) -> str:
        """llama.cpp's own words for the model, such as `llama 135M Q4_1`."""
        buffer = ctypes.create_string_buffer(256)
        ll.llama_model_desc(ll.llama_get_model(self._context), buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    @property
    def state_parameters(self) -> dict[str, Any]:
        """What a saved state depends on besides the model: how it was computed, and its form.

        All other parameters of a context are llama.cpp's defaults, and the build's.
        """
        params = ll.llama_context_default_params()
        return {
            **build_info(),
            "flash_attention": self.options.flash_attention,
            "gpu_layers": self.options.gpu_layers,
            "use_mmap": self.options.use_mmap,  # without it weights are laid out otherwise
            "n_batch": self._n_batch,
            "type_k": int(params.type_k),
            "type_v": int(params.type_v),
            "rope": [params.rope_scaling_type, params.rope_freq_base, params.rope_freq_scale],
            "yarn": [params.yarn_ext_factor, params.yarn_attn_factor, params.yarn_orig_ctx],
            "swa_full": bool(params.swa_full),
        }

    def decode(
        self,
        tokens: Sequence[int],
        position: int,
        *,
        seq: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        context = self._context
        count = len(tokens)
        if not 0 < count <= self._n_batch:
            raise UsageError(f"a batch holds 1 to {self._n_batch} tokens, found {count}")
        if not 0 <= min(tokens) <= max(tokens) < self.n_vocab:
            raise UsageError(f"a token id lies outside 0 to {self.n_vocab - 1}")
        if count == 1:  # the hot path: no slices, no temporary arrays
            self._tokens[0], self._positions[0] = tokens[0], position
        else:
            self._tokens[:count] = tokens
            self._positions[:count] = range(position, position + count)
            self._flags[:count] = 0
        self._flags[count - 1] = 1
        for index in range(count):
            if self._rows[index] != seq:
                self._batch.seq_id[index][0] = self._rows[index] = seq
        self._batch.n_tokens = count
        status = self._run(context, cancelled if count > 1 else None)
        if status == 0:
            return
        self.forget(position, seq=seq)  # what an aborted batch left behind
        if status == 2:
            raise Cancelled(f"stopped in the prompt at token {position}", position=position)
        if status == 1:
            raise ContextFull(
                f"no room for {count} more tokens at position {position}: the context of "
                f"{self.n_ctx} tokens is shared by all open chats; close one or load with a "
                "larger --ctx-size",
                need=position + count,
                n_ctx=self.n_ctx,
            )
        raise DecodeFailed(
            f"llama_decode answered {status} at position {position}: {self._log.errors()}",
            status=status,
            position=position,
        )

    def _run(self, context: Any, cancelled: Callable[[], bool] | None) -> int:
        if cancelled is None:
            return int(ll.llama_decode(context, self._batch))
        # ggml-cpu asks before every graph node; the question also lets Python's signal handlers
        # run. About 1 us a node: nothing beside a prompt, too much beside a single token.
        question = Question(lambda _: cancelled())
        callback = ll.ggml_abort_callback(question.says_stop)
        ll.llama_set_abort_callback(context, callback, ctypes.c_void_p(0))
        try:
            status = int(ll.llama_decode(context, self._batch))
        finally:
            nothing = ll.ggml_abort_callback()  # a null pointer
            ll.llama_set_abort_callback(context, nothing, ctypes.c_void_p(0))
        question.settle()
        return status

    def logits(self) -> NDArray[np.float32]:
        address = self._logits_address(self._context, -1)
        if not address:
            raise DecodeFailed("no logits: nothing was decoded yet", status=0, position=0)
        if address != self._view_address or self._view is None:
            pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
            self._view = np.ctypeslib.as_array(pointer, (self.n_vocab,))
            self._view_address = address
        return self._view

    def forget(self, start: int, *, seq: int = 0) -> bool:
        if not self._held.context:
            return True  # all is forgotten already
        return bool(ll.llama_memory_seq_rm(self._memory, seq, start, -1))

    def copy(self, source: int, target: int) -> None:
        context = self._context  # raises where the model is closed
        assert context
        self.forget(0, seq=target)
        ll.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def save(self, *, seq: int = 0) -> bytes:
        size = ll.llama_state_seq_get_size(self._context, seq)
        buffer = (ctypes.c_uint8 * size)()
        written = ll.llama_state_seq_get_data(self._context, buffer, size, seq)
        return bytes(memoryview(buffer)[:written])

    def load(self, state: bytes | memoryview, *, seq: int = 0) -> None:
        # No copy: a state may have gigabytes. llama.cpp reads it and keeps nothing of it.
        data = np.frombuffer(state, np.uint8)
        buffer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if not ll.llama_state_seq_set_data(self._context, buffer, data.size, seq):
            raise StorageError("the saved state does not fit this model and context")

    def tokenize(self, text: bytes, parse_special: bool = False) -> list[int]:
        """llama.cpp's own tokeniser, without BOS. User-defined tokens are parsed in any case."""
        return tokenize(
            ll.llama_model_get_vocab(ll.llama_get_model(self._context)), text, parse_special
        )

    def close(self) -> None:
        """Free weights and cache, also those of a load that failed. Twice is fine."""
        self._view, self._view_address = None, 0
        self._free()


class _Held:
    """The pointers that have to be freed, apart from the backend so that a finalizer can."""

    def __init__(self) -> None:
        self.model: Any = None
        self.context: Any = None
        self.batch: Any = None

    def free(self) -> None:
        if self.batch is not None:
            ll.llama_batch_free(self.batch)
        if self.context:
            ll.llama_free(self.context)
        if self.model:
            ll.llama_model_free(self.model)
        self.batch = self.context = self.model = None


def tokenize(vocab: Any, text: bytes, parse_special: bool) -> list[int]:
    """`llama_tokenize` on a vocabulary pointer, the buffer grown as asked."""
    room = len(text) + 8
    while True:
        buffer = (ll.llama_token * room)()
        count = ll.llama_tokenize(vocab, text, len(text), buffer, room, False, parse_special)
        if count >= 0:
            return list(buffer[:count])
        if count == -(2**31):
            raise UsageError(f"the text is too long to tokenise ({len(text)} bytes)")
        room = -count


class LlamaVocab:
    """A vocabulary in llama.cpp without weights, for tokenising and for comparing with ours."""

    def __init__(self, path: Path) -> None:
        log = start()
        params = ll.llama_model_default_params()
        params.vocab_only = True
        self._model = ll.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise ModelError(f"{path}: llama.cpp could not read it: {log.errors()}", path=path)
        self._vocab = ll.llama_model_get_vocab(self._model)
        self.n_vocab = int(ll.llama_vocab_n_tokens(self._vocab))

    def tokenize(self, text: bytes, parse_special: bool = False) -> list[int]:
        return tokenize(self._vocab, text, parse_special)

    def piece(self, token: int) -> bytes:
        """The bytes that llama.cpp prints for a token, control tokens included."""
        buffer = (ctypes.c_char * 4096)()
        count = ll.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[: max(count, 0)]

    def is_eog(self, token: int) -> bool:
        return bool(ll.llama_vocab_is_eog(self._vocab, token))

    def attributes(self, token: int) -> int:
        """The bits of `llama_token_attr`."""
        return int(ll.llama_vocab_get_attr(self._vocab, token))

    def close(self) -> None:
        if self._model:
            ll.llama_model_free(self._model)
            self._model = None
