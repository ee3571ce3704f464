"""Checkpoints of any size: the shape, tokenizer and config keys of a Phi, and random weights. Needs no toolchain."""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.records import Json

HEAD = 64  # what the samples have, and so their rotary factors fit
_CHUNK = 1 << 24  # bytes

# The upper byte of a bfloat16 between 0.002 and 0.03 either way, about as trained weights are.
_UPPER = bytes((0x3B, 0x3C, 0xBB, 0xBC)[i % 4] for i in range(256))


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a checkpoint: its vocabulary is that of ``family`` or, where it is given, ``vocabulary``."""

    family: str
    vocabulary: int
    hidden: int
    layers: int
    feed_forward: int

    @property
    def name(self) -> str:
        """A name that is safe in a path."""
        return f"{self.family}-{self.hidden}x{self.layers}"


def make(size: Size, sample: Path, out: Path) -> Path:
    """Write a checkpoint into a new folder, with everything but weights and sizes as the sample has it; return it."""
    out.mkdir(parents=True)
    for file in sample.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, out / file.name)
    config: dict[str, Json] = json.loads((sample / "config.json").read_text(encoding="utf-8"))
    heads = size.hidden // HEAD
    config |= {
        "hidden_size": size.hidden,
        "intermediate_size": size.feed_forward,
        "num_attention_heads": heads,
        "num_hidden_layers": size.layers,
        "num_key_value_heads": heads,
        "vocab_size": size.vocabulary,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    _write(dict(_shapes(config)), out / "model.safetensors")
    return out


def _shapes(config: dict[str, Json]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        yield f"{layer}input_layernorm.weight", (hidden,)
        yield f"{layer}post_attention_layernorm.weight", (hidden,)
        yield f"{layer}self_attn.qkv_proj.weight", (3 * hidden, hidden)
        yield f"{layer}self_attn.o_proj.weight", (hidden, hidden)
        yield f"{layer}mlp.gate_up_proj.weight", (2 * inner, hidden)
        yield f"{layer}mlp.down_proj.weight", (hidden, inner)


def _write(shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    header: dict[str, Json] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        begin = end
        end += 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    numbers = random.Random(0)  # noqa: S311 - weights, no secrets
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        while end:
            count = min(end, _CHUNK)
            weights = bytearray(numbers.randbytes(count))
            weights[1::2] = weights[1::2].translate(_UPPER)
            file.write(weights)
            end -= count
