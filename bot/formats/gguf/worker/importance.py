"""Measure how much each input of a matrix matters to a model: what llama.cpp's llama-imatrix does, without building it.

llama.cpp calls back for each step of its computation. From the matrix products the squares of the activations are added
up, input by input, and of a mixture of experts for each expert apart. The file is of llama.cpp's own format, so that
llama-quantize takes it too.
"""

import ctypes
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.gguf.worker import ggml
from bot.formats.gguf.worker.imatrix import Array, ImportanceMatrix
from bot.formats.gguf.worker.llama import LlamaModel
from bot.records.artifacts import Json
from bot.records.tasks import ImportanceTask
from bot.worker.fast import require_versions
from bot.worker.harness import Reporter, peak_memory

FILE = "imatrix.gguf"
CHUNK = 512  #: tokens that are read together, as llama-imatrix does
_BATCH = 256  # tokens at once: llama.cpp holds logits of each, 205 MB for a vocabulary of 200,064
_FEWEST = 16  # rows of activations; llama-imatrix takes no smaller products
_PINNED = {"llama-cpp-python": "0.3.36"}  # whose struct this is:


class _Tensor(ctypes.Structure):
    """ggml_tensor."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )

    def array(self, dtype: Any) -> Array:
        """Return its numbers where they lie, in llama.cpp's memory; the last axis is its first."""
        span = sum((n - 1) * step for n, step in zip(self.ne, self.nb, strict=True)) + np.dtype(dtype).itemsize
        memory = (ctypes.c_char * span).from_address(self.data)
        return np.ndarray(tuple(self.ne)[::-1], dtype, memory, strides=tuple(self.nb)[::-1])


@dataclass(kw_only=True)
class Sums:
    """Of a matrix: ``squares`` of its inputs added up, float64 of shape (experts, inputs), and ``counts`` of tokens.

    A matrix that is not of a mixture has one expert.
    """

    squares: Array
    counts: Array


def measure(task_json: Json, report: Reporter) -> Json:
    """Measure a model on a text; leave ``imatrix.gguf`` in the task's folder.

    Returns its ``sha256``, ``chunks`` and ``tokens`` read, ``entries``, ``peak_memory`` in bytes and ``seconds``.
    Raises ValueError when llama.cpp cannot load the model or the text is too short, and NotCovered for another one.
    """
    require_versions(_PINNED)
    started = time.monotonic()
    task = ImportanceTask.from_json(task_json)
    model = LlamaModel(Path(task.model))
    ids = _tokens(model, Path(task.text).read_text(encoding="utf-8"))
    chunks = len(ids) // CHUNK
    if not chunks:
        raise ValueError(f"the text has {len(ids)} tokens; an importance matrix takes {CHUNK} at least")
    collector = ActivationCollector()
    context = _Context(model, task.threads, collector)
    for i in range(chunks):
        context.read(ids[i * CHUNK : (i + 1) * CHUNK])
        report.progress("measuring the importance of weights", i + 1, chunks, "chunks")
    context.close()
    file = Path(task.out) / FILE
    write(file, collector.found, dataset=task.name, chunks=chunks)
    return {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "chunks": chunks,
        "tokens": chunks * CHUNK,
        "entries": len(collector.found),
        "peak_memory": peak_memory(),
        "seconds": round(time.monotonic() - started, 3),
    }


def _tokens(model: LlamaModel, text: str) -> list[int]:
    """Return the ids of a text, with what begins one where the vocabulary asks for it at the head of every chunk."""
    import llama_cpp

    ids = model.tokenize(text)
    vocabulary = llama_cpp.llama_model_get_vocab(model.pointer)
    if llama_cpp.llama_vocab_get_add_bos(vocabulary):
        bos = llama_cpp.llama_vocab_bos(vocabulary)
        ids = [bos, *ids]
        ids[::CHUNK] = [bos] * len(ids[::CHUNK])
    return ids


