"""The merging of an adapter, against the formula as peft's documentation gives it, written out once more."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import DamagedWeightsError, NotFiniteError
from bot.source.changes import Change, changes
from bot.source.lora import read_lora
from bot.source.merging import Adapter, merge
from bot.source.safetensors_files import Tensor, read_header
from tests.source.adapters import (
    APART,
    CONFIG,
    FUSED,
    GROUPS,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    LORA,
    ROWS,
    SHAPES,
    Numbers,
    base_numbers,
    decoded,
    encoded,
    numbers,
    on_all_layers,
    pair,
    stored,
)


class Case:
    """An adapter of the base, with what merging makes of both."""

    def __init__(self, folder: Path, tensors: Numbers, base: Numbers | None = None, **config: Any) -> None:
        self.base = base_numbers() if base is None else base
        self.file = folder / "adapter_model.safetensors"
        self.file.write_bytes(stored(tensors))
        header = read_header(self.file)
        start = 8 + int.from_bytes(self.file.read_bytes()[:8], "little")
        self.adapter = Adapter(file=self.file, tensors=header, start=start)
        listed = {n: Tensor(dtype="BF16", shape=v.shape, begin=0, end=2 * v.size) for n, v in self.base.items()}
        lora = read_lora(LORA | {"target_modules": None} | config, where="a/b")
        self.changes: dict[str, Change] = changes(header, lora, listed, CONFIG, where="a/b")

    def bytes(self, name: str, block: int = 1 << 20, pieces: int = 1 << 20) -> bytes:
        data, found = encoded(self.base[name]) if name in self.base else b"", bytearray()
        cut = [data[at : at + pieces] for at in range(0, len(data), pieces)]
        change = self.changes[name]

        def base(take: Callable[[bytes], None]) -> None:
            for piece in cut:
                take(piece)

        merge(self.adapter, name, change, base, found.extend, block=block)
        return bytes(found)

    def values(self, name: str) -> np.ndarray[Any, Any]:
        return decoded(self.bytes(name)).reshape(self.changes[name].shape)


def one_rounding(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return numbers as BF16 holds them."""
    return decoded(encoded(values)).reshape(values.shape)


