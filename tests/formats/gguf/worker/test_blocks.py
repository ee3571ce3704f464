"""Blocks of ggml's types: levels and codes are what ggml computes with, and codes go back to where they were."""

import json
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

_CODE = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from bot.formats.gguf.worker import ggml
from bot.formats.gguf.worker.blocks import LAYOUTS
from bot.formats.gguf.worker.kquants import by_ggml

said = {}
for kind, layout in LAYOUTS.items():
    random = np.random.default_rng(kind)
    rows = (random.normal(0, 0.02, (24, 768)) * 10.0 ** random.integers(-2, 3, (24, 1))).astype(np.float32)
    rows[0], rows[1, :256], rows[2] = 0, 0, np.abs(rows[2])
    packed = np.empty((24, ggml.row_size(kind, 768)), np.uint8)
    by_ggml(kind, rows, None, packed)
    found = layout.read(packed, 768)
    expected = ggml.dequantized(kind, packed.reshape(-1), np.empty(rows.size, np.float32)).reshape(rows.shape)
    off = np.abs(found.values - expected) / np.abs(expected).max(axis=1, keepdims=True).clip(1e-30)
    same = packed.copy()
    layout.write(same, found.codes)
    codes = random.integers(0, layout.grid.last + 1, rows.shape).astype(np.uint8)
    other = packed.copy()
    layout.write(other, codes)
    again = layout.read(other, 768)
    said[kind] = {
        "off": float(off.max()),
        "largest": int(found.codes.max()),
        "last": layout.grid.last,
        "same": bool((same == packed).all()),
        "written": bool((again.codes == codes).all()),
        "levels": bool((again.scales == found.scales).all() and (again.offsets == found.offsets).all()),
        "size": layout.size * 768 // layout.weights == packed.shape[1],
    }
print(json.dumps(said))
"""


def test_levels_and_codes_are_those_that_ggml_computes_with() -> None:
    said = json.loads(run_python(ensure("gguf", Silent()), _CODE, Path(bot.__file__).parents[1]))
    assert len(said) == 7
    for kind, found in said.items():
        assert found["off"] < 1e-6, kind  # ggml may compute product and sum at once
        assert found["largest"] == found["last"], kind
        assert all(found[name] for name in ("same", "written", "levels", "size")), kind
