"""Checkpoints of real sizes, with random weights: ``python -m benchmarks.checkpoints SHAPE FOLDER``.

The shapes, names of tensors, vocabularies and config values are the published models'; everything else (tokenizer,
chat template, card) is the small sample's of the family. The tokenizers of Phi-4 and Phi-4-mini are of true size. That
of Phi-3.5-mini has 2,011 tokens of the 32,064 ids, and the rotary factors rise as the sample's do: neither changes what
a build takes.

The weights are as bfloat16 numbers from a normal distribution. One block of them is drawn, and each tensor is cut out
of it from random places, scaled by a random power of two. Neither the memory nor the time of any tool depends on more
than that: no tool compares tensors with each other, but by a digest. ``sparse`` leaves holes instead, which read as
zeros: honest for memory and disk, not for time.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bot.building.sample import make_sample
from bot.progress import Silent
from bot.records.artifacts import Json

SHARD = 5 * 10**9  #: bytes at most in a file, as on the Hub
_BLOCK = 1 << 25  # numbers: 64 MiB
_SPREAD = 0.02  # what Phi's config calls initializer_range

Weights = Any  # an array of uint16: bfloat16 as its bits


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A published model's shape. ``config`` are the values that its config.json has and the sample's has not."""

    family: str
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    config: dict[str, Json] = field(default_factory=dict)

    @property
    def head(self) -> int:
        """Dimensions of a head."""
        return self.hidden // self.heads


_LONG = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
SHAPES = {
    "phi-3.5-mini": Shape(
        family="phi-3.5-mini",
        hidden=3072,
        layers=32,
        heads=32,
        key_value_heads=32,
        intermediate=8192,
        vocabulary=32064,
        config=_LONG,
    ),
    "phi-4-mini": Shape(
        family="phi-4-mini",
        hidden=3072,
        layers=32,
        heads=24,
        key_value_heads=8,
        intermediate=8192,
        vocabulary=200064,
        config=_LONG,
    ),
    "phi-4": Shape(
        family="phi-4",
        hidden=5120,
        layers=40,
        heads=40,
        key_value_heads=10,
        intermediate=17920,
        vocabulary=100352,
        config={"max_position_embeddings": 16384, "original_max_position_embeddings": 16384},
    ),
}


def make(
    shape: Shape,
    sample: Path,
    out: Path,
    *,
    layers: int | None = None,
    sparse: bool = False,
    shard: int = SHARD,
    seed: int = 0,
) -> Path:
    """Write a checkpoint into the new folder ``out``, and return it. ``sample`` is one of the shape's family.

    ``layers`` are fewer than the model has, ``shard`` the bytes that a file has at most. In little memory.
    """
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in sample.iterdir():
        if file.suffix != ".safetensors" and not file.name.endswith(".index.json"):
            shutil.copyfile(file, partial / file.name)
    config = _config(shape, json.loads((sample / "config.json").read_text(encoding="utf-8")), layers or shape.layers)
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer = json.loads((sample / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer["model_max_length"] = config["max_position_embeddings"]
    (partial / "tokenizer_config.json").write_text(
        json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    _write_weights(dict(_tensors(config)), shard, None if sparse else np.random.default_rng(seed), partial)
    partial.rename(out)
    return out


def parameters(shape: Shape, layers: int | None = None) -> int:
    """Return how many weights a checkpoint has."""
    config = _config(shape, {"tie_word_embeddings": shape.family == "phi-4-mini"}, layers or shape.layers)
    return sum(_count(tensor) for _, tensor in _tensors(config))


def _config(shape: Shape, sample: dict[str, Json], layers: int) -> dict[str, Json]:
    """Return config.json. It names no code: there is none in the folder."""
    sizes = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": shape.key_value_heads,
        "vocab_size": shape.vocabulary,
    }
    config = {key: value for key, value in (sample | sizes | shape.config).items() if key != "auto_map"}
    if rope := config.get("rope_scaling"):
        turned = int(shape.head * config.get("partial_rotary_factor", 1))
        config["rope_scaling"] = {
            key: _stretched(value, turned // 2) if isinstance(value, list) else value for key, value in rope.items()
        }
    return dict(sorted(config.items()))


def _stretched(factors: list[float], count: int) -> list[float]:
    """Return so many factors that rise as the given ones do."""
    places = np.linspace(0, len(factors) - 1, count)
    return [round(float(f), 4) for f in np.interp(places, range(len(factors)), factors)]


def _tensors(config: dict[str, Json]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of all tensors, in the order of the modules."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    both = 2 * config["num_key_value_heads"] * (hidden // config["num_attention_heads"])
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        yield f"{layer}self_attn.o_proj.weight", (hidden, hidden)
        yield f"{layer}self_attn.qkv_proj.weight", (hidden + both, hidden)
        yield f"{layer}mlp.gate_up_proj.weight", (2 * inner, hidden)
        yield f"{layer}mlp.down_proj.weight", (hidden, inner)
        yield f"{layer}input_layernorm.weight", (hidden,)
        yield f"{layer}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocabulary, hidden)


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _write_weights(
    tensors: dict[str, tuple[int, ...]], most: int, random: np.random.Generator | None, out: Path
) -> None:
    """Write the files and, where there are several, their index. Without ``random`` they are holes."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = most
    for name, shape in tensors.items():
        room -= 2 * _count(shape)
        if room < 0 and shards[-1]:
            shards.append({})
            room = most - 2 * _count(shape)
        shards[-1][name] = shape
    block = None if random is None else _drawn(random, min(_BLOCK, max(_count(shape) for shape in tensors.values())))
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(dict(sorted(shard.items())), block, random, out / file)
        places |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        total = sum(2 * _count(shape) for shape in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _drawn(random: np.random.Generator, count: int) -> Weights:
    return _bfloat16(random.standard_normal(count, dtype=np.float32) * _SPREAD)


def _write_shard(
    tensors: dict[str, tuple[int, ...]], block: Weights, random: np.random.Generator | None, path: Path
) -> None:
    header: dict[str, Json] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * _count(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        if random is None:
            file.truncate(file.tell() + end)
            return
        for shape in tensors.values():
            if len(shape) == 1:  # a norm
                file.write(_bfloat16(random.normal(1, 0.05, shape).astype(np.float32)))
            else:
                _write_matrix(_count(shape), block, random, file)


def _write_matrix(count: int, block: Weights, random: np.random.Generator, file: Any) -> None:
    scale = np.uint16(random.integers(0, 3) << 7)  # the exponent's lowest bit is bit 7: as it is, or times 2 or 4
    while count:
        begin = int(random.integers(0, len(block) - 1))
        part = block[begin : begin + count]
        file.write(part + scale if scale else part)
        count -= len(part)


def _bfloat16(values: Any) -> Weights:
    """Round float32 to the nearest bfloat16, and return the bits. None of the values is so large that it overflows."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main() -> None:
    """Make one checkpoint, and the sample that it takes its tokenizer from."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--sparse", action="store_true", help="leave holes instead of weights")
    parser.add_argument("--sample", type=Path, help="a small checkpoint of the family; by default, one is made")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    sample: Path = options.sample or options.out.with_name(f".sample-{shape.family}")
    if not sample.exists():
        make_sample(sample, Silent(), family=shape.family)
    make(shape, sample, options.out.absolute(), layers=options.layers, sparse=options.sparse)


if __name__ == "__main__":
    main()
