"""A GGUF model as a Backend, through llama-cpp-python's low-level API.

The only module that imports llama_cpp. Knows pointers, batches and KV cells. Does not know
templates, grammars or tools. Facts about llama.cpp here were read from the sources that
llama-cpp-python 0.3.36 carries.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import llama_cpp.llama_cpp as ll  # not `import llama_cpp as ll`: its names are re-exports
import numpy as np
from numpy.typing import NDArray

from engine.errors import Cancelled, DecodeFailed, ModelError, StorageError, UsageError

FlashAttention = Literal["auto", "on", "off"]
FLASH: Final[dict[str, int]] = {"auto": -1, "off": 0, "on": 1}
# A cancel is seen between chunks everywhere (Metal has no abort callback), so a chunk is the
# longest wait for Ctrl-C on a GPU. Prefill gains nothing measurable from larger ones on a CPU.
CHUNK: Final = 256
LOG_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load: the defaults are meant to be right for one interactive user.

    `n_ctx` 0 takes the model's own training context, at most `MAX_DEFAULT_CTX`.
    `threads` 0 takes the fast cores.
    """

    n_ctx: int = 0
    gpu_layers: int | Literal["all"] = "all"
    threads: int = 0
    flash_attention: FlashAttention = "auto"
    n_seq: int = 4
    use_mmap: bool = True


MAX_DEFAULT_CTX: Final = 8192


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


def fast_cores() -> int:
    """How many cores decode well: performance cores on Apple Silicon, physical ones elsewhere.

    llama.cpp's own rule (`common_cpu_get_num_math`); hyper-threads only get in each other's way.
    """
    if sys.platform == "darwin":
        try:
            answer = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
            return max(1, int(answer.stdout))
        except (OSError, ValueError, subprocess.SubprocessError):
            return os.cpu_count() or 4  # an Intel Mac has no performance levels
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    siblings = {
        path.read_text().strip()
        for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings")
    }
    return max(1, min(usable or 4, len(siblings) or usable or 4))