def near(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    """Say whether numbers are others in BF16, whose half step is 2^-8 at most, but for float32's own rounding."""
    return bool((np.abs(found - expected) <= np.abs(expected) * 2.0**-8 + 2e-6).all())


QKV = "model.layers.1.self_attn.qkv_proj"


def factors(tensors: Numbers) -> tuple[Any, Any]:
    """Return both matrices of a LoRA on QKV in 64 bits."""
    low, high = (tensors[f"base_model.model.{QKV}.lora_{x}.weight"] for x in "AB")
    return low.astype("f8"), high.astype("f8")


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 8 / 4),
        ({"use_rslora": True}, 8 / math.sqrt(4)),
        ({"lora_alpha": 3}, 3 / 4),
        ({"alpha_pattern": {"qkv_proj": 2}}, 2 / 4),
        ({"alpha_pattern": {"layers.1.self_attn.qkv_proj": 2, "qkv_proj": 5}}, 2 / 4),
        ({"alpha_pattern": {r"layers\.[01]\..*qkv_proj": 2}}, 2 / 4),
        ({"alpha_pattern": {"layers.0.self_attn.qkv_proj": 2, "kv_proj": 5}}, 8 / 4),
        ({"r": 9, "rank_pattern": {"qkv_proj": 4}}, 8 / 4),
    ],
)
def test_a_lora_is_added_by_its_scale(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    tensors = on_all_layers("self_attn.qkv_proj")
    case = Case(tmp_path, tensors, **config)
    low, high = factors(tensors)
    expected = case.base[f"{QKV}.weight"] + scale * (high @ low)
    assert near(case.values(f"{QKV}.weight"), expected)
    assert set(case.changes) == {f"model.layers.{n}.self_attn.qkv_proj.weight" for n in range(LAYERS)}


def test_a_dora_gives_rows_the_lengths_that_it_stores(tmp_path: Path) -> None:
    tensors = on_all_layers("self_attn.qkv_proj")
    lengths = {n: np.abs(numbers(n, SHAPES["self_attn.qkv_proj"][0])) + 1 for n in range(LAYERS)}
    tensors |= {
        f"base_model.model.model.layers.{n}.self_attn.qkv_proj.lora_magnitude_vector": lengths[n] for n in lengths
    }
    case = Case(tmp_path, tensors, use_dora=True)
    low, high = factors(tensors)
    summed = case.base[f"{QKV}.weight"] + 2 * (high @ low)
    expected = summed * (lengths[1] / np.linalg.norm(summed, axis=1))[:, None]
    found = case.values(f"{QKV}.weight")
    assert near(found, expected)
    assert np.allclose(np.linalg.norm(found, axis=1), lengths[1], rtol=4e-3)


def test_an_embedding_s_lora_is_stored_turned(tmp_path: Path) -> None:
    start = "base_model.model.model.embed_tokens."
    tensors: Numbers = {
        f"{start}lora_embedding_A": numbers(1, 4, ROWS),
        f"{start}lora_embedding_B": numbers(2, HIDDEN, 4),
    }
    case = Case(tmp_path, tensors)
    added = 2 * (tensors[f"{start}lora_embedding_B"] @ tensors[f"{start}lora_embedding_A"]).T
    name = "model.embed_tokens.weight"
    assert near(case.values(name), case.base[name] + added)


@pytest.mark.parametrize("end", [".weight", ".modules_to_save.weight", ".modules_to_save.default.weight"])
def test_what_is_stored_whole_takes_the_place_of_the_base_s(tmp_path: Path, end: str) -> None:
    more = numbers(7, ROWS + 3, HIDDEN)
    tensors: Numbers = {
        f"base_model.model.{name}{end}": more + i for i, name in enumerate(("lm_head", "model.embed_tokens"))
    }
    case = Case(tmp_path, tensors, modules_to_save=["lm_head", "embed_tokens"])
    assert case.bytes("lm_head.weight") == encoded(more)
    assert case.bytes("model.embed_tokens.weight") == encoded(more + 1)
    assert case.changes["lm_head.weight"].shape == (ROWS + 3, HIDDEN)


def test_matrices_that_are_apart_are_rows_of_the_joined_one(tmp_path: Path) -> None:
    tensors = on_all_layers(*APART)
    case = Case(tmp_path, tensors)
    for whole, parts in ((FUSED[0], APART[:3]), (FUSED[2], APART[3:])):
        start = "model.layers.1."
        added = [
            2
            * (
                tensors[f"base_model.model.{start}{p}.lora_B.weight"]
                @ tensors[f"base_model.model.{start}{p}.lora_A.weight"]
            )
            for p in parts
        ]
        name = f"{start}{whole}.weight"
        assert near(case.values(name), case.base[name] + np.concatenate(added))


def test_a_joined_matrix_is_those_that_are_apart_in_the_base(tmp_path: Path) -> None:
    base = base_numbers()
    size = HIDDEN // HEADS
    for layer in range(LAYERS):
        for whole, parts, rows in (
            (FUSED[0], APART[:3], [HEADS * size, (HEADS + GROUPS) * size]),
            (FUSED[2], APART[3:], [INNER]),
        ):
            cut = np.split(base.pop(f"model.layers.{layer}.{whole}.weight"), rows)
            base |= {f"model.layers.{layer}.{p}.weight": c for p, c in zip(parts, cut, strict=True)}
    tensors = on_all_layers(FUSED[0], FUSED[2])
    joined, apart = Case(tmp_path, tensors), Case(tmp_path, tensors, base)
    for whole, parts in ((FUSED[0], APART[:3]), (FUSED[2], APART[3:])):
        found = b"".join(apart.bytes(f"model.layers.1.{p}.weight") for p in parts)
        assert found == joined.bytes(f"model.layers.1.{whole}.weight")


def test_one_part_of_a_joined_matrix_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    case = Case(tmp_path, on_all_layers("self_attn.k_proj"))
    found, was = case.values(f"{QKV}.weight"), case.base[f"{QKV}.weight"]
    size = HIDDEN // HEADS
    keys = slice(HEADS * size, (HEADS + GROUPS) * size)
    same = (found == was).all(axis=1)
    assert not same[keys].any()
    assert same[: keys.start].all()
    assert same[keys.stop :].all()


@settings(max_examples=60, deadline=None)
@given(
    rank=st.integers(1, 9),
    alpha=st.floats(-50, 50, width=32),
    names=st.sampled_from([FUSED, APART, ("self_attn.q_proj",), ("mlp.up_proj", "mlp.down_proj")]),
    dora=st.booleans(),
    stabilized=st.booleans(),
    block=st.integers(1, 500),
    pieces=st.integers(1, 300),
)
def test_rows_in_blocks_are_the_same_bytes_as_at_once(
    tmp_path_factory: pytest.TempPathFactory,
    rank: int,
    alpha: float,
    names: tuple[str, ...],
    dora: bool,
    stabilized: bool,
    block: int,
    pieces: int,
) -> None:
    tensors = on_all_layers(*names, rank=rank)
    if dora:
        for name, values in list(tensors.items()):
            if name.endswith(".lora_B.weight"):
                magnitude = name.replace("lora_B.weight", "lora_magnitude_vector")
                tensors[magnitude] = np.abs(values).sum(axis=1).astype("<f4")
    config: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "use_dora": dora, "use_rslora": stabilized}
    case = Case(tmp_path_factory.mktemp("case"), tensors, **config)
    scale = alpha / (math.sqrt(rank) if stabilized else rank)
    assert all(a.scale == scale for change in case.changes.values() for a in change.added)
    for name in case.changes:
        assert case.bytes(name, block, pieces) == case.bytes(name)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(FUSED), st.integers(1, 6), min_size=1), st.sampled_from(["suffix", "whole"]))
