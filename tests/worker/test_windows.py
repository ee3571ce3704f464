"""Which parts of the text are measured."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.worker.windows import WINDOW, Window, longrope_switch, windows_of

PLAIN: dict[str, Any] = {"max_position_embeddings": 16384}
LONGROPE: dict[str, Any] = {
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"type": "longrope", "long_factor": [1.0, 2.0], "short_factor": [1.0, 1.0]},
}
KINDS = {"prose": range(1000), "code": range(2000, 2600)}
MIXED = range(5000)


def test_each_kind_has_two_windows_at_the_ends_of_its_text() -> None:
    *of_kinds, _ = windows_of(KINDS, MIXED, first=(), config=PLAIN)
    assert [(w.kind, w.ids[0], w.ids[-1], w.following) for w in of_kinds] == [
        ("prose", 0, 255, 256),
        ("prose", 743, 998, 999),
        ("code", 2000, 2255, 2256),
        ("code", 2343, 2598, 2599),
    ]
    assert {w.scored for w in of_kinds} == {tuple(range(4, 256))}


def test_a_model_with_longrope_is_measured_up_to_its_switch_and_past_it() -> None:
    *_, deep, long = windows_of(KINDS, MIXED, first=(), config=LONGROPE)
    assert (deep.side, deep.kind, len(deep.ids), len(deep.scored)) == ("short", "mixed", 4096, 512)
    assert (deep.scored[0], deep.scored[-1]) == (4, 4088)
    assert (long.side, long.kind, len(long.ids)) == ("long", "mixed", 4096 + 256)
    assert long.scored == tuple(range(4096, 4096 + 256))
    assert long.following == MIXED[4096 + 256]


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 4096, "sliding_window": 2047}, 2047 + 256),
        ({"max_position_embeddings": 1024, "sliding_window": 1000}, 1023),
        ({"max_position_embeddings": 131072, "sliding_window": 262144}, 1024),
        ({"max_position_embeddings": 131072, "sliding_window": 65536}, 1024),
        ({"max_position_embeddings": 16384, "sliding_window": None}, 1024),
        ({"max_position_embeddings": 600}, 599),
    ],
    ids=["passes a sliding window", "ends with the model", "window of more than all", "too wide", "none", "short"],
)
def test_the_deep_window_goes_where_the_model_changes(config: dict[str, Any], length: int) -> None:
    deep = windows_of(KINDS, MIXED, first=(), config=config)[-1]
    assert (deep.kind, len(deep.ids)) == ("mixed", length)


def test_windows_begin_as_the_tokenizer_begins_a_text() -> None:
    windows = windows_of({"prose": range(100, 900)}, range(100, 900), first=(1,), config=PLAIN)
    assert [w.ids[:2] for w in windows] == [(1, 100), (1, 644), (1, 100)]
    assert [len(w.ids) for w in windows] == [256, 256, 1024]


def test_a_text_that_is_too_short_is_repeated() -> None:
    window = windows_of({"prose": [7, 8, 9]}, MIXED, first=(), config=PLAIN)[0]
    assert window.ids[:6] == (7, 8, 9, 7, 8, 9)
    assert len(window.ids) == 256


@given(
    text=st.integers(1, 3000),
    first=st.integers(0, 2),
    switch=st.none() | st.integers(32, 2048),
    sliding=st.none() | st.integers(16, 3000),
)
def test_every_window_stays_on_its_side(text: int, first: int, switch: int | None, sliding: int | None) -> None:
    config = {**LONGROPE, "original_max_position_embeddings": switch} if switch else PLAIN
    windows = windows_of(
        {"a": range(text), "b": range(text)},
        range(text),
        first=[-1] * first,
        config=config | {"sliding_window": sliding},
    )
    assert Counter(w.kind for w in windows) == {"a": 2, "b": 2, "mixed": 2 if switch else 1}
    assert len({w.file for w in windows}) == len(windows)
    for window in windows:
        _is_well_formed(window)
        if window.side == "short":
            assert len(window.ids) <= (switch or 16384)
        else:
            assert window.scored[0] == switch
            assert len(window.scored) == WINDOW


def _is_well_formed(window: Window) -> None:
    assert list(window.scored) == sorted(set(window.scored))
    assert 0 < len(window.scored) <= 512
    assert window.scored[0] >= 4
    assert window.scored[-1] < len(window.ids)


def test_longrope_is_recognised_in_old_and_new_configs() -> None:
    scaling = LONGROPE["rope_scaling"]
    new = {"max_position_embeddings": 4096, "rope_parameters": {**scaling, "original_max_position_embeddings": 512}}
    assert longrope_switch(LONGROPE) == 4096
    assert longrope_switch(new) == 512


@pytest.mark.parametrize(
    "change",
    [{"rope_scaling": None}, {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"max_position_embeddings": 4096}],
    ids=["no scaling", "another scaling", "no position past the switch"],
)
def test_other_models_have_no_switch(change: dict[str, Any]) -> None:
    assert longrope_switch(LONGROPE | change) is None
