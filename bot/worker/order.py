"""In which order a source is read, by several files that are written and by several workers: so it is read once."""

import re
from collections.abc import Iterator, Sequence

_LAYER = re.compile(r"\.layers\.(\d+)\.(.+)")
_WITHIN = (  # as a layer computes
    "input_layernorm",
    "self_attn",
    "post_attention_layernorm",
    "mlp",
    "block_sparse_moe.gate",
    "block_sparse_moe",
)
_LAST = re.compile(r"\.(o_proj|dense|down_proj|fc2|w2)\b")  # multiplied with what the others of its part give
_NUMBER = re.compile(r"(\d+)")


def model_order(name: str) -> tuple[int, int, int, bool, list[tuple[int, str]]]:
    """Return what tensors of a checkpoint are sorted by to be read as the model computes: embedding, layers, output.

    Workers that share a streamed source read in this order: of files that may be read in any, their own order differs.
    """
    found = _LAYER.search(name)
    if found is not None:
        part = found[2]
        within = next((i for i, start in enumerate(_WITHIN) if part.startswith(start)), len(_WITHIN))
        return 1, int(found[1]), within, _LAST.search(part) is not None, _natural(part)
    return 0 if "embed_tokens" in name else 3 if name.startswith("lm_head") else 2, 0, 0, False, _natural(name)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in _NUMBER.split(name)]


def stretches_in_order(files: Sequence[Sequence[tuple[str, ...]]]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Yield what is read next, with the files (by number) whose next stretch needs it, until all stretches are done.

    ``files`` are what each one's stretches need, in its order. The file that has the most left says what is next: one
    that a killed process left behind the others comes up to them. The graphs of all variants have their weights in one
    order, so each is read once; where two orders differ, some are read again.
    """
    at = [0] * len(files)
    while left := [i for i, file in enumerate(files) if at[i] < len(file)]:
        behind = max(left, key=lambda i: len(files[i]) - at[i])
        needed = files[behind][at[behind]]
        now = [i for i in left if files[i][at[i]] == needed]
        for i in now:
            at[i] += 1
        yield needed, now
