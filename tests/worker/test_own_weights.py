"""A runtime held against the weights of its file: what it rounds passes, and what it computes otherwise does not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.records.artifacts import Json
from bot.records.evidence import OwnWeights
from bot.worker.engine import Engine, OrderError
from bot.worker.order import model_order
from bot.worker.own_weights import OwnWeightsCheck, TextLogits, ask, judged
from bot.worker.rotary import of_config
from bot.worker.rounding import Arithmetic, Rounding, eight_bits
from bot.worker.weights import ArtifactWeight
from tests.worker.test_weights import checkpoint

Array = Any

EXACT, ROUNDING = Arithmetic(), Arithmetic(products=True)
CONFIG: Json = {
    "model_type": "phi3",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
}
SHAPES = {
    "input_layernorm": (64,),
    "self_attn.qkv_proj": (128, 64),
    "self_attn.o_proj": (64, 64),
    "post_attention_layernorm": (64,),
    "mlp.gate_up_proj": (192, 64),
    "mlp.down_proj": (64, 96),
}
MIXTURE: Json = {
    "model_type": "phimoe",
    "num_local_experts": 3,
    "router_jitter_noise": 0.01,
}
_EXPERT = {"w1": (40, 64), "w2": (64, 40), "w3": (40, 64)}  # no width that blocks of 32 divide
MIXED = {
    **{name: shape for name, shape in SHAPES.items() if not name.startswith("mlp.")},
    "block_sparse_moe.gate": (3, 64),
    **{f"block_sparse_moe.experts.{e}.{name}": shape for e in range(3) for name, shape in _EXPERT.items()},
}
TEXTS = [list(range(3, 67)), list(range(60, 124))]


def weights(*, tied: bool, layer: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Array]:
    chance = np.random.default_rng(1)
    shapes = {f"model.layers.{n}.{name}.weight": shape for n in range(2) for name, shape in layer.items()}
    shapes |= {"model.embed_tokens.weight": (128, 64), "model.norm.weight": (64,)}
    shapes |= {} if tied else {"lm_head.weight": (128, 64)}
    return {
        name: (np.ones(shape) if len(shape) == 1 else chance.normal(0, 0.3, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def stored(values: dict[str, Array], rounding: Rounding | None = None) -> Iterator[ArtifactWeight]:
    for name in sorted(values, key=model_order):
        yield ArtifactWeight.whole(name, values[name], rounding=rounding)


def predicted(values: dict[str, Array], arithmetic: Arithmetic = EXACT, **changed: Json) -> Array:
    """What a runtime says that has these weights, with a config that may be changed: of its last arithmetic."""
    config = CONFIG | changed
    engine = Engine(config, of_config(config), TEXTS, arithmetic)
    rounding = eight_bits(32) if arithmetic.products else None
    for name in sorted(values, key=model_order):
        engine.take(name, 0, values[name], rounding)
    if "lm_head.weight" not in values:
        engine.take("lm_head.weight", 0, values["model.embed_tokens.weight"], rounding)
    return engine.logits()[-1].reshape(-1, 128)


@dataclass(frozen=True)
class Verdict:
    passed: bool
    figures: OwnWeights


@pytest.fixture
def held(tmp_path: Path) -> Callable[..., Verdict]:
    """Hold logits against weights, which the runtime rounds or does not."""

    def verdict(logits: Array, values: dict[str, Array], arithmetic: Arithmetic = EXACT, **changed: Json) -> Verdict:
        source, config = checkpoint(tmp_path, values), CONFIG | changed
        check = OwnWeightsCheck(TextLogits(texts=TEXTS, logits=logits), config, of_config(config), arithmetic)
        check.take_all(stored(values, eight_bits(32) if arithmetic.products else None), source)
        found = check.found(source, threads=1)
        return Verdict(judged(found)[0], found)

    return verdict


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("arithmetic", [EXACT, ROUNDING], ids=["float32", "8 bits"])
def test_a_runtime_that_computes_what_its_weights_say_passes(
    held: Callable[..., Verdict], arithmetic: Arithmetic, *, tied: bool
) -> None:
    values = weights(tied=tied)
    found = held(predicted(values, arithmetic), values, arithmetic)
    assert found.passed
    assert found.figures.tokens == 128
    assert found.figures.mean_kl == pytest.approx(found.figures.rounding_kl, abs=1e-7)
    assert (found.figures.rounding_kl > 1e-4) == arithmetic.products


@pytest.mark.parametrize(
    "wrong",
    [{"rms_norm_eps": 1e-1}, {"rope_theta": 1000.0}, {"sliding_window": 8}],
    ids=["another epsilon", "another base", "a window"],
)
@pytest.mark.parametrize("arithmetic", [EXACT, ROUNDING], ids=["float32", "8 bits"])
def test_a_runtime_that_computes_something_else_from_the_same_weights_does_not_pass(
    held: Callable[..., Verdict], arithmetic: Arithmetic, wrong: dict[str, Json]
) -> None:
    values = weights(tied=False)
    assert not held(predicted(values, arithmetic, **wrong), values, arithmetic).passed


def test_a_runtime_that_rounds_where_it_should_compute_in_float32_does_not_pass(held: Callable[..., Verdict]) -> None:
    values = weights(tied=False)
    assert not held(predicted(values, ROUNDING), values, EXACT).passed


def test_an_output_matrix_that_is_stored_beside_the_embedding_is_the_one_that_counts(tmp_path: Path) -> None:
    values = weights(tied=True)
    other = np.random.default_rng(2).normal(0, 0.3, (128, 64)).astype(np.float32)
    source = checkpoint(tmp_path, values)
    logits = predicted(values | {"lm_head.weight": other})
    check = OwnWeightsCheck(TextLogits(texts=TEXTS, logits=logits), CONFIG, of_config(CONFIG), EXACT)
    check.take_all(stored(values), source)
    check.take_all([replace(ArtifactWeight.whole("model.embed_tokens.weight", other), output=True)], source)
    assert judged(check.found(source, threads=1))[0]


@pytest.mark.parametrize("arithmetic", [EXACT, ROUNDING], ids=["float32", "8 bits"])
def test_an_expert_that_no_token_is_sent_to_is_no_fault(held: Callable[..., Verdict], arithmetic: Arithmetic) -> None:
    values = weights(tied=False, layer=MIXED)
    for layer in range(2):
        values[f"model.layers.{layer}.block_sparse_moe.gate.bias"] = np.array([0, 0, -1000], dtype=np.float32)
    found = held(predicted(values, arithmetic, **MIXTURE), values, arithmetic, **MIXTURE)
    assert found.passed
    assert found.figures.mean_kl == pytest.approx(found.figures.rounding_kl, abs=1e-7)


def test_what_goes_wrong_first_is_what_is_said(tmp_path: Path) -> None:
    values = weights(tied=False)
    source = checkpoint(tmp_path, values)
    check = OwnWeightsCheck(TextLogits(texts=TEXTS, logits=predicted(values)), CONFIG, of_config(CONFIG), ROUNDING)

    def failing(_: Array) -> Array:
        raise ValueError("this kernel knows no such numbers")

    check.take_all(stored(values, failing), source)
    with pytest.raises(ValueError, match="this kernel knows no such numbers"):
        check.found(source, threads=1)


def test_weights_out_of_order_are_named_when_it_is_asked_for_the_verdict(tmp_path: Path) -> None:
    values = weights(tied=False)
    source = checkpoint(tmp_path, values)
    check = OwnWeightsCheck(TextLogits(texts=TEXTS, logits=predicted(values)), CONFIG, of_config(CONFIG), EXACT)
    check.take_all(reversed(list(stored(values))), source)
    with pytest.raises(OrderError, match=r"did not come before"):
        check.found(source, threads=1)


class Runtime:
    """Answers with the ids that it was asked about, in an array that it uses again, as OpenVINO does."""

    def __init__(self) -> None:
        self._rows: Array = np.zeros((200, 4), dtype=np.float32)

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        self._rows[: len(positions)] = np.array([ids[p] for p in positions])[:, None]
        return self._rows[: len(positions)]


@pytest.mark.parametrize(
    ("config", "length"),
    [({}, 128), ({"sliding_window": 100}, 100), ({"sliding_window": None}, 128)],
)
def test_texts_are_the_beginnings_of_two_kinds_within_what_every_runtime_attends_to(
    config: dict[str, Json], length: int
) -> None:
    windows = [
        {"side": side, "kind": kind, "ids": list(range(first, first + 200))}
        for side, kind, first in [("short", "prose", 0), ("short", "prose", 1000), ("short", "code", 2000)]
    ]
    windows.append({"side": "long", "kind": "mixed", "ids": list(range(5000, 5400))})
    asked = ask(Runtime(), {"windows": windows}, CONFIG | config)  # type: ignore[arg-type]
    assert [(t[0], len(t)) for t in asked.texts] == [(2000, length), (0, length)]
    assert (asked.logits[:, 0] == np.concatenate(asked.texts)).all()
