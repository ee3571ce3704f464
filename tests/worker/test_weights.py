"""Weights: rounding passes, and whatever is another tensor, another row or another scale does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.worker.tensors import Tensors
from bot.worker.weights import ArtifactWeight, Fidelity, UnfaithfulError, compare

Array = Any
Weights = dict[str, Array]


def original() -> Weights:
    chance = np.random.default_rng(0)
    names = {"model.embed_tokens.weight": (96, 128), "a.q_proj.weight": (64, 128), "a.k_proj.weight": (32, 128)}
    weights = {name: chance.normal(0, 0.05, shape).astype(np.float32) for name, shape in names.items()}
    return weights | {"model.norm.weight": chance.normal(1, 0.2, 128).astype(np.float32)}


def checkpoint(folder: Path, weights: Weights) -> Tensors:
    header, data = {}, b""
    for name, values in weights.items():
        start = len(data)
        data += values.tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return Tensors(folder)


def rounded(values: Array, bits: int, group: int = 32) -> Array:
    """Weights as a file of a few bits holds them: a scale and an offset for each group of a row."""
    groups = values.reshape(len(values), -1, group)
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    scale = (high - low) / (2**bits - 1)
    return (np.rint((groups - low) / scale) * scale + low).reshape(values.shape).astype(np.float32)


def held(weights: Weights) -> list[ArtifactWeight]:
    return [ArtifactWeight.whole(name, values) for name, values in weights.items()]


def verdict(folder: Path, stored: Weights, *, tied: bool = False, source: Weights | None = None) -> Fidelity:
    return compare(held(stored), checkpoint(folder, source or original()), tied=tied)


def quantized(bits: int) -> Weights:
    return {name: rounded(v, bits) if v.ndim == 2 else v for name, v in original().items()}


@pytest.mark.parametrize(("bits", "error"), [(2, 0.5), (3, 0.25), (4, 0.12), (8, 0.01)])
def test_rounding_passes_and_its_error_is_told(tmp_path: Path, bits: int, error: float) -> None:
    found = verdict(tmp_path, quantized(bits))
    assert found.tensors == 4
    assert error / 4 < found.largest_error < error


def test_the_same_weights_have_no_error(tmp_path: Path) -> None:
    assert verdict(tmp_path, original()) == Fidelity(tensors=4, largest_error=0, largest_error_in="")


def test_an_outlier_that_widens_a_scale_passes(tmp_path: Path) -> None:
    """Rounded to a grid twenty times as coarse, the neighbours of a huge weight become nothing: that is how it is."""
    source = original()
    source["a.q_proj.weight"][3, 7] = 2.0
    stored = {name: rounded(v, 4, group=128) if v.ndim == 2 else v for name, v in source.items()}
    assert verdict(tmp_path, stored, source=source).tensors == 4


def double_a_scale(w: Weights) -> None:
    w["a.q_proj.weight"][5, 32:64] *= 2


def part_of(w: Weights, score: Array) -> Array:
    """The 32 neighbouring weights of a matrix whose original scores highest, to be changed in place."""
    parts = w["a.q_proj.weight"].reshape(-1, 32)
    return parts[score(original()["a.q_proj.weight"].reshape(-1, 32)).argmax()]


def double_a_scale_that_has_an_offset(w: Weights) -> None:
    """The weights move away from the smallest of them; here a regression through zero says about 1."""
    part = part_of(w, lambda original: -original.mean(-1))
    part[:] = 2 * part - part.min()


def double_a_scale_of_small_weights(w: Weights) -> None:
    part_of(w, lambda original: -np.square(original).sum(-1))[:] *= 2


def shift_a_row(w: Weights) -> None:
    w["model.embed_tokens.weight"][7] = w["model.embed_tokens.weight"][8]


def permute_rows(w: Weights) -> None:
    w["a.k_proj.weight"] = w["a.k_proj.weight"].reshape(2, 2, 8, 128).swapaxes(1, 2).reshape(32, 128).copy()


def forget_a_norm(w: Weights) -> None:
    w["model.norm.weight"][:] = 1


def leave_one_out(w: Weights) -> None:
    del w["a.k_proj.weight"]


def add_one(w: Weights) -> None:
    w["lm_head.weight"] = w["model.embed_tokens.weight"]


def cut_one(w: Weights) -> None:
    w["a.q_proj.weight"] = w["a.q_proj.weight"][:, :96]


def break_a_number(w: Weights) -> None:
    w["a.q_proj.weight"][5, 40] = np.nan


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (double_a_scale, r"a\.q_proj\.weight: row 5, columns 32 to 63 are (1\.9|2|2\.\d) times the source's"),
        (
            double_a_scale_that_has_an_offset,
            r"a\.q_proj\.weight: row \d+, .* are 0\.[89]\d* times the source's, and 2\.",
        ),
        (double_a_scale_of_small_weights, r"a\.q_proj\.weight: row 56, .* are (1\.[89]|2|2\.\d) times the source's"),
        (shift_a_row, r"model\.embed_tokens\.weight: row 7, columns \d+ to \d+ are -?0\.\d+ times the source's"),
        (permute_rows, r"a\.k_proj\.weight: row 1, .* times the source's"),
        (forget_a_norm, r"model\.norm\.weight is 0\.\d+ of its size away"),
        (leave_one_out, r"a\.k_proj\.weight of the source is not in the artifact"),
        (add_one, r"has a tensor lm_head\.weight that the source does not have"),
        (cut_one, r"a\.q_proj\.weight has the shape \[64, 96\], in the source \[64, 128\]"),
        (break_a_number, r"a\.q_proj\.weight: row 5, columns 32 to 63 are nan times"),
    ],
)
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_other_weights_are_named(tmp_path: Path, fault: Callable[[Weights], None], message: str, bits: int) -> None:
    stored = quantized(bits)
    fault(stored)
    with pytest.raises(UnfaithfulError, match=message):
        verdict(tmp_path, stored)


@pytest.mark.parametrize("rows", [1, 7, 64, 96])
def test_tensors_that_the_artifact_joins_are_taken_apart_whatever_parts_they_come_in(tmp_path: Path, rows: int) -> None:
    weights, names = quantized(4), ("a.q_proj.weight", "a.k_proj.weight")
    fused = np.concatenate([weights.pop(name) for name in names])
    parts = [fused[i : i + rows] for i in range(0, len(fused), rows)]
    stored = [*held(weights), ArtifactWeight(sources=names, shape=fused.shape, parts=iter(parts))]
    apart, joined = verdict(tmp_path, quantized(4)), compare(stored, checkpoint(tmp_path, original()), tied=False)
    assert (joined.tensors, joined.largest_error_in) == (4, apart.largest_error_in)
    assert joined.largest_error == pytest.approx(apart.largest_error)


@pytest.mark.parametrize(
    ("rows", "said"), [(95, r"k_proj\.weight has the shape \[31"), (97, r"k_proj.*\[33"), (40, r"q_proj")]
)
def test_rows_that_are_missing_or_too_many_are_named(tmp_path: Path, rows: int, said: str) -> None:
    names = ("a.q_proj.weight", "a.k_proj.weight")
    stored = ArtifactWeight(sources=names, shape=(rows, 128), parts=(np.zeros((rows, 128), dtype=np.float32),))
    with pytest.raises(UnfaithfulError, match=said):
        compare([stored], checkpoint(tmp_path, original()), tied=False)


def test_a_checkpoint_may_hold_the_output_matrix_that_it_shares_with_the_embedding(tmp_path: Path) -> None:
    source = original()
    source["lm_head.weight"] = source["model.embed_tokens.weight"]
    assert verdict(tmp_path, original(), tied=True, source=source).tensors == 4
    with pytest.raises(UnfaithfulError, match=r"lm_head\.weight of the source is not in the artifact"):
        verdict(tmp_path, original(), tied=False, source=source)