def test_ranks_and_alphas_by_pattern(
    tmp_path_factory: pytest.TempPathFactory, ranks: dict[str, int], written: str
) -> None:
    """However a pattern names matrices, what is added has the rank and the scale that it says."""
    tensors: Numbers = {}
    patterns: dict[str, int] = {}
    for name, rank in ranks.items():
        for layer in range(LAYERS):
            module = f"model.layers.{layer}.{name}"
            tensors |= pair(module, SHAPES[name], rank)
            patterns[module if written == "whole" else name.split(".")[-1]] = rank
    alphas = {k: 2 * v for k, v in patterns.items()}
    case = Case(tmp_path_factory.mktemp("case"), tensors, r=77, rank_pattern=patterns, alpha_pattern=alphas)
    assert {a.scale for change in case.changes.values() for a in change.added} == {2.0}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_numbers_are_rounded_once_to_the_nearest(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    whole: np.ndarray[Any, Any] = np.resize(np.array(values, "<f4"), (ROWS, HIDDEN))
    case = Case(
        tmp_path_factory.mktemp("case"),
        {f"base_model.model.{n}.weight": whole for n in ("lm_head", "model.embed_tokens")},
    )
    if np.isfinite(one_rounding(whole)).all():
        assert case.bytes("lm_head.weight") == encoded(whole)
    else:
        with pytest.raises(NotFiniteError, match="too large for BF16"):
            case.bytes("lm_head.weight")


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_an_adapter_with_nan_is_refused_by_the_tensor(tmp_path: Path, wrong: float) -> None:
    tensors = on_all_layers("self_attn.qkv_proj")
    tensors[f"base_model.model.{QKV}.lora_B.weight"][3, 1] = wrong
    with pytest.raises(NotFiniteError, match=r"layers.1.self_attn.qkv_proj.lora_B.weight' holds NaN or infinity"):
        Case(tmp_path, tensors).bytes(f"{QKV}.weight")


def test_a_row_without_a_length_has_no_direction(tmp_path: Path) -> None:
    tensors: Numbers = {name: values * 0 for name, values in on_all_layers("self_attn.o_proj").items()}
    base = base_numbers()
    base["model.layers.1.self_attn.o_proj.weight"] *= 0
    tensors |= {
        f"base_model.model.model.layers.{n}.self_attn.o_proj.lora_magnitude_vector": np.ones(HIDDEN) for n in (0, 1)
    }
    with pytest.raises(NotFiniteError, match="what comes of merging is NaN"):
        Case(tmp_path, tensors, base, use_dora=True).bytes("model.layers.1.self_attn.o_proj.weight")


@pytest.mark.parametrize("count", [-1, -2 * HIDDEN, 2 * HIDDEN])
def test_a_base_s_tensor_that_is_not_whole_is_refused(tmp_path: Path, count: int) -> None:
    case = Case(tmp_path, on_all_layers("self_attn.qkv_proj"))
    data = encoded(case.base[f"{QKV}.weight"])
    data = data[:count] if count < 0 else data + bytes(count)
    with pytest.raises(DamagedWeightsError, match="did not come whole"):
        merge(case.adapter, f"{QKV}.weight", case.changes[f"{QKV}.weight"], lambda take: take(data), lambda _: None)
