"""The memory that a plan expects of a runtime that reads the longest text of verifying."""

import json
from typing import Any

import pytest

from benchmarks import verify
from benchmarks.checkpoints import SHAPES
from bot.formats.reading import longest_window
from bot.formats.registry import all_formats
from bot.worker.windows import windows_of

IDS = list(range(300))
LONGROPE = {"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}}


@pytest.mark.parametrize(
    "config",
    [
        {"max_position_embeddings": 2048},
        {"max_position_embeddings": 300},
        {},
        {"max_position_embeddings": 4096, "sliding_window": 2047},
        {"max_position_embeddings": 131072, "sliding_window": 262144},
        {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096, **LONGROPE},
        {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096},
        {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096, **LONGROPE},
        {
            "max_position_embeddings": 131072,
            "rope_scaling": {"rope_type": "longrope", "long_factor": [1.0], "original_max_position_embeddings": 8192},
        },
    ],
    ids=str,
)
def test_the_longest_window_is_the_one_that_a_reference_has(config: dict[str, Any]) -> None:
    windows = windows_of({"prose": IDS}, IDS, first=[], config=config)
    assert longest_window(config) == max(len(w.ids) for w in windows)


@pytest.mark.parametrize("value", [10**400, -1, "4096", None, 1.5, True, [4096]], ids=lambda value: str(value)[:9])
def test_a_config_may_say_anything(value: Any) -> None:
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "sliding_window")
    for form in all_formats().values():
        assert form.reading.memory(dict.fromkeys(keys, value), 1e9, weights=0) >= 1e9


def measured(shape: str) -> dict[str, verify.Row]:
    results = verify.Results.from_json(json.loads(verify.RESULTS.read_text(encoding="utf-8")))
    return {row.variant: row for found in results.shapes if found.shape == shape for row in found.rows}


@pytest.mark.parametrize(("variant", "of_it"), [("openvino/int4", 0.7), ("mlx/4bit", 0.95), ("gguf/q4_k_m", 0.7)])
def test_runtimes_at_a_real_size_take_what_is_expected(variant: str, of_it: float) -> None:
    """Pages of a file that was repacked can be dropped, and are not counted."""
    shape, row = SHAPES["phi-3.5-mini"], measured("phi-3.5-mini")[variant]
    config: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        **shape.config,
        **LONGROPE,
    }
    form = all_formats()[variant.partition("/")[0]]
    expected = form.reading.memory(config, row.size, weights=0)
    libraries = 0.5e9
    assert of_it * row.runtime_memory - libraries <= expected <= 1.1 * row.runtime_memory
