"""The meaning of an adapter_config.json: which base a LoRA changes, and by how much.

peft writes the file, with a key for each of its options. Those that change nothing in the merged weights are passed
over; any other that is set and is not known here is refused by its name, for nothing tells what it would change.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from bot.errors import AdapterError
from bot.records.artifacts import Json
from bot.records.digests import ADAPTER_CONFIG

# Options of training and of loading, and those whose effect is in the stored tensors already.
_PASSED_OVER = frozenset(
    {"auto_mapping", "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode", "layers_pattern"}
    | {"layers_to_transform", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "runtime_config"}
    | {"task_type"}
)
_READ = frozenset(
    {"alpha_pattern", "base_model_name_or_path", "bias", "fan_in_fan_out", "init_lora_weights", "lora_alpha"}
    | {"modules_to_save", "peft_type", "r", "rank_pattern", "revision", "target_modules", "use_dora", "use_rslora"}
)
_NOTHING: tuple[Json, ...] = (None, False, "", [], {})
_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")  # of training, which leave the base as it is
_BIASES = (None, "none", "lora_only", "all")
_MOST_RANK = 4096  # thousands are unusual, and memory is taken for each
_MOST_PATTERNS, _MOST_EXPRESSIONS = 20_000, 20
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,200}")
# An expression is run against names of modules: without groups that repeat and with two repetitions, it is quick.
_SAFE = re.compile(r"[A-Za-z0-9_.()|^$*+?\[\]\\-]{1,200}")
_REPEATED = re.compile(r"[*+?]")
_MOST_REPEATED, _MOST_ALPHA = 2, 1e6
_DEFAULT = 8  #: rank and alpha, where a config leaves them out
_NAME = 100  # characters of a base's name in a message

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA by its adapter_config.json: the ``base`` as it is written there, and its ``revision``, None for the head.

    ``ranks`` and ``alphas`` are by names of modules, or expressions for these, where they differ from ``rank`` and
    ``alpha``. ``stabilized`` scales by the square root of the rank (rsLoRA), and ``dora`` says that it has magnitudes.
    ``targets`` are the last parts of the names of modules that are all changed, as far as that is said, and ``saved``
    those that are stored whole. ``tied`` says that an embedding counts as the output matrix too.
    """

    base: str
    revision: str | None
    rank: int
    alpha: float
    ranks: dict[str, int]
    alphas: dict[str, float]
    stabilized: bool
    dora: bool
    targets: tuple[str, ...]
    saved: tuple[str, ...]
    tied: bool

    @property
    def kind(self) -> str:
        """What people call it."""
        return "DoRA" if self.dora else "LoRA"

    def rank_of(self, module: str) -> int:
        """Return the rank of what is added to a module."""
        return _of(module, self.ranks, self.rank)

    def scale_of(self, module: str) -> float:
        """Return the factor of what is added to a module."""
        rank = self.rank_of(module)
        return _of(module, self.alphas, self.alpha) / (math.sqrt(rank) if self.stabilized else rank)


def read_lora(config: Mapping[str, Json], *, where: str) -> Lora:
    """Return what an adapter_config.json says.

    Raises AdapterError for an adapter of another kind, an option that is not known here, and an impossible value.
    """
    kind, base = config.get("peft_type"), config.get("base_model_name_or_path")
    merge = f"Merge it with peft (merge_and_unload(), then save_pretrained) into {_said(base)}, and give that."
    if kind != "LORA":
        raise AdapterError(f"{where} is {called(config)} adapter, and only LoRA is merged here", hint=merge)
    for key in sorted(config.keys() - _PASSED_OVER - _READ):
        if config[key] not in _NOTHING:
            raise AdapterError(
                f"{ADAPTER_CONFIG} of {where} sets {key[:60]!a}, and what that changes is not merged here", hint=merge
            )
    if config.get("fan_in_fan_out") not in _NOTHING:
        raise _impossible(where, "fan_in_fan_out", "is set, which no matrix of a Phi's is stored for")
    start = config.get("init_lora_weights")
    if not any(start is known or (isinstance(start, str) and start == known) for known in _STARTS):
        what = f"is {str(start)[:40]!a}, which changes the base's own weights before the training begins"
        raise AdapterError(f"{ADAPTER_CONFIG} of {where}: init_lora_weights {what}", hint=merge)
    if config.get("bias") not in _BIASES:
        raise _impossible(where, "bias", f'is {str(config["bias"])[:40]!a}, not "none", "lora_only" or "all"')
    if not isinstance(base, str) or not base:
        raise _impossible(where, "base_model_name_or_path", "names no base")
    revision = config.get("revision")
    if revision is not None and (not isinstance(revision, str) or len(revision) > _NAME):
        raise _impossible(where, "revision", "is not the name of a revision")
    targets, whole = config.get("target_modules"), not config.get("exclude_modules")
    partly = config.get("layers_to_transform") is not None or not whole
    return Lora(
        base=base,
        revision=revision or None,
        rank=_rank(config.get("r", _DEFAULT), "r", where),
        alpha=_alpha(config.get("lora_alpha", _DEFAULT), "lora_alpha", where),
        ranks={k: _rank(v, f"rank_pattern.{k[:60]}", where) for k, v in _pattern(config, "rank_pattern", where)},
        alphas={k: _alpha(v, f"alpha_pattern.{k[:60]}", where) for k, v in _pattern(config, "alpha_pattern", where)},
        stabilized=config.get("use_rslora") is True,
        dora=config.get("use_dora") is True,
        targets=() if partly or isinstance(targets, str) else _names(config, "target_modules", where),
        saved=_names(config, "modules_to_save", where),
        tied=config.get("ensure_weight_tying") is True,
    )


