"""A config.json and weights that are not of one model are told apart by headers alone."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import MisfitError
from bot.records.artifacts import Json
from bot.source.fit import check_fit
from bot.source.safetensors_files import Tensor
from bot.worker.sample import config as samples

CONFIGS = {name: getattr(samples, name)() for name in ("phi_2", "phi_3_5_mini", "phi_4_mini", "phi_3_5_moe")}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(config: dict[str, Json]) -> Shapes:
    """The tensors of a checkpoint, written down from transformers' classes and not from what is tested."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = hidden // config["num_attention_heads"]
    keys = config["num_key_value_heads"] * head
    found: Shapes = {"model.embed_tokens.weight": (vocabulary, hidden)}
    if not config.get("tie_word_embeddings"):
        found["lm_head.weight"] = (vocabulary, hidden)

    def linear(name: str, out: int, into: int, *, bias: bool) -> None:
        found[f"{name}.weight"] = (out, into)
        if bias:
            found[f"{name}.bias"] = (out,)

    def norm(name: str, *, bias: bool) -> None:
        found[f"{name}.weight"] = (hidden,)
        if bias:
            found[f"{name}.bias"] = (hidden,)

    kind = config["model_type"]
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        norm(f"{layer}.input_layernorm", bias=kind != "phi3")
        if kind != "phi":
            norm(f"{layer}.post_attention_layernorm", bias=kind == "phimoe")
        if kind == "phi3":
            linear(f"{layer}.self_attn.qkv_proj", hidden + 2 * keys, hidden, bias=False)
            linear(f"{layer}.self_attn.o_proj", hidden, hidden, bias=False)
            linear(f"{layer}.mlp.gate_up_proj", 2 * inner, hidden, bias=False)
            linear(f"{layer}.mlp.down_proj", hidden, inner, bias=False)
            continue
        bias = kind == "phi" or config.get("attention_bias", False)
        for part, rows in (("q_proj", hidden), ("k_proj", keys), ("v_proj", keys)):
            linear(f"{layer}.self_attn.{part}", rows, hidden, bias=bias)
        linear(f"{layer}.self_attn.{'dense' if kind == 'phi' else 'o_proj'}", hidden, hidden, bias=bias)
        if config.get("qk_layernorm"):
            for part in ("q", "k"):
                found |= {f"{layer}.self_attn.{part}_layernorm.{end}": (head,) for end in ("weight", "bias")}
        if kind == "phi":
            linear(f"{layer}.mlp.fc1", inner, hidden, bias=True)
            linear(f"{layer}.mlp.fc2", hidden, inner, bias=True)
            continue
        experts = config["num_local_experts"]
        linear(f"{layer}.block_sparse_moe.gate", experts, hidden, bias=False)
        for e in range(experts):
            for part, shape in (("w1", (inner, hidden)), ("w2", (hidden, inner)), ("w3", (inner, hidden))):
                linear(f"{layer}.block_sparse_moe.experts.{e}.{part}", *shape, bias=False)
    if config.get("lm_head_bias"):
        found["lm_head.bias"] = (vocabulary,)
    norm("model.final_layernorm" if kind == "phi" else "model.norm", bias=kind != "phi3")
    return found


def tensors(shapes: Shapes) -> dict[str, Tensor]:
    return {name: Tensor(dtype="BF16", shape=shape, begin=0, end=0) for name, shape in shapes.items()}


NEEDED = ("architectures", "model_type", "attention_bias", "lm_head_bias")  # a part that is left out is off


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_fits_its_own_weights(name: str) -> None:
    config = CONFIGS[name]
    check_fit(tensors(shapes_of(config)), config, where="a/b")
    check_fit(tensors(shapes_of(config)), {k: config[k] for k in NEEDED if k in config}, where="a/b")


COUNTS = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_key_value_heads")