class LlamaBackend:
    """One loaded model with one context. See `engine.backend.Backend` for the contract."""

    can_rewind: bool

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
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        self.path = path
        self.options = options or LoadOptions()
        try:
            self._load(on_progress)
            self._open_context()
        except BaseException:
            self.close()
            raise

    def _load(self, on_progress: Callable[[float], bool] | None) -> None:
        params = ll.llama_model_default_params()
        layers = self.options.gpu_layers
        params.n_gpu_layers = -1 if layers == "all" else layers
        params.load_mode = (
            ll.LLAMA_LOAD_MODE_MMAP if self.options.use_mmap else ll.LLAMA_LOAD_MODE_NONE
        )
        stopped = False

        def report(share: float, _: Any) -> bool:
            nonlocal stopped
            if on_progress is not None and not on_progress(share):
                stopped = True
            return not stopped

        callback = ll.llama_progress_callback(report)
        params.progress_callback = callback
        self._model = ll.llama_model_load_from_file(os.fsencode(self.path), params)
        if stopped:
            raise Cancelled(f"loading {self.path.name} was stopped")
        if not self._model:
            raise ModelError(
                f"{self.path}: llama.cpp could not load it: {self._log.errors()}", path=self.path
            )

    def _open_context(self) -> None:
        options = self.options
        params = ll.llama_context_default_params()
        trained = ll.llama_model_n_ctx_train(self._model)
        params.n_ctx = options.n_ctx or min(trained, MAX_DEFAULT_CTX)
        params.n_batch = params.n_ubatch = min(CHUNK, params.n_ctx)
        params.n_seq_max = options.n_seq
        params.kv_unified = True  # forks share cells, and one sequence may use the whole context
        params.flash_attn_type = FLASH[options.flash_attention]
        params.n_threads = params.n_threads_batch = options.threads or fast_cores()
        params.no_perf = True
        self._context = ll.llama_init_from_model(self._model, params)
        if not self._context:
            raise ModelError(
                f"no memory or no support for a context of {params.n_ctx} tokens: "
                f"{self._log.errors()}; try a smaller --ctx-size",
                n_ctx=params.n_ctx,
            )
        self._memory = ll.llama_get_memory(self._context)
        self._vocab = ll.llama_model_get_vocab(self._model)
        self.n_vocab = ll.llama_vocab_n_tokens(self._vocab)
        # llama.cpp rounds up to whole blocks of 256; what was asked for is the limit.
        self.n_ctx = min(int(params.n_ctx), int(ll.llama_n_ctx(self._context)))
        self.n_seq = options.n_seq
        self.threads = int(params.n_threads)
        self.n_ctx_train = int(trained)
        self._n_batch = int(ll.llama_n_batch(self._context))
        recurrent = ll.llama_model_is_recurrent(self._model)
        self.can_rewind = not (recurrent or ll.llama_model_is_hybrid(self._model))
        self._batch = ll.llama_batch_init(self._n_batch, 0, 1)
        for index in range(self._n_batch):
            self._batch.n_seq_id[index] = 1
        self._tokens = np.ctypeslib.as_array(self._batch.token, (self._n_batch,))
        self._positions = np.ctypeslib.as_array(self._batch.pos, (self._n_batch,))
        self._flags = np.ctypeslib.as_array(self._batch.logits, (self._n_batch,))
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
        ll.llama_model_desc(self._model, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    def decode(
        self,
        tokens: Sequence[int],
        position: int,
        *,
        seq: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        count = len(tokens)
        if not 0 < count <= self._n_batch:
            raise UsageError(f"a batch holds 1 to {self._n_batch} tokens, found {count}")
        self._tokens[:count] = tokens
        if not 0 <= self._tokens[:count].min() <= self._tokens[:count].max() < self.n_vocab:
            raise UsageError(f"a token id lies outside 0 to {self.n_vocab - 1}")
        self._positions[:count] = range(position, position + count)
        self._flags[:count] = 0
        self._flags[count - 1] = 1
        for index in range(count):
            self._batch.seq_id[index][0] = seq
        self._batch.n_tokens = count
        status = self._run(cancelled if count > 1 else None)
        if status == 0:
            return
        self.forget(position, seq=seq)  # what an aborted batch left behind
        if status == 2:
            raise Cancelled(f"stopped in the prompt at token {position}", position=position)
        reason = "the KV cache has no room" if status == 1 else self._log.errors()
        raise DecodeFailed(
            f"llama_decode answered {status} at position {position}: {reason}",
            status=status,
            position=position,
        )

    def _run(self, cancelled: Callable[[], bool] | None) -> int:
        if cancelled is None:
            return int(ll.llama_decode(self._context, self._batch))
        # ggml-cpu asks before every graph node; the question also lets Python's signal handlers
        # run. About 1 us a node: nothing beside a prompt, too much beside a single token.
        callback = ll.ggml_abort_callback(lambda _: cancelled())
        ll.llama_set_abort_callback(self._context, callback, ctypes.c_void_p(0))
        try:
            return int(ll.llama_decode(self._context, self._batch))
        finally:
            nothing = ll.ggml_abort_callback()  # a null pointer
            ll.llama_set_abort_callback(self._context, nothing, ctypes.c_void_p(0))

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
        return bool(ll.llama_memory_seq_rm(self._memory, seq, start, -1))

    def copy(self, source: int, target: int) -> None:
        self.forget(0, seq=target)
        ll.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def save(self, *, seq: int = 0) -> bytes:
        size = ll.llama_state_seq_get_size(self._context, seq)
        buffer = (ctypes.c_uint8 * size)()
        written = ll.llama_state_seq_get_data(self._context, buffer, size, seq)
        return bytes(memoryview(buffer)[:written])

    def load(self, state: bytes, *, seq: int = 0) -> None:
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not ll.llama_state_seq_set_data(self._context, buffer, len(state), seq):
            raise StorageError("the saved state does not fit this model and context")

    def tokenize(self, text: bytes, parse_special: bool = False) -> list[int]:
        """llama.cpp's own tokeniser, without BOS. User-defined tokens are parsed in any case."""
        return tokenize(self._vocab, text, parse_special)

    def close(self) -> None:
        if self._batch is not None:
            ll.llama_batch_free(self._batch)
            self._batch = None
        self._view = None
        if self._context:
            ll.llama_free(self._context)
            self._context = None
        if self._model:
            ll.llama_model_free(self._model)
            self._model = None


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