class ActivationCollector:
    """Adds up what llama.cpp shows of its products. ``found`` is by the name of the matrix in the GGUF file."""

    def __init__(self) -> None:
        self.found: dict[str, Sums] = {}
        self.error: BaseException | None = None
        name_of = ggml.library().ggml_op_name
        name_of.restype, name_of.argtypes = ctypes.c_char_p, (ctypes.c_int,)
        numbers = {name_of(i): i for i in range(64)}
        self._product, self._of_experts = numbers[b"MUL_MAT"], numbers[b"MUL_MAT_ID"]

    def __call__(self, pointer: int, ask: bool, _: Any) -> bool:
        """Say whether a step is wanted, when asked; else take it. What goes wrong stops llama.cpp and is kept."""
        try:
            step = _Tensor.from_address(pointer)
            if ask:
                return self._wanted(step)
            if step.op in (self._product, self._of_experts):
                self._take(step)
        except BaseException as error:  # noqa: BLE001 - nobody above: it is C that called
            self.error = error
            return False
        return True

    def _wanted(self, step: _Tensor) -> bool:
        if step.op == self._of_experts:
            return True
        if step.op != self._product:
            return False
        matrix, activations = (_Tensor.from_address(step.src[i]) for i in range(2))
        return bool(activations.ne[1] >= _FEWEST and activations.type == ggml.F32 and matrix.name.startswith(b"blk."))

    def _take(self, step: _Tensor) -> None:
        matrix, activations = (_Tensor.from_address(step.src[i]) for i in range(2))
        rows = activations.array(np.float32)
        experts, inputs = (matrix.ne[2] if step.op == self._of_experts else 1), rows.shape[-1]
        zero = Sums(squares=np.zeros((experts, inputs)), counts=np.zeros(experts, np.int64))
        sums = self.found.setdefault(matrix.name.decode(), zero)
        if step.op == self._of_experts:
            chosen = _Tensor.from_address(step.src[2]).array(np.int32)[0, 0]  # of shape (tokens, experts of each)
            of_token = np.broadcast_to(rows[0], (*chosen.shape, inputs))  # one row for all its experts, or one for each
            for expert in np.unique(chosen):
                _add(sums, expert, of_token[chosen == expert])
        else:
            _add(sums, 0, rows.reshape(-1, inputs))
        if not np.isfinite(sums.squares).all():
            raise ValueError(f"activations of {matrix.name.decode()} are not finite")


def _add(sums: Sums, expert: int, rows: Array) -> None:
    # In float64, and so unlike llama-imatrix, whose float32 sums depend on their order in the fourth digit.
    sums.squares[expert] += np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
    sums.counts[expert] += len(rows)


class _Context:
    """Room for one chunk, in which every step is shown to a collector."""

    def __init__(self, model: LlamaModel, threads: int, collector: ActivationCollector) -> None:
        import llama_cpp

        self._collector = collector
        self._callback = llama_cpp.ggml_backend_sched_eval_callback(collector)  # held as long as the context
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = CHUNK, _BATCH, _BATCH
        params.n_threads = params.n_threads_batch = threads
        params.cb_eval = self._callback
        self._pointer = llama_cpp.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise MemoryError(f"llama.cpp cannot allocate a context of {CHUNK} tokens")
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)

    def read(self, ids: Sequence[int]) -> None:
        """Read a chunk from its beginning. Raises what the collector raised."""
        import llama_cpp

        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._pointer), True)
        batch = self._batch
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i] = token, start + i
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
                batch.logits[i] = True  # of other tokens llama.cpp leaves out the end of the last layer
            code = llama_cpp.llama_decode(self._pointer, batch)
            if self._collector.error is not None:
                raise self._collector.error
            if code:
                raise RuntimeError(f"llama.cpp cannot run {len(part)} tokens: llama_decode returned {code}")

    def close(self) -> None:
        """Free the context."""
        import llama_cpp

        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._pointer)


# ---- the file ------------------------------------------------------------------------------------------------------


def write(file: Path, found: dict[str, Sums], *, dataset: str, chunks: int) -> None:
    """Write sums as llama-imatrix does. ``dataset`` names the text."""
    import gguf

    writer = gguf.GGUFWriter(file, "")
    writer.kv_data[0].clear()  # the architecture of a model, which this is not
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", [dataset])
    writer.add_uint32("imatrix.chunk_count", chunks)
    writer.add_uint32("imatrix.chunk_size", CHUNK)
    for name, sums in sorted(found.items()):
        writer.add_tensor(f"{name}.in_sum2", sums.squares.astype(np.float32))
        writer.add_tensor(f"{name}.counts", sums.counts.astype(np.float32)[:, np.newaxis])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(file: Path) -> ImportanceMatrix:
    """Read a matrix as llama-quantize does: means, and 1 for an expert that no token was sent to.

    Raises ValueError for a file that is none.
    """
    import gguf

    reader = gguf.GGUFReader(file)
    tensors = {t.name: t.data for t in reader.tensors}
    fields = {name: reader.get_field(f"imatrix.{name}") for name in ("datasets", "chunk_count")}
    if None in fields.values() or not tensors:
        raise ValueError(f"{file.name} is not an importance matrix")
    entries = {}
    for name in sorted(n.removesuffix(".in_sum2") for n in tensors if n.endswith(".in_sum2")):
        squares, counts = tensors[f"{name}.in_sum2"], tensors[f"{name}.counts"].reshape(-1, 1)
        means = np.divide(squares.reshape(len(counts), -1), counts, out=np.ones_like(squares), where=counts > 0)
        entries[name] = np.ascontiguousarray(means, np.float32).ravel()
    datasets = fields["datasets"].contents()
    return ImportanceMatrix(
        file=file.name,
        dataset=str(datasets[0]) if datasets else "",
        chunks=int(fields["chunk_count"].contents()),
        entries=entries,
    )
