"""The place of each of an adapter's tensors in its base, and what has none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bot.errors import AdapterError
from bot.source.changes import Change, changes
from bot.source.lora import read_lora
from bot.source.safetensors_files import Tensor
from tests.source.adapters import (
    CONFIG,
    FUSED,
    HIDDEN,
    LAYERS,
    LORA,
    ROWS,
    SHAPES,
    Numbers,
    base_numbers,
    numbers,
    on_all_layers,
    pair,
)

START = "base_model.model."
QKV = f"{START}model.layers.1.self_attn.qkv_proj"


def listed(tensors: Numbers, dtype: str = "F32") -> dict[str, Tensor]:
    return {n: Tensor(dtype=dtype, shape=v.shape, begin=0, end=4 * v.size) for n, v in tensors.items()}


def read(tensors: Numbers, base: Numbers | None = None, dtype: str = "F32", **config: Any) -> dict[str, Change]:
    lora = read_lora(LORA | {"target_modules": None} | config, where="a/b")
    return changes(listed(tensors, dtype), lora, listed(base_numbers() if base is None else base), CONFIG, where="a/b")


def refused(tensors: Numbers, base: Numbers | None = None, **config: Any) -> str:
    with pytest.raises(AdapterError) as caught:
        read(tensors, base, **config)
    assert "a/b" in caught.value.message
    return caught.value.message


Damage = Callable[[Numbers], object]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda t: t.pop(f"{QKV}.lora_B.weight"), "has no lora_B beside it"),
        (
            lambda t: t.update({f"{START}model.layers.9.self_attn.qkv_proj.lora_A.weight": numbers(1, 4, HIDDEN)}),
            "has no",
        ),
        (lambda t: t.update(pair("model.layers.9.self_attn.qkv_proj", SHAPES[FUSED[0]])), "does not have"),
        (lambda t: t.update(pair("model.layers.1.self_attn.dense", (HIDDEN, HIDDEN))), "does not have"),
        (lambda t: t.update({f"{QKV}.lora_A.weight": numbers(1, 4, HIDDEN + 1)}), "does not fit"),
        (lambda t: t.update({f"{QKV}.lora_B.weight": numbers(1, 5, 4)}), "does not fit"),
        (
            lambda t: t.update({f"{QKV}.lora_A.weight": numbers(1, 5, HIDDEN)}),
            "has rank 5, and by adapter_config.json it is 4",
        ),
        (lambda t: t.update({f"{QKV}.lora_A.weight": numbers(1, 4, HIDDEN, 1)}), "has the shape"),
        (lambda t: t.update({f"{QKV}.lora_A.weight": np.zeros((0, HIDDEN))}), "has the shape"),
        (lambda t: t.update({f"{QKV}.lora_A.default.weight": numbers(1, 4, HIDDEN)}), "a second time"),
        (lambda t: t.update({f"{QKV}.lora_magnitude_vector": numbers(1, 32)}), "does not say use_dora"),
        (lambda t: t.update({f"{QKV}.lora_E": numbers(1, 4, 1)}), "is not one of a LoRA's"),
        (lambda t: t.update({f"{QKV}.lora_B.bias": numbers(1, 32)}), "does not have"),
        (lambda t: t.update({"prompt_embeddings": numbers(1, 4, 4)}), "is not one of a LoRA's"),
        (lambda t: t.update({f"{START}score.weight": numbers(1, 2, HIDDEN)}), "does not have"),
        (lambda t: t.update({f"{START}model.norm.weight": numbers(1, HIDDEN + 1)}), "does not fit"),
        (lambda t: t.update({f"{START}{'x' * 400}.weight": numbers(1, HIDDEN)}), "is not one of a LoRA's"),
        (
            lambda t: t.update(pair("model.layers.1.self_attn.k_proj", SHAPES["self_attn.k_proj"])),
            "added to a second time",
        ),
        (lambda t: t.clear(), "holds no tensors"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(damage: Damage, said: str) -> None:
    tensors = on_all_layers(FUSED[0])
    damage(tensors)
    assert said in refused(tensors)


def test_another_type_is_refused() -> None:
    with pytest.raises(AdapterError, match="is stored as I8"):
        read(on_all_layers(FUSED[0]), dtype="I8")


def test_a_dora_s_magnitudes_are_all_there() -> None:
    tensors = on_all_layers(FUSED[0])
    assert "has no lora_magnitude_vector" in refused(tensors, use_dora=True)
    for layer in range(LAYERS):
        tensors[f"{START}model.layers.{layer}.{FUSED[0]}.lora_magnitude_vector"] = numbers(1, 31)
    assert "has the shape [31]" in refused(tensors, use_dora=True)


@pytest.mark.parametrize("names", [FUSED[:1], ("self_attn.q_proj",)])
def test_a_matrix_of_some_layers_alone_is_an_adapter_that_is_not_whole(names: tuple[str, ...]) -> None:
    tensors = {k: v for k, v in on_all_layers(*names).items() if ".layers.1." not in k}
    target = [names[0].split(".")[-1]]
    assert "holds nothing for model.layers.1" in refused(tensors, target_modules=target)
    assert read(tensors, target_modules=target, layers_to_transform=[0])
    assert read(tensors, target_modules=r".*layers\.0\..*")


def test_what_is_to_be_stored_whole_is_there() -> None:
    tensors = on_all_layers(FUSED[0])
    assert "names 'lm_head' in modules_to_save" in refused(tensors, modules_to_save=["lm_head"])


def test_two_vocabularies_are_not_one() -> None:
    wider = {f"{START}model.embed_tokens.weight": numbers(1, ROWS + 1, HIDDEN)}
    assert "they are those of two vocabularies" in refused(wider)


def test_of_tied_matrices_what_becomes_of_both_is_said() -> None:
    tied = base_numbers(tied=True)
    head, embedding = (numbers(n, ROWS, HIDDEN) for n in (1, 2))
    low = {
        f"{START}model.embed_tokens.lora_embedding_{x}": numbers(3, *s)
        for x, s in (("A", (4, ROWS)), ("B", (HIDDEN, 4)))
    }
    assert "tie_word_embeddings" in refused({f"{START}model.embed_tokens.weight": embedding}, tied)
    assert "tie_word_embeddings" in refused(low, tied)
    assert "is the embedding in its base" in refused(pair("lm_head", (ROWS, HIDDEN)), tied)
    alone = read({f"{START}model.embed_tokens.weight": embedding}, tied, ensure_weight_tying=True)
    assert set(alone) == {"model.embed_tokens.weight"}
    both = {f"{START}lm_head.weight": head, f"{START}model.embed_tokens.weight": embedding}
    assert set(read(both, tied)) == {"lm_head.weight", "model.embed_tokens.weight"}


def test_biases_that_were_trained_take_the_place_of_the_base_s() -> None:
    module = "model.layers.0.self_attn.dense"
    phi_2 = {f"{module}.weight": numbers(1, HIDDEN, HIDDEN), f"{module}.bias": numbers(2, HIDDEN)}
    for end in ("base_layer.bias", "bias"):
        found = read(pair(module, (HIDDEN, HIDDEN)) | {f"{START}{module}.{end}": numbers(3, HIDDEN)}, phi_2, bias="all")
        assert [len(c.saved) for c in found.values()] == [1, 0]
