"""Which parts of the text are measured."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.workers.windows import WINDOW, longrope_switch, windows_of

LONGROPE: dict[str, Any] = {
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"type": "longrope", "long_factor": [1.0, 2.0], "short_factor": [1.0, 1.0]},
}


def test_short_windows_lie_evenly_over_the_text() -> None:
    windows = windows_of(range(1000), first=(), switch=None, short_windows=3)
    assert [w.ids[0] for w in windows] == [0, 372, 744]
    assert [w.ids[-1] for w in windows] == [255, 627, 999]
    assert {w.side for w in windows} == {"short"}


def test_a_model_with_longrope_has_one_window_past_its_switch() -> None:
    *short, long = windows_of(range(8000), first=(), switch=4096, short_windows=4)
    assert [w.side for w in short] == ["short"] * 4
    assert (long.side, len(long.ids), long.first_scored) == ("long", 4096 + 256, 4096)


def test_windows_begin_as_the_tokenizer_begins_a_text() -> None:
    windows = windows_of(range(100, 900), first=(1,), switch=512, short_windows=2)
    assert [w.ids[:3] for w in windows] == [(1, 100, 101), (1, 645, 646), (1, 100, 101)]
    assert [len(w.ids) for w in windows] == [256, 256, 768]


@given(
    text=st.integers(1, 3000),
    first=st.integers(0, 2),
    switch=st.none() | st.integers(32, 2048),
    count=st.integers(1, 6),
)
def test_every_window_stays_on_its_side(text: int, first: int, switch: int | None, count: int) -> None:
    windows = windows_of(range(text), first=[-1] * first, switch=switch, short_windows=count)
    assert len(windows) == count + (switch is not None)
    assert len({w.file for w in windows}) == len(windows)
    for window in windows:
        if window.side == "short":
            assert len(window.ids) <= min(WINDOW, switch or WINDOW)
        else:
            assert switch is not None
            assert len(window.ids) - window.first_scored == WINDOW
            assert window.first_scored == switch


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