@pytest.mark.parametrize("name", CONFIGS)
@given(data=st.data())
def test_any_other_size_is_told(name: str, data: st.DataObject) -> None:
    config = CONFIGS[name]
    key = data.draw(st.sampled_from([*COUNTS, *(["num_local_experts"] if "num_local_experts" in config else [])]))
    heads = config["num_attention_heads"]
    others = [n for n in range(1, heads + 1) if heads % n == 0] if key == "num_key_value_heads" else None
    sizes = st.sampled_from(others) if others else st.integers(1, 10_000) | st.just(2 * config[key])
    value = data.draw(sizes.filter(lambda v: v != config[key]))
    if key == "hidden_size":
        value *= heads
    with pytest.raises(MisfitError, match=rf"\b{key} is {value}\b"):
        check_fit(tensors(shapes_of(config)), config | {key: value}, where="a/b")


@pytest.mark.parametrize("name", CONFIGS)
@given(data=st.data())
def test_a_tensor_of_another_shape_or_none_is_named(name: str, data: st.DataObject) -> None:
    config = CONFIGS[name]
    shapes = shapes_of(config)
    which = data.draw(st.sampled_from(sorted(n for n in shapes if "layers" in n)))
    shape = data.draw(st.none() | st.lists(st.integers(0, 4096), max_size=3).map(tuple))
    changed = {n: s for n, s in shapes.items() if n != which} if shape is None else shapes | {which: shape}
    if changed == shapes:
        return
    with pytest.raises(MisfitError) as caught:
        check_fit(tensors(changed), config, where="a/b")
    assert which in caught.value.message
    assert caught.value.exit_code == 59


@pytest.mark.parametrize("off", [False, None], ids=["false", "left out"])
@pytest.mark.parametrize(
    ("name", "key", "stored"),
    [
        ("phi_3_5_moe", "attention_bias", "model.layers.0.self_attn.q_proj.bias"),
        ("phi_3_5_moe", "lm_head_bias", "lm_head.bias"),
        ("phi_2", "qk_layernorm", "model.layers.0.self_attn.q_layernorm.weight"),
    ],
)
def test_tensors_that_a_config_turns_off_must_be_absent_and_those_it_turns_on_present(
    name: str, key: str, stored: str, off: bool | None
) -> None:
    config = CONFIGS[name] | {key: True}
    shapes = shapes_of(config)
    check_fit(tensors(shapes), config, where="a/b")
    without = {k: v for k, v in config.items() if k != key} | ({} if off is None else {key: off})
    with pytest.raises(MisfitError, match=rf"a/b stores {re.escape(stored)}, and config\.json .* {key}") as caught:
        check_fit(tensors(shapes), without, where="a/b")
    assert f"Set {key} to true" in caught.value.hint
    check_fit(tensors(shapes_of(without | {key: False})), without, where="a/b")
    with pytest.raises(MisfitError, match=rf"a/b stores no {re.escape(stored)}"):
        check_fit(tensors({n: s for n, s in shapes.items() if n != stored}), config, where="a/b")


def without_layer(number: int) -> Callable[[Shapes], Shapes]:
    return lambda shapes: {n: s for n, s in shapes.items() if not n.startswith(f"model.layers.{number}.")}


def test_layers_that_are_too_many_too_few_or_not_in_a_row_are_said_so() -> None:
    config = CONFIGS["phi_3_5_mini"]
    assert config["num_hidden_layers"] == 4
    cases: list[tuple[Any, Any, str]] = [
        (without_layer(3), 4, "says that num_hidden_layers is 4, and the weights hold 3 layers"),
        (without_layer(1), 4, "the weights hold layers up to 3, without 1"),
        (without_layer(0), 3, "the weights hold layers up to 3, without 0"),
        (dict, 1, "says that num_hidden_layers is 1, and the weights hold 4 layers"),
        (dict, 1_000_000, "says that num_hidden_layers is 1000000, and the weights hold 4 layers"),
    ]
    for change, layers, says in cases:
        with pytest.raises(MisfitError, match=says):
            check_fit(tensors(change(shapes_of(config))), config | {"num_hidden_layers": layers}, where="a/b")


def test_of_other_models_nothing_is_known() -> None:
    check_fit({}, {"model_type": "gemma", "num_hidden_layers": 3}, where="a/b")
