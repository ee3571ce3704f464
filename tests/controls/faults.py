"""The faults: what a broken converter, a damaged disk or a changed source would do, and which check has to see it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bot.catalogue.families import DEFAULT
from bot.records.artifacts import Json
from tests.controls.artifacts import (
    DOUBLED_SCALE,
    LARGER_SCALE,
    NO_STOP_TOKEN,
    OTHER_PRE_TOKENIZER,
    SHIFTED_BLOCK,
    cut_short,
)
from tests.controls.checkpoint import Tensors, bfloat16, change_json, change_tensors, float32
from tests.formats.hooks import Damage, all_hooks, hooks

FORMATS = tuple(all_hooks())
_SIGN = 1 << 15  # of a number in bfloat16


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault put into the source that a file is built from, or into the built file: in one way, or in a format's own.

    ``seen_by`` is the check that has to fail, whatever else does, where a format's hooks do not name another one. The
    file claims to be of the true source, and its record holds its own hashes: only what it says and does can give it
    away. ``prepare`` gives a checkpoint first what the fault is about, where the family's sample does not have it.
    ``real`` says whether the really trained model (REAL in catalogue/families.py) has what it damages.
    """

    name: str
    seen_by: str
    source: Damage | None = None
    artifact: Damage | None = None
    prepare: Damage | None = None
    family: str = DEFAULT
    real: bool = False

    def damage(self, format_name: str) -> Damage:
        """Return what puts it into a built file of a format."""
        return self.artifact or hooks(format_name).faults[self.name]

    def seen_in(self, format_name: str) -> str:
        """Return the check that has to fail in a format."""
        return hooks(format_name).seen_by.get(self.name, self.seen_by)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats in which it makes sense."""
        built = tuple(n for n in FORMATS if self.family not in hooks(n).refused)
        return built if self.source or self.artifact else tuple(n for n in built if self.name in hooks(n).faults)


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


def _turn_a_head_the_other_way(source: Path) -> None:
    """Change the sign of half of one head's queries and keys, as a converter does that has another sign of the sine."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]

    def turn(tensors: Tensors) -> None:
        rows = tensors["model.layers.1.self_attn.qkv_proj.weight"]
        for first in (0, heads * size):
            rows[first + size // 2 : first + size] ^= _SIGN

    change_tensors(source, turn)


def _exchange_experts(source: Path) -> None:
    def exchange(tensors: Tensors) -> None:
        first = [n for n in tensors if ".layers.1." in n and ".experts.0." in n]
        assert first, "experts have other names"
        for name in first:
            other = name.replace(".experts.0.", ".experts.1.")
            tensors[name], tensors[other] = tensors[other], tensors[name]

    change_tensors(source, exchange)


def _drop_a_bias(source: Path) -> None:
    def drop(tensors: Tensors) -> None:
        tensors["model.layers.1.self_attn.v_proj.bias"][:] = 0

    change_tensors(source, drop)


def _wrong_base(source: Path) -> None:
    def change(config: Json) -> None:
        config["rope_theta"] *= 10

    change_json(source / "config.json", change)


def _larger_epsilon(source: Path) -> None:
    def change(config: Json) -> None:
        config["rms_norm_eps"] *= 10

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


def _tie(source: Path) -> None:
    """Let the output matrix be the embedding's."""

    def tie(tensors: Tensors) -> None:
        tensors.pop("lm_head.weight", None)

    def say(config: Json) -> None:
        config["tie_word_embeddings"] = True

    change_tensors(source, tie)
    change_json(source / "config.json", say)


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
    Fault(name="two layers swapped", seen_by="weights", source=_swap_layers, real=True),
    Fault(name="rows of queries and keys permuted", seen_by="weights", source=_permute_queries_and_keys, real=True),
    Fault(name="one head turned the other way", seen_by="weights", source=_turn_a_head_the_other_way, real=True),
    Fault(name="two experts exchanged", seen_by="weights", source=_exchange_experts, family="phi-3.5-moe"),
    Fault(name="a bias dropped", seen_by="weights", source=_drop_a_bias, family="phi-2"),
    Fault(name="rotary base ten times as large", seen_by="rotary", source=_wrong_base, real=True),
    Fault(name="long and short factors exchanged", seen_by="rotary", source=_exchange_factors),
    Fault(name="one embedding row shifted", seen_by="weights", source=_shift_embedding_row, real=True),
    Fault(name="norm weights dropped", seen_by="weights", source=_drop_norms, real=True),
    Fault(name=DOUBLED_SCALE, seen_by="weights", real=True),
    Fault(name=LARGER_SCALE, seen_by="weights", real=True),
    Fault(name=SHIFTED_BLOCK, seen_by="weights", real=True),
    Fault(name="an epsilon ten times as large", seen_by="constants", source=_larger_epsilon, real=True),
    Fault(name="output matrix not tied", seen_by="weights", source=_untie, prepare=_tie, real=True),
    Fault(name=NO_STOP_TOKEN, seen_by="stop tokens"),
    Fault(name=OTHER_PRE_TOKENIZER, seen_by="tokenizer", family="phi-4"),
    Fault(name="one newline less in the chat template", seen_by="chat template", source=_one_newline_less),
    Fault(name="data file cut short", seen_by="integrity", artifact=cut_short, real=True),
    Fault(name="another model of the same shapes", seen_by="weights", source=_other_model, real=True),
)
