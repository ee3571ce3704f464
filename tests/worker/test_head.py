"""From hidden states to log-probabilities, held against the same sum written out."""

import struct
from pathlib import Path

import numpy as np
import pytest

from bot.worker import head
from bot.worker.head import Head
from tests.worker.test_tensors import write

HIDDEN = [[1.0, 2.0], [-0.5, 0.25]]
WEIGHT = [[1.0, 0.0], [0.0, 1.0], [2.0, -3.0]]
BIAS = [10.0, 20.0, 30.0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(
        tmp_path / "model.safetensors",
        {
            "lm_head.weight": ("F32", [3, 2], struct.pack("<6f", *[x for row in WEIGHT for x in row])),
            "lm_head.bias": ("F32", [3], struct.pack("<3f", *BIAS)),
        },
    )
    return tmp_path


def test_logits_are_the_states_times_the_matrix(source: Path) -> None:
    logits = Head(source, {"weight": "lm_head.weight", "bias": None}).logits(HIDDEN)
    assert logits.dtype == np.float32
    assert logits.tolist() == [[1.0, 2.0, -4.0], [-0.5, 0.25, -1.75]]


def test_a_bias_is_added(source: Path) -> None:
    logits = Head(source, {"weight": "lm_head.weight", "bias": "lm_head.bias"}).logits(HIDDEN)
    assert logits.tolist() == [[11.0, 22.0, 26.0], [9.5, 20.25, 28.25]]


@pytest.mark.parametrize("numbers", [1, 2, 4, 1000])
def test_the_matrix_is_read_in_parts_of_any_size(source: Path, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_WIDENED", numbers)
    logits = Head(source, {"weight": "lm_head.weight", "bias": None}).logits(HIDDEN)
    assert logits.tolist() == [[1.0, 2.0, -4.0], [-0.5, 0.25, -1.75]]


def test_the_parts_of_the_vocabulary_lie_side_by_side(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_WIDENED", 4)
    parts = list(Head(source, {"weight": "lm_head.weight", "bias": "lm_head.bias"}).parts(HIDDEN))
    assert [p.tolist() for p in parts] == [[[11.0, 22.0], [9.5, 20.25]], [[26.0], [28.25]]]
