"""What rounding costs, as files: errors of another rounding cost what those of the probe say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.worker.sensitivities import FILE, Errors, Sensitivities, Use, Writer, probe, sampled

Array = Any
MATRIX = "model.layers.0.mlp.down_proj.weight"


def matrix(rows: int = 300, columns: int = 64) -> Array:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def kept(folder: Path, *uses: Use) -> tuple[Sensitivities, Array]:
    """Keep a matrix with some uses; return what is kept, and the errors of the probe on its rows."""
    writer = Writer(folder=folder, tokens=6)
    for use in uses:
        writer.add(MATRIX, use)
    rows = matrix()
    writer.add_rows(MATRIX, rows[sampled(len(rows))])
    sha256 = writer.finish()
    found = Sensitivities(folder)
    assert found.sha256 == sha256
    return found, probe(found.rows(MATRIX))


def use(*nats: float, lookup: bool = False, columns: Array = None) -> Use:
    counts = np.ones(64) if columns is None else columns
    return Use(nats=np.array(nats), together=np.array(nats), columns=counts, lookup=lookup)


def test_rows_from_all_over_a_matrix_are_kept() -> None:
    assert list(sampled(3)) == [0, 1, 2]
    found = sampled(10_000)
    assert (found[0], found[-1], len(found)) == (0, 9_999, 128)


def test_a_probe_is_off_by_half_a_step_at_most() -> None:
    off = np.abs(probe(matrix())).reshape(300, -1, 32)
    groups = matrix().reshape(300, -1, 32)
    assert (off <= (np.ptp(groups, axis=-1, keepdims=True) / 15 / 2) * 1.001).all()
    assert np.isfinite(probe(matrix(columns=24))).all(), "columns that are not whole groups of 32"


def test_errors_cost_by_their_squares(tmp_path: Path) -> None:
    found, off = kept(tmp_path, use(0.1, 0.3))
    assert found.cost(MATRIX, Errors(single=off, solved=off)) == pytest.approx([0.1, 0.3])
    assert found.cost(MATRIX, Errors(single=3 * off, solved=off)) == pytest.approx([0.9, 2.7])


def test_a_column_counts_as_its_inputs_and_gradients_do(tmp_path: Path) -> None:
    columns = np.zeros(64)
    columns[7] = 1
    found, off = kept(tmp_path, use(0.2, columns=columns))
    elsewhere = off.copy()
    elsewhere[:, 8:] = 1000
    assert found.cost(MATRIX, Errors(single=elsewhere, solved=off)) == pytest.approx([0.2])


def test_what_the_solver_gains_counts_for_products_and_not_for_rows_that_are_looked_up(tmp_path: Path) -> None:
    found, off = kept(tmp_path, use(0.2), use(0.1, lookup=True))
    assert found.cost(MATRIX, Errors(single=off, solved=2 * off, left=0.5)) == pytest.approx([0.2 * 0.5 + 0.1 * 4])


def test_what_errors_of_a_kind_do_together_counts_in_all_layers_alike(tmp_path: Path) -> None:
    writer = Writer(folder=tmp_path, tokens=6)
    names = ["model.layers.0.self_attn.qkv_proj.weight", "model.layers.11.self_attn.qkv_proj.weight", MATRIX]
    for name, together in zip(names, (0.9, 0.3, 0.13), strict=True):
        nats = np.full(20, 0.1)
        writer.add(name, Use(nats=nats, together=together / 0.1 * nats, columns=np.ones(64)))
        writer.add_rows(name, matrix())
    writer.finish()
    found, off = Sensitivities(tmp_path), probe(matrix())
    costs = [found.cost(name, Errors(single=off, solved=off)).mean() for name in names]
    assert costs == pytest.approx([0.6, 0.6, 0.1]), "of the last one it is not clear that it is more"


def test_a_matrix_that_is_not_known_is_said_to_be_none(tmp_path: Path) -> None:
    found, _ = kept(tmp_path, use(0.2))
    assert MATRIX in found
    assert "model.layers.1.mlp.down_proj.weight" not in found


def test_other_figures_have_another_digest(tmp_path: Path) -> None:
    for name, nats in (("a", 0.2), ("b", 0.2), ("c", 0.3)):
        (tmp_path / name).mkdir()
        kept(tmp_path / name, use(nats))
    a, b, c = (json.loads((tmp_path / name / FILE).read_text())["sha256"] for name in "abc")
    assert a == b != c
