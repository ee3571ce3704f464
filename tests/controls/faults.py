"""The faults: what a broken converter, a damaged disk or a changed source would do, and which check has to see it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bot.catalogue.families import DEFAULT
from bot.records.artifacts import Json
from tests.controls import artifacts
from tests.controls.checkpoint import Tensors, bfloat16, change_json, change_tensors, float32

FORMATS = ("gguf", "onnx", "openvino", "mlx")
Damage = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault put into the source that a file is built from, or into the built file, by format.

    ``seen_by`` is the check that has to fail, whatever else does, and ``seen_by_in`` another one for a format. The file
    claims to be of the true source, and its record holds its own hashes: only what it says and does can give it away.
    """

    name: str
    seen_by: str
    source: Damage | None = None
    artifact: Mapping[str, Damage] = field(default_factory=dict)
    family: str = DEFAULT
    seen_by_in: Mapping[str, str] = field(default_factory=dict)

    def seen_in(self, format_name: str) -> str:
        """Return the check that has to fail in a format."""
        return self.seen_by_in.get(format_name, self.seen_by)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats in which it makes sense."""
        return FORMATS if self.source else tuple(f for f in FORMATS if f in self.artifact)


def _swap_layers(source: Path) -> None:
    def swap(tensors: Tensors) -> None:
        for name in [n for n in tensors if ".layers.1." in n]:
            other = name.replace(".layers.1.", ".layers.2.")
            tensors[name], tensors[other] = tensors[other], tensors[name]

    change_tensors(source, swap)


def _permute_queries_and_keys(source: Path) -> None:
    """Interleave the halves of each head, as models with the other layout of rotary dimensions need."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["hidden_size"] // heads

    def permute(tensors: Tensors) -> None:
        for name in [n for n in tensors if n.endswith("qkv_proj.weight")]:
            rows = tensors[name]
            turned = rows[: (heads + kv) * size].reshape(heads + kv, 2, size // 2, -1).swapaxes(1, 2)
            tensors[name] = np.concatenate([turned.reshape((heads + kv) * size, -1), rows[(heads + kv) * size :]])

    change_tensors(source, permute)


def _wrong_base(source: Path) -> None:
    def change(config: Json) -> None:
        config["rope_theta"] *= 10

    change_json(source / "config.json", change)


def _exchange_factors(source: Path) -> None:
    def change(config: Json) -> None:
        rope = config["rope_scaling"]
        rope["long_factor"], rope["short_factor"] = rope["short_factor"], rope["long_factor"]

    change_json(source / "config.json", change)


def _shift_embedding_row(source: Path) -> None:
    def shift(tensors: Tensors) -> None:
        tensors["model.embed_tokens.weight"][700] = tensors["model.embed_tokens.weight"][701]

    change_tensors(source, shift)


def _drop_norms(source: Path) -> None:
    def drop(tensors: Tensors) -> None:
        for name in [n for n in tensors if "norm" in n]:
            tensors[name] = bfloat16(np.ones(tensors[name].shape))

    change_tensors(source, drop)


def _untie(source: Path) -> None:
    """Give the model an output matrix of its own, as a converter does that does not know that it is tied."""

    def untie(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"][::-1].copy()

    def say(config: Json) -> None:
        config["tie_word_embeddings"] = False

    change_tensors(source, untie)
    change_json(source / "config.json", say)


def _other_model(source: Path) -> None:
    """Replace all weights by random ones of the same spread: another model of the same shapes."""

    def replace(tensors: Tensors) -> None:
        chance = np.random.default_rng(0)
        for name, values in tensors.items():
            if values.ndim > 1:
                tensors[name] = bfloat16(chance.normal(0, float32(values).std(), values.shape))

    change_tensors(source, replace)


def _one_newline_less(source: Path) -> None:
    def change(config: Json) -> None:
        template = config["chat_template"]
        assert template.count("'<|user|>\n'") == 1
        config["chat_template"] = template.replace("'<|user|>\n'", "'<|user|>'")

    change_json(source / "tokenizer_config.json", change)


FAULTS = (
    Fault(name="two layers swapped", seen_by="weights", source=_swap_layers),
    Fault(name="rows of queries and keys permuted", seen_by="weights", source=_permute_queries_and_keys),
    Fault(name="rotary base ten times as large", seen_by="rotary", source=_wrong_base),
    Fault(name="long and short factors exchanged", seen_by="rotary", source=_exchange_factors),
    Fault(name="one embedding row shifted", seen_by="weights", source=_shift_embedding_row),
    Fault(name="norm weights dropped", seen_by="weights", source=_drop_norms),
    Fault(name="one quantization scale doubled", seen_by="weights", artifact=artifacts.DOUBLE_A_SCALE),
    Fault(name="output matrix not tied", seen_by="weights", source=_untie, family="phi-4-mini"),
    Fault(name="the end of a turn no stop token", seen_by="stop tokens", artifact=artifacts.FORGET_END),
    Fault(
        name="another pre-tokenizer",
        seen_by="tokenizer",
        artifact=artifacts.OTHER_PRE_TOKENIZER,
        seen_by_in={"onnx": "loading"},
        family="phi-4-mini",
    ),
    Fault(name="one newline less in the chat template", seen_by="chat template", source=_one_newline_less),
    Fault(name="data file cut short", seen_by="integrity", artifact=artifacts.CUT_SHORT),
    Fault(name="another model of the same shapes", seen_by="weights", source=_other_model),
)
