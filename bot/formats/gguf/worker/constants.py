"""The numbers beside the weights of a GGUF file, as its metadata state them for all layers at once."""

from collections.abc import Iterator
from pathlib import Path

from bot.formats.gguf.worker.file import read_header, the_file
from bot.records.tasks import VerifyTask
from bot.worker.constants import CHOSEN, EPSILON, HEADS, KEY_HEADS, WINDOW, Constant, window

_STATED = {
    "attention.layer_norm_epsilon": EPSILON,
    "attention.layer_norm_rms_epsilon": EPSILON,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KEY_HEADS,
    "expert_used_count": CHOSEN,
}
_WINDOW, _LONGEST = "attention.sliding_window", "context_length"  # 0 where there is none

# Sizes, which llama.cpp holds against those of the tensors, and what rotary.py reads.
_ELSEWHERE = {"block_count", "embedding_length", "expert_count", "feed_forward_length", "vocab_size", _LONGEST}
_ROTARY = "rope."


def constants(task: VerifyTask) -> Iterator[Constant]:
    """Yield every number that llama.cpp computes with as the metadata have it.

    Raises ValueError for metadata of the architecture that no Phi's converter writes: llama.cpp may compute with them.
    """
    metadata = read_header(the_file(Path(task.artifact))).metadata
    architecture = f"{metadata['general.architecture']}."
    own = {key.removeprefix(architecture): v for key, v in metadata.items() if key.startswith(architecture)}
    for key, value in own.items():
        if key in _STATED and value is not None:
            yield Constant(what=_STATED[key], value=value)
        elif key == _WINDOW and value is not None:
            yield Constant(what=WINDOW, value=window(value, own[_LONGEST]))
        elif key not in _ELSEWHERE and not key.startswith(_ROTARY):
            raise ValueError(f"the metadata have {architecture}{key}, which no Phi has")
