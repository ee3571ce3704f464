"""The rotary embeddings of a GGUF file, as llama.cpp reads them from its metadata and its tensors."""

from pathlib import Path

import numpy as np

from bot.formats.gguf.worker.file import read_header, the_file
from bot.formats.gguf.worker.weights import dequantized
from bot.records.tasks import VerifyTask
from bot.worker.rotary import Rotary

_BASE = 10000.0  # where the metadata name none


def rotary(task: VerifyTask) -> Rotary:
    """Return the angles that llama.cpp turns queries and keys by. Raises KeyError for metadata that are missing."""
    file = the_file(Path(task.artifact))
    header = read_header(file)
    architecture = header.metadata["general.architecture"]
    turned = header.metadata[f"{architecture}.rope.dimension_count"]
    base = header.metadata.get(f"{architecture}.rope.freq_base", _BASE)
    angles = 1.0 / base ** (np.arange(0, turned, 2) / turned)
    factors = {
        side: dequantized(file, header.tensors[name])
        for side in ("short", "long")
        if (name := f"rope_factors_{side}.weight") in header.tensors
    }
    if not factors:
        return Rotary(short=angles, short_scale=1.0)
    scale = header.metadata.get(f"{architecture}.rope.scaling.attn_factor", 1.0)
    return Rotary(short=angles / factors["short"], long=angles / factors["long"], short_scale=scale, long_scale=scale)
