"""Write the weights of a sample as publishers do: safetensors, in one file or in shards with an index."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

Tensor = Any  # torch is not installed where mypy runs


def write_weights(weights: dict[str, Tensor], shards: int, out: Path) -> None:
    """Write tensors in the order of their names into ``shards`` files of about the same size in the folder ``out``.

    There is an empty shard for none of them: a model with fewer tensors than ``shards`` raises ValueError.
    """
    if shards == 1:
        _save(weights, out / "model.safetensors")
        return
    if shards > len(weights):
        raise ValueError(f"{len(weights)} tensors cannot fill {shards} shards")
    index: dict[str, str] = {}
    for n, names in enumerate(_shares(weights, shards), start=1):
        file = f"model-{n:05d}-of-{shards:05d}.safetensors"
        _save({name: weights[name] for name in names}, out / file)
        index |= dict.fromkeys(names, file)
    total = sum(w.numel() * w.element_size() for w in weights.values())
    described = {"metadata": {"total_size": total}, "weight_map": index}
    (out / "model.safetensors.index.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _shares(weights: dict[str, Tensor], shards: int) -> list[list[str]]:
    """Cut the names into runs of about the same size in bytes, none of them empty."""
    names, sizes = list(weights), [w.numel() * w.element_size() for w in weights.values()]
    shares: list[list[str]] = []
    first = 0
    for left in range(shards, 0, -1):
        share, last = sum(sizes[first:]) / left, len(names) - left + 1
        end = first + 1
        while end < last and (left == 1 or sum(sizes[first:end]) + sizes[end] / 2 < share):
            end += 1
        shares.append(names[first:end])
        first = end
    return shares


def _save(weights: dict[str, Tensor], path: Path) -> None:
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)  # written for its owner alone
