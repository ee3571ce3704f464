"""The few calls of llama.cpp's C interface that running takes.

llama-cpp-python's own class has no place for them: it keeps the logits of every position (3.5 GB for 4,352 positions of
a vocabulary of 200,064), reads a file anew for another size of context, and cuts tokens longer than 32 bytes.
"""

import ctypes
import re
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = Any  # numpy is not installed where mypy runs

_BATCH = 256  # tokens run at once, and logits held by llama.cpp: 205 MB for a vocabulary of 200,064
_CONTEXT_STEP = 256  # llama.cpp allocates contexts in multiples of this


class Log:
    """Passes what llama.cpp says on to standard error, line by line to ``each``, and keeps its errors."""

    _DEBUG, _ERROR = 1, 4  # of ggml_log_level
    _kept: Any = None  # llama.cpp goes on calling the last one, and holds no reference to it

    def __init__(self, each: Callable[[str], None] = lambda _: None) -> None:
        import llama_cpp

        self.errors: list[str] = []
        self._each = each
        Log._kept = llama_cpp.llama_log_callback(self._take)
        llama_cpp.llama_log_set(Log._kept, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: ctypes.c_void_p) -> None:
        if level == self._DEBUG:
            return
        line = text.decode("utf-8", errors="replace")
        sys.stderr.write(line)
        if level == self._ERROR and line.strip():
            self.errors.append(re.sub(r"^\w+: ", "", line.strip()))  # without the name of the function
        self._each(line)


class LlamaModel:
    """A GGUF file that llama.cpp has loaded, and its vocabulary.

    ``overrides`` are whole numbers of its metadata that are to be others (``--override-kv KEY=int:VALUE``).
    """

    def __init__(self, file: Path, *, overrides: Mapping[str, int] | None = None) -> None:
        """Raise ValueError, with llama.cpp's own reason, when it cannot load the file."""
        import llama_cpp

        log = Log()
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        changed = list((overrides or {}).items())
        array = (llama_cpp.llama_model_kv_override * (len(changed) + 1))()  # the last one, all zero, ends it
        for entry, (key, value) in zip(array, changed, strict=False):
            entry.key, entry.tag = key.encode(), llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
            entry.value.val_i64 = value
        params.kv_overrides = array
        self.pointer = llama_cpp.llama_model_load_from_file(str(file).encode(), params)
        if not self.pointer:
            raise ValueError(f"llama.cpp cannot load {file.name}: {(log.errors or ['it gives no reason'])[0]}")
        self.close = weakref.finalize(self, llama_cpp.llama_model_free, self.pointer)  # contexts go before
        self._vocabulary = llama_cpp.llama_model_get_vocab(self.pointer)
        self.tokens: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)

    def metadata(self, key: str) -> str | None:
        """Return a value of the file's metadata as text, or None if there is none of that key."""
        import llama_cpp

        size = llama_cpp.llama_model_meta_val_str(self.pointer, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        llama_cpp.llama_model_meta_val_str(self.pointer, key.encode(), buffer, size + 1)
        return buffer.value.decode("utf-8")

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        import llama_cpp

        data = text.encode()
        size = len(data) + 1  # no token is shorter than a byte, but a tokenizer may put a space before the first
        ids = (llama_cpp.llama_token * size)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), ids, size, False, True)
        if count < 0:
            raise ValueError(f"llama.cpp cannot tokenize {text[:40]!r}")
        return list(ids[:count])

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens in full.

        Of a byte-level vocabulary it is written token by token, as llama.cpp's programs do while they generate: its
        detokenizer for whole texts takes spaces out, before punctuation, whether or not the source does.
        """
        import llama_cpp

        if llama_cpp.llama_vocab_type(self._vocabulary) == llama_cpp.LLAMA_VOCAB_TYPE_BPE:
            return b"".join(map(self._piece, ids)).decode("utf-8", errors="replace")
        array = (llama_cpp.llama_token * len(ids))(*ids)

        def write(buffer: Any, size: int) -> int:
            written: int = llama_cpp.llama_detokenize(self._vocabulary, array, len(ids), buffer, size, False, True)
            return written  # or, where there is too little room, what it takes, negative

        buffer = ctypes.create_string_buffer(max(-write(None, 0), 1))
        size = write(buffer, len(buffer))
        return buffer.raw[:size].decode("utf-8", errors="replace")

    def _piece(self, token: int) -> bytes:
        import llama_cpp

        def write(buffer: Any, size: int) -> int:
            written: int = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, True)
            return written  # or, where there is too little room, what it takes, negative

        buffer = ctypes.create_string_buffer(max(-write(None, 0), 1))
        size = write(buffer, len(buffer))
        return buffer.raw[:size]

    def text_of(self, token: int) -> str:
        """Return a token as the vocabulary has it; "" for -1, which means none."""
        import llama_cpp

        return "" if token < 0 else str(llama_cpp.llama_vocab_get_text(self._vocabulary, token).decode("utf-8"))

    def bos_and_eos(self) -> tuple[int, int]:
        """Return the ids of the tokens that begin and end a text; -1 for none."""
        import llama_cpp

        return llama_cpp.llama_vocab_bos(self._vocabulary), llama_cpp.llama_vocab_eos(self._vocabulary)

    def ends_generation(self, token: int) -> bool:
        """Say whether generating ends at a token."""
        import llama_cpp

        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))


class LlamaContext:
    """Room for the tokens of one sequence. Positions go on from one call of ``run`` to the next."""

    def __init__(self, model: LlamaModel, tokens: int, threads: int) -> None:
        """Allocate a context of at least so many tokens. Raises MemoryError if llama.cpp cannot."""
        import llama_cpp

        params = llama_cpp.llama_context_default_params()
        params.n_ctx = -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP
        params.n_batch = params.n_ubatch = _BATCH
        params.n_threads = params.n_threads_batch = threads
        self._model, self._used = model, 0
        self.pointer = llama_cpp.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise MemoryError(f"llama.cpp cannot allocate a context of {params.n_ctx} tokens")
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)

    def close(self) -> None:
        """Free the context."""
        import llama_cpp

        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self.pointer)

    def run(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Run ids behind those before; return float32 logits of some of them: ascending ``positions`` in ``ids``.

        Their shape is (len(positions), tokens of the vocabulary). llama.cpp computes those rows and no others, and the
        last layer for them alone. Raises RuntimeError when it fails.
        """
        rows: Array = np.empty((len(positions), self._model.tokens), dtype=np.float32)
        done = 0
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            wanted = [p - start for p in positions[done:] if p < start + len(part)]
            logits = self._decode(part, wanted)
            if wanted:
                rows[done : done + len(wanted)] = logits
            done += len(wanted)
        return rows

    def _decode(self, ids: Sequence[int], wanted: Sequence[int]) -> Array:
        """Run one batch; return llama.cpp's own buffer of the logits of some places in it, None for none."""
        import llama_cpp

        batch = self._batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i] = token, self._used + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = False
        for i in wanted:
            batch.logits[i] = True
        if code := llama_cpp.llama_decode(self.pointer, batch):
            raise RuntimeError(f"llama.cpp cannot run {len(ids)} tokens: llama_decode returned {code}")
        self._used += len(ids)
        if not wanted:
            return None
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.pointer), (len(wanted), self._model.tokens))
