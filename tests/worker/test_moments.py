"""Second moments: summed as states come by, kept as files, and read as factors of the right columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.worker.moments import Moments, Sums, blocks, write_index
from bot.worker.solver import factor

Array = Any


def states(positions: int, columns: int) -> Array:
    return np.random.default_rng(columns).normal(size=(positions, columns)).astype(np.float32)


def kept(folder: Path, **inputs: Array) -> str:
    """Write the moments of inputs as those of matrices of their names; return the digest."""
    files: dict[str, list[str]] = {}
    hashes: dict[str, str] = {}
    for name, given_states in inputs.items():
        sums = Sums(given_states.shape[1])
        sums.add(given_states)
        hashes |= (written := sums.write(folder, name))
        files[f"{name}.weight"] = list(written)
    return write_index(folder, tokens=1, inputs=files, hashes=hashes)


@given(st.integers(1, 20_000))
def test_blocks_are_all_columns_in_whole_groups(columns: int) -> None:
    found = blocks(columns)
    assert [i for b in found for i in (b.start, b.stop)][1:-1] == [b.start for b in found[1:] for _ in range(2)]
    assert (found[0].start, found[-1].stop) == (0, columns)
    assert all(b.stop - b.start <= 2048 for b in found)
    assert all(b.stop % 128 == 0 for b in found[:-1])


def test_sums_are_the_products_of_all_states(tmp_path: Path) -> None:
    whole = states(700, 96)
    sums = Sums(96)
    for part in (whole[:300], whole[300:301], whole[301:]):
        sums.add(part)
    (name,) = sums.write(tmp_path, "layer")
    assert np.allclose(np.load(tmp_path / name), whole.T @ whole, rtol=1e-4, atol=1e-3)
    assert sums.finite


def test_a_sum_beyond_float32_is_seen() -> None:
    sums = Sums(4)
    with np.errstate(over="ignore"):
        sums.add(np.full((10, 4), 1e19, dtype=np.float32))
    assert not sums.finite


def test_a_wide_input_has_a_factor_for_each_block(tmp_path: Path) -> None:
    wide = states(50, 2200)
    kept(tmp_path, down=wide)
    first, second = Moments(tmp_path).factors("down.weight", 2200)
    assert (len(first.order), len(second.order)) == (1152, 1048)
    block = wide[:, 1152:]
    assert np.allclose(second.weights, factor(block.T @ block).weights, rtol=1e-4)


def test_nothing_is_known_of_a_matrix_without_moments(tmp_path: Path) -> None:
    kept(tmp_path, up=states(50, 64))
    known = Moments(tmp_path)
    assert known.factors("up.weight", 64)[0].shares.size
    assert [f.shares.size for f in known.factors("model.embed_tokens.weight", 3072)] == [0, 0]


@pytest.mark.parametrize("other", [states(50, 96), states(51, 64)])
def test_the_digest_is_of_all_that_is_kept(tmp_path: Path, other: Array) -> None:
    folders = [tmp_path / n for n in "abc"]
    for folder in folders:
        folder.mkdir()
    first, same, different = (
        kept(folder, up=s) for folder, s in zip(folders, (states(50, 64), states(50, 64), other), strict=True)
    )
    assert first == same != different
