"""A text run at once by onnxruntime alone, where there is no memory for the cache of onnxruntime-genai.

The cache holds the keys and values of all layers for all positions: of a model of 3.8 billion parameters 3.4 GB for the
4,352 that reach past its LongRoPE switch. It only saves computing them again for the next tokens, and a text that is
run at once has none: all layers write their keys and values to the same place, one after the other. Graph, weights and
kernels are those that onnxruntime-genai has run, and so are the logits (compared with two layers of true width: 0.0).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.onnx.worker.files import CONFIG, DATA, MODEL, read_graph
from bot.formats.onnx.worker.last_logits import LOGITS, POSITIONS, with_positions
from bot.records.artifacts import Json

Array = Any  # numpy is not installed where mypy runs

_PAST, _PRESENT = "past_key_values.", "present."
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
LOADED = 1.2  # times the file: kernels for 4 bits keep scales twice, and a sum of each block
STATES = 28  # numbers beside the cache, of each position that is run at once, for each of the model's width
_LIBRARIES = 150_000_000  # bytes


def on_cpu(folder: Path) -> bool:
    """Say whether onnxruntime-genai runs a folder on the processor, in whose memory its cache then is."""
    return not _decoder(folder)["session_options"].get("provider_options")


def memory(folder: Path, positions: int, at_once: int) -> int:
    """Return the bytes that onnxruntime-genai takes for a text of so many positions, so many of them run at once."""
    decoder = _decoder(folder)
    pasts = [v for v in read_graph(folder).graph.inputs if v.name.startswith(_PAST)]
    row = decoder["num_key_value_heads"] * decoder["head_size"]
    cache = positions * row * sum(v.dtype.itemsize for v in pasts)
    states = at_once * STATES * decoder["hidden_size"] * 4
    needed: int = round(LOADED * (folder / DATA).stat().st_size) + cache + states + _LIBRARIES
    return needed


def logits(
    folder: Path, ids: Sequence[int], positions: Sequence[int], threads: int, entries: Mapping[str, str]
) -> Array:
    """Return float32 logits of some positions of a text, of shape (len(positions), vocabulary).

    ``entries`` are of the session's configuration, beside its threads.
    Raises ValueError for a graph that takes something other than ids, their mask and positions, and a cache.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(with_positions(folder), options, providers=["CPUExecutionProvider"])
    head_size = _decoder(folder)["head_size"]
    binding = session.io_binding()
    for wanted in session.get_inputs():
        binding.bind_cpu_input(wanted.name, _given(wanted, ids, positions, head_size))
    places: dict[str, Any] = {}  # of keys and of values
    for output in session.get_outputs():
        if not output.name.startswith(_PRESENT):
            binding.bind_output(output.name, "cpu")
            continue
        kind = output.name.rpartition(".")[2]
        if kind not in places:
            there = np.empty((1, output.shape[1], len(ids), head_size), dtype=_TYPES[output.type])
            places[kind] = onnxruntime.OrtValue.ortvalue_from_numpy(there)
        binding.bind_ortvalue_output(output.name, places[kind])
    session.run_with_iobinding(binding)
    named = zip(session.get_outputs(), binding.get_outputs(), strict=True)
    rows = next(value for output, value in named if output.name == LOGITS).numpy()
    return rows[0].astype(np.float32, copy=False)


def _given(wanted: Any, ids: Sequence[int], positions: Sequence[int], head_size: int) -> Array:
    """Return what a graph is given for one of its inputs: of a cache, nothing yet."""
    match wanted.name:
        case "input_ids":
            return np.array([ids], dtype=np.int64)
        case "attention_mask":
            return np.ones((1, len(ids)), dtype=np.int64)
        case "position_ids":
            return np.arange(len(ids), dtype=np.int64)[None]
        case name if name == POSITIONS:
            return np.array(positions, dtype=np.int64)
        case name if name.startswith(_PAST):
            return np.empty((1, wanted.shape[1], 0, head_size), dtype=_TYPES[wanted.type])
    raise ValueError(f"{MODEL} takes {wanted.name!r}, which is not known")


def _decoder(folder: Path) -> dict[str, Json]:
    decoder: dict[str, Json] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model"]["decoder"]
    return decoder
