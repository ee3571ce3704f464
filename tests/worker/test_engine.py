"""The engine says what the original says, of every kind of Phi; and what rounding on the way changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.records.artifacts import Json
from bot.worker.engine import EMBEDDING, HEAD, Engine, OrderError
from bot.worker.head import Head
from bot.worker.order import model_order
from bot.worker.rotary import Rotary, of_config
from bot.worker.rounding import Arithmetic, Rounding, eight_bits
from bot.worker.tensors import Tensors
from tests.worker.kinds import KINDS

Array = Any

_EXACT = Arithmetic()
_ROWS = 300  # that come together: no matrix is a multiple of them


def config_of(source: Path) -> Json:
    return json.loads((source / "config.json").read_text())


def fed(engine: Engine, source: Path, rounding: Rounding | None = None) -> Array:
    """Give an engine all weights of a checkpoint, as an artifact has them; return its logits."""
    tensors = Tensors(source)
    names = [*sorted(tensors.names(), key=model_order), *([] if f"{HEAD}.weight" in tensors.names() else [""])]
    for name in names:
        stored = name or f"{EMBEDDING}.weight"
        rows, *columns = tensors.shape(stored)
        for first in range(0, rows, _ROWS if columns else rows):
            part = tensors.read(stored, first, first + _ROWS if columns else None)
            engine.take(name or f"{HEAD}.weight", first, part, rounding)
    return engine.logits()


def log_probabilities(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def largest_divergence(source: Path, reference: Path, side: str) -> float:
    """The largest KL of an engine from a reference over all positions on one side of a switch, in nats."""
    of_reference = json.loads((reference / "reference.json").read_text())
    windows = [w for w in of_reference["windows"] if w["side"] == side]
    turned = of_config(config_of(source))
    if side == "long":
        turned = Rotary(short=None, long=turned.long, long_scale=turned.long_scale)
    worst = 0.0
    for length in {len(w["ids"]) for w in windows}:
        alike = [w for w in windows if len(w["ids"]) == length][:2]
        logits = fed(Engine(config_of(source), turned, [w["ids"] for w in alike], _EXACT), source)[0]
        for window, of_window in zip(alike, logits, strict=True):
            hidden = np.load(reference / window["file"])
            expected = log_probabilities(Head(source, of_reference["head"]).logits(hidden))
            got = log_probabilities(of_window[window["scored"]])
            worst = max(worst, float((np.exp(expected) * (expected - got)).sum(axis=-1).max()))
    return worst


@pytest.mark.toolchain
@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_original_says(kind: str, kind_of_phi: Callable[[str], tuple[Path, Path]]) -> None:
    source, reference = kind_of_phi(kind)
    assert largest_divergence(source, reference, "short") < 1e-8
    if of_config(config_of(source)).long is not None:
        assert largest_divergence(source, reference, "long") < 1e-8


@pytest.mark.toolchain
def test_rounding_on_the_way_is_computed_beside_and_costs_little(sample: Path) -> None:
    config, texts = config_of(sample), [list(range(5, 69)), list(range(105, 169))]
    exact = fed(Engine(config, of_config(config), texts, _EXACT), sample)
    arithmetic = Arithmetic(products=True)
    both = log_probabilities(fed(Engine(config, of_config(config), texts, arithmetic), sample, eight_bits(32)))
    assert exact.shape == (1, 2, 64, config["vocab_size"])
    assert np.abs(both[0] - log_probabilities(exact[0])).max() < 1e-5
    divergence = (np.exp(both[0]) * (both[0] - both[1])).sum(axis=-1).mean()
    assert 1e-6 < divergence < 1e-2


@pytest.mark.toolchain
def test_weights_that_come_too_late_or_not_at_all_are_named(sample: Path) -> None:
    config, tensors = config_of(sample), Tensors(sample)
    engine = Engine(config, of_config(config), [[1, 2, 3]], _EXACT)
    engine.take(f"{EMBEDDING}.weight", 0, tensors.read(f"{EMBEDDING}.weight"))
    late = "model.layers.0.input_layernorm.weight"
    matrix = "model.layers.0.self_attn.qkv_proj.weight"
    with pytest.raises(OrderError, match=f"{late} did not come before"):
        engine.take(matrix, 0, tensors.read(matrix))
    with pytest.raises(OrderError, match=r"model\.layers\.0\.self_attn\.o_proj\.weight did not come before"):
        engine.take("model.layers.1.self_attn.qkv_proj.weight", 0, tensors.read(matrix))