_CALLED = {"LORA": "LoRA", "ADALORA": "AdaLoRA", "LOHA": "LoHa", "LOKR": "LoKr", "VERA": "VeRA"}


def called(config: Mapping[str, Json]) -> str:
    """Return what an adapter is called by its config, with the article; "an" where that does not say."""
    kind = config.get("peft_type")
    if not isinstance(kind, str):
        return "an"
    name = "DoRA" if config.get("use_dora") is True else _CALLED.get(kind.upper(), kind.upper()[:20])
    return f"{'a' if name[:1] in 'BCDGJKLPQTUVWYZ' else 'an'} {ascii(name)[1:-1]}"


def _of(module: str, patterns: Mapping[str, T], otherwise: T) -> T:
    """Return the value of the first pattern that fits a module: the whole of its name, or what follows a dot of it."""
    for pattern, value in patterns.items():
        if _PLAIN.fullmatch(pattern):
            fits = module == pattern or module.endswith(f".{pattern}")
        else:
            fits = re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module) is not None
        if fits:
            return value
    return otherwise


def _pattern(config: Mapping[str, Json], key: str, where: str) -> list[tuple[str, Json]]:
    found = config.get(key) or {}
    if not isinstance(found, dict) or len(found) > _MOST_PATTERNS:
        raise _impossible(where, key, f"is not an object with at most {_MOST_PATTERNS} names of modules")
    expressions = [name for name in found if not _PLAIN.fullmatch(name)]
    if len(expressions) > _MOST_EXPRESSIONS:
        raise _impossible(where, key, f"has {len(expressions)} expressions, more than {_MOST_EXPRESSIONS}")
    for name in expressions:
        if not _is_quick(name):
            raise _impossible(where, key, f"has the expression {name[:60]!a}, which may take long or is none")
    return list(found.items())


def _is_quick(expression: str) -> bool:
    if not _SAFE.fullmatch(expression) or re.search(r"\)[*+?]|\(\?", expression):
        return False
    if len(_REPEATED.findall(expression)) > _MOST_REPEATED:
        return False
    try:
        re.compile(expression)
    except re.error:
        return False
    return True


def _names(config: Mapping[str, Json], key: str, where: str) -> tuple[str, ...]:
    found = config.get(key) or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise _impossible(where, key, "is not a list of names")
    return tuple(found)


def _rank(value: Json, key: str, where: str) -> int:
    if type(value) is not int or not 1 <= value <= _MOST_RANK:
        raise _impossible(where, key, f"is {str(value)[:40]!a}, not a whole number from 1 to {_MOST_RANK}")
    return value


def _alpha(value: Json, key: str, where: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= _MOST_ALPHA:
        raise _impossible(where, key, f"is {str(value)[:40]!a}, not a number up to a million")
    return float(value)


def _said(base: Json) -> str:
    return ascii(base[:_NAME])[1:-1] if isinstance(base, str) and base else "its base"


def _impossible(where: str, key: str, what: str) -> AdapterError:
    return AdapterError(f"{ADAPTER_CONFIG} of {where}: {key!a} {what}", hint="Save the adapter again with peft.")
