"""The cost of rounding, beside that of plain rounding at the same positions."""

from typing import Any

import numpy as np
import pytest

from bot.worker.cost import cost_of_rounding
from bot.worker.distance import Positions

Array = Any
RANDOM = np.random.default_rng(0)
PLAIN = [RANDOM.exponential(0.01, 28).tolist() for _ in range(5)]
REFERENCE = {
    "plain_windows": [f"{n}.npy" for n in range(5)],
    "plain": {"int4": PLAIN, "fp32": [[0.0] * 28] * 5},
}


def positions(window: str, kl: Array, setting: str = "") -> Positions:
    at = np.arange(4, 4 + len(kl))
    return Positions(window=window, side="short", kind="prose", setting=setting, at=at, kl=kl, same=kl < 1, excess=kl)


def file_that_costs(times: float, windows: int = 5) -> list[Positions]:
    """Whole windows of a file that costs so many times what plain rounding does, and as much again behind that."""
    return [
        positions(f"{n}.npy", np.concatenate([times * np.array(PLAIN[n]), np.full(200, 9.0)])) for n in range(windows)
    ]


def test_positions_are_paired() -> None:
    found = cost_of_rounding(file_that_costs(1.25), REFERENCE, "int4")
    assert found is not None
    assert found.tokens == 140
    assert found.plain_kl == pytest.approx(np.mean(PLAIN))
    assert found.ratio == pytest.approx(1.25)
    assert found.ratio_error < 1e-9 < found.error  # both figures vary with the text; one over the other does not here


def test_windows_that_a_reference_lacks_and_other_settings_do_not_count() -> None:
    others = [positions("deep.npy", np.full(28, 9.0)), positions("0.npy", np.full(28, 9.0), "a long context")]
    found = cost_of_rounding(file_that_costs(2, windows=2) + others, REFERENCE, "int4")
    assert found is not None
    assert found.tokens == 56
    assert found.ratio == pytest.approx(2)
    assert cost_of_rounding(others[:1], REFERENCE, "int4") is None


def test_nothing_is_no_multiple_of_nothing() -> None:
    found = cost_of_rounding(file_that_costs(1), REFERENCE, "fp32")
    assert found is not None
    assert (found.plain_kl, found.ratio, found.ratio_error) == (0.0, None, 0.0)
    assert found.mean_kl == pytest.approx(np.mean(PLAIN))


def test_an_error_covers_what_another_text_would_give() -> None:
    def costs() -> list[float]:
        kl: list[Array] = [np.repeat(RANDOM.exponential(0.01, 4), 7) for _ in range(5)]  # neighbours are alike
        found = cost_of_rounding([positions(f"{n}.npy", k) for n, k in enumerate(kl)], REFERENCE, "int4")
        assert found is not None
        return [found.mean_kl, found.error]

    measured: Array = np.array([costs() for _ in range(300)])
    means, errors = measured.T
    assert errors.mean() == pytest.approx(means.std(), rel=0.2)
