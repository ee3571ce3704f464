"""Weights: rounding passes, and whatever is another tensor, another row or another scale does not."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.worker.tensors import Tensors
from bot.worker.weights import TIED_OUTPUT, ArtifactWeight, Fidelity, UnfaithfulError, compare

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


def held(weights: Weights, nearest: int = 0) -> list[ArtifactWeight]:
    return [ArtifactWeight.whole(name, values, nearest) for name, values in weights.items()]


def verdict(
    folder: Path, stored: Weights, *, tied: bool = False, source: Weights | None = None, nearest: int = 0
) -> Fidelity:
    return compare(held(stored, nearest), checkpoint(folder, source or original()), tied=tied)


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


@pytest.mark.parametrize(("bits", "times"), [(2, 8), (3, 15), (4, 30)])
def test_parts_that_levels_of_few_bits_make_nothing_of_pass(tmp_path: Path, bits: int, times: float) -> None:
    source = original()
    source["a.q_proj.weight"][:, :32] *= times
    stored = {name: rounded(v, bits, group=64) if v.ndim == 2 else v for name, v in source.items()}
    assert verdict(tmp_path, stored, source=source, nearest=32).tensors == 4


def test_a_row_may_be_off_by_as_much_as_its_format_says(tmp_path: Path) -> None:
    stored, source = quantized(8), checkpoint(tmp_path, original())
    stored["a.q_proj.weight"][5] *= 1.05
    assert compare(held(stored), source, tied=False).tensors == 4
    with pytest.raises(UnfaithfulError, match=r"^a\.q_proj\.weight: row 5 is 1\.0[45]\d* times the source's"):
        compare([replace(w, slope=(0.955, 1.02)) for w in held(stored)], source, tied=False)


def double_a_row(w: Weights) -> None:
    w["a.q_proj.weight"][5] *= 2


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


def largest_part(w: Weights) -> Array:
    return part_of(w, lambda original: np.square(original).sum(-1))


def a_scale_off_by_a_twentieth(w: Weights) -> None:
    largest_part(w)[:] *= 1.05


def a_zero_point_off_by_one(w: Weights) -> None:
    part = largest_part(w)
    part += np.diff(np.unique(part)).min()


def a_part_of_a_row_turned(w: Weights) -> None:
    largest_part(w)[:] *= -1


def a_part_forgotten(w: Weights) -> None:
    largest_part(w)[:] = 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (double_a_row, r"a\.q_proj\.weight: row 5 is (1\.9\d*|2|2\.\d+) times the source's"),
        (a_part_forgotten, r"a\.q_proj.*: row \d+, columns \d+ to \d+ are 0 times the source's"),
        (a_part_of_a_row_turned, r"a\.q_proj.*: row \d+, columns \d+ to \d+ are -\S+ times the source's"),
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
    stored = [*held(weights), ArtifactWeight(sources=names, shape=fused.shape, parts=lambda: parts)]
    apart, joined = verdict(tmp_path, quantized(4)), compare(stored, checkpoint(tmp_path, original()), tied=False)
    assert (joined.tensors, joined.largest_error_in) == (4, apart.largest_error_in)
    assert joined.largest_error == pytest.approx(apart.largest_error)


def test_parts_may_come_in_the_memory_of_those_before_them(tmp_path: Path) -> None:
    room: Array = np.empty((8, 128), dtype=np.float32)

    def parts(values: Array) -> Iterator[Array]:
        for i in range(0, len(values), 8):
            room[:] = values[i : i + 8]
            yield room

    def in_room(name: str, values: Array) -> ArtifactWeight:
        if values.ndim == 1:
            return ArtifactWeight.whole(name, values)
        return ArtifactWeight(sources=(name,), shape=values.shape, parts=lambda: parts(values), nearest=32)

    weights, source = quantized(4), checkpoint(tmp_path, original())
    found = compare([in_room(name, v) for name, v in weights.items()], source, tied=False)
    assert found.largest_error == pytest.approx(verdict(tmp_path, weights).largest_error)
    weights["a.k_proj.weight"][17] *= 2
    with pytest.raises(UnfaithfulError, match=r"a\.k_proj\.weight: row 17, "):
        compare([in_room(name, v) for name, v in weights.items()], source, tied=False)


@pytest.mark.parametrize(
    ("rows", "said"), [(95, r"k_proj\.weight has the shape \[31"), (97, r"k_proj.*\[33"), (40, r"q_proj")]
)
def test_rows_that_are_missing_or_too_many_are_named(tmp_path: Path, rows: int, said: str) -> None:
    names = ("a.q_proj.weight", "a.k_proj.weight")
    stored = ArtifactWeight(sources=names, shape=(rows, 128), parts=lambda: (np.zeros((rows, 128), dtype=np.float32),))
    with pytest.raises(UnfaithfulError, match=said):
        compare([stored], checkpoint(tmp_path, original()), tied=False)


def test_a_checkpoint_may_hold_the_output_matrix_that_it_shares_with_the_embedding(tmp_path: Path) -> None:
    source = original()
    source["lm_head.weight"] = source["model.embed_tokens.weight"]
    assert verdict(tmp_path, original(), tied=True, source=source).tensors == 4
    with pytest.raises(UnfaithfulError, match=r"lm_head\.weight of the source is not in the artifact"):
        verdict(tmp_path, original(), tied=False, source=source)


# ---- where each weight has the nearest level ------------------------------------------------------------------


def two_rows_exchanged(w: Weights) -> None:
    w["model.embed_tokens.weight"][[7, 8]] = w["model.embed_tokens.weight"][[8, 7]]


@pytest.mark.parametrize("nearest", [16, 32])
@pytest.mark.parametrize("bits", [4, 5, 6])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (double_a_scale_that_has_an_offset, r"a\.q_proj.*: row \d+, columns \d+ to \d+ are nearer to other levels"),
        (double_a_scale_of_small_weights, r"a\.q_proj.*: row 56, columns \d+ to \d+ are nearer to other levels"),
        (a_scale_off_by_a_twentieth, r"a\.q_proj.*: row \d+, columns \d+ to \d+ are nearer to other levels"),
        (a_zero_point_off_by_one, r"a\.q_proj.*: row \d+, columns \d+ to \d+ are nearer to other levels"),
        (a_part_of_a_row_turned, r"a\.q_proj.*: row \d+, columns \d+ to \d+ are -\S+ times the source's"),
        (a_part_forgotten, r"a\.q_proj.*: row \d+, columns \d+ to \d+ are 0 times the source's"),
        (two_rows_exchanged, r"model\.embed_tokens\.weight: row 7, .* (times the source's|nearer to other levels)"),
        (break_a_number, r"a\.q_proj.*: row 5, columns 32 to 63 are nan times"),
    ],
)
def test_faults_smaller_than_rounding_are_found_by_levels(
    tmp_path: Path, fault: Callable[[Weights], None], message: str, bits: int, nearest: int
) -> None:
    stored = quantized(bits)
    assert verdict(tmp_path, stored, nearest=nearest).tensors == 4
    fault(stored)
    with pytest.raises(UnfaithfulError, match=message):
        verdict(tmp_path, stored, nearest=nearest)


def test_most_scales_that_are_off_by_a_twentieth_are_found_wherever_they_are(tmp_path: Path) -> None:
    found = 0
    for part in range(256):
        stored = quantized(4)
        stored["a.q_proj.weight"].reshape(-1, 32)[part] *= 1.05
        try:
            verdict(tmp_path, stored, nearest=32)
        except UnfaithfulError:
            found += 1
    assert found > 256 * 0.75


def test_most_offsets_that_are_off_by_a_sixth_of_a_level_are_found_wherever_they_are(tmp_path: Path) -> None:
    """So far off is a block of Q4_K whose minimum, of six bits, is one step too large: its errors hardly grow."""
    found = 0
    for part in range(256):
        stored = quantized(4)
        block = stored["a.q_proj.weight"].reshape(-1, 32)[part]
        block += np.ptp(block) / 15 / 6
        try:
            verdict(tmp_path, stored, nearest=32)
        except UnfaithfulError:
            found += 1
    assert found > 256 * 0.75


def in_bfloat16(values: Array) -> Array:
    return (values.astype("<f4").view("<u4") + 0x8000 & 0xFFFF0000).view("<f4")


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_scales_and_offsets_in_bfloat16_leave_weights_at_the_nearest_level(tmp_path: Path, bits: int) -> None:
    def stored(values: Array) -> Array:
        groups = values.reshape(len(values), -1, 32)
        low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
        scale = (high - low) / (2**bits - 1)
        return (np.rint((groups - low) / scale) * in_bfloat16(scale) + in_bfloat16(low)).reshape(values.shape)

    weights = {name: stored(v) if v.ndim == 2 else v for name, v in original().items()}
    in_file = [replace(weight, scales=2**-9) for weight in held(weights, nearest=32)]
    assert compare(in_file, checkpoint(tmp_path, original()), tied=False).tensors == 4


def weighted(values: Array, counts: Array) -> Array:
    """Weights of 4 bits with the scale of those that count: others are cut off where levels end."""
    groups, counting = (x.reshape(len(values), -1, 32) for x in (values, np.broadcast_to(counts, values.shape)))
    scale = np.where(counting, np.abs(groups), 0).max(-1, keepdims=True) / 7
    return (np.clip(np.rint(groups / scale), -8, 7) * scale).reshape(values.shape).astype(np.float32)


def test_a_search_that_weighs_errors_may_clip_unimportant_weights(tmp_path: Path) -> None:
    """Where one input is large and unimportant, its weights come out at a fraction of their size."""
    source, counts = original(), np.arange(128) % 32 != 5
    source["a.q_proj.weight"][:, 5] *= 5
    stored = {name: weighted(v, counts) if v.ndim == 2 else v for name, v in source.items()}
    slopes = (stored["a.q_proj.weight"] * source["a.q_proj.weight"]).reshape(-1, 32).sum(-1)
    assert (slopes / np.square(source["a.q_proj.weight"]).reshape(-1, 32).sum(-1)).min() < 0.4
    assert verdict(tmp_path, stored, source=source, nearest=32).tensors == 4
    assert verdict(tmp_path, stored, source=source).tensors == 4


def test_errors_that_later_weights_make_up_for_are_no_fault_where_that_is_said(tmp_path: Path) -> None:
    """As GPTQ rounds: a weight gets the error of the one before it on top."""

    def passed_on(values: Array) -> Array:
        groups = values.reshape(-1, 32).copy()
        step = np.abs(groups).max(-1) / 7
        carried: Array = np.zeros(len(groups), dtype=np.float32)
        for i in range(32):
            wanted = groups[:, i] + 0.5 * carried
            groups[:, i] = np.clip(np.rint(wanted / step), -8, 7) * step
            carried = wanted - groups[:, i]
        return groups.reshape(values.shape)

    stored = {name: passed_on(v) if v.ndim == 2 else v for name, v in original().items()}
    assert verdict(tmp_path, stored).tensors == 4
    with pytest.raises(UnfaithfulError, match="nearer to other levels"):
        verdict(tmp_path, stored, nearest=32)


def solved_as(weights: Weights) -> dict[str, str]:
    """The digests of matrices, as a calibrated build keeps them."""
    return {name: hashlib.sha256(values).hexdigest() for name, values in weights.items() if values.ndim == 2}


def test_matrices_that_were_solved_need_not_have_their_nearest_levels(tmp_path: Path) -> None:
    stored = quantized(4)
    stored["a.q_proj.weight"] = stored["a.q_proj.weight"].copy()
    stored["a.q_proj.weight"][5, :32] = moved(stored["a.q_proj.weight"][5, :32])
    source = checkpoint(tmp_path, original())
    with pytest.raises(UnfaithfulError, match="nearer to other levels"):
        compare(held(stored, 32), source, tied=False)
    assert compare(held(stored, 32), source, tied=False, solved=solved_as(stored)).tensors == 4


def moved(weights: Array) -> Array:
    """Each third weight at the level beside its own."""
    known: Array = np.unique(weights)
    places: Array = np.searchsorted(known, weights)
    places[::3] = np.where(places[::3] > 0, places[::3] - 1, 1)
    return known[places]


@pytest.mark.parametrize("change", [1.05, 1.0 + 2**-20])
def test_a_matrix_is_exactly_what_it_was_solved_to(tmp_path: Path, change: float) -> None:
    stored, source = quantized(4), checkpoint(tmp_path, original())
    known = solved_as(stored)
    stored["a.k_proj.weight"] = stored["a.k_proj.weight"].copy()
    stored["a.k_proj.weight"][31, 96:] *= np.float32(change)
    with pytest.raises(UnfaithfulError, match=r"a.k_proj.weight is not what it was rounded to"):
        compare(held(stored, 32), source, tied=False, solved=known)


def test_a_zero_of_the_other_sign_is_the_same_weight(tmp_path: Path) -> None:
    """A code less its zero point times a negative scale is one; a product and a sum give the other."""
    nearly = {name: np.where(np.abs(v) < 0.002, np.float32(0), v) for name, v in quantized(4).items()}
    known, source = solved_as(nearly), checkpoint(tmp_path, original())
    stored = {name: np.where(values == 0, np.float32(-0.0), values) for name, values in nearly.items()}
    assert solved_as(stored) != known
    assert compare(held(stored, 32), source, tied=False, solved=known).tensors == 4


def test_an_embedding_that_was_kept_is_not_the_output_matrix_that_was_solved(tmp_path: Path) -> None:
    source = {"model.embed_tokens.weight": original()["a.q_proj.weight"]}
    solved = {"model.embed_tokens.weight": quantized(4)["a.q_proj.weight"]}
    output = replace(held(solved, 32)[0], output=True)
    known = {TIED_OUTPUT: solved_as(solved)["model.embed_tokens.weight"]}
    files = checkpoint(tmp_path, source)
    assert compare([*held(source, 32), output], files, tied=True, solved=known).tensors == 2
    with pytest.raises(UnfaithfulError, match="is not what it was rounded to"):
        compare([*held(source, 32), replace(held(source, 32)[0], output=True)], files, tied=True, solved=known)


def test_a_matrix_that_was_solved_is_the_source_s_too(tmp_path: Path) -> None:
    stored, source = quantized(4), checkpoint(tmp_path, original())
    stored["a.k_proj.weight"] = stored["a.k_proj.weight"][::-1].copy()
    with pytest.raises(UnfaithfulError, match=r"a.k_proj.weight: row 0"):
        compare(held(stored, 32), source, tied=False, solved=solved_as(stored))
