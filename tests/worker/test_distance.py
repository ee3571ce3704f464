"""Distances: what is known of two distributions on paper, and what their figures' errors have to cover."""

from typing import Any

import numpy as np
import pytest

from bot.records.evidence import Side
from bot.worker import distance
from bot.worker.distance import Positions, compare, distances, stretches

Array = Any
VOCABULARY = 5


def logits(seed: int, positions: int = 70) -> Array:
    return np.random.default_rng(seed).normal(size=(positions, VOCABULARY)).astype(np.float32)


def positions(kl: Array, *, side: Side = "short", kind: str = "prose", setting: str = "", first: int = 0) -> Positions:
    return Positions(
        window=f"{kind}.npy",
        side=side,
        kind=kind,
        setting=setting,
        at=np.arange(first, first + len(kl)),
        kl=kl,
        same=kl < 0.5,
        excess=kl / 10,
    )


# ---- one position --------------------------------------------------------------------------------------------


def test_a_model_is_at_no_distance_from_itself() -> None:
    kl, same, excess = compare([logits(0)], logits(0), [1] * 70)
    assert np.abs(kl).max() < 1e-12
    assert same.all()
    assert np.abs(excess).max() < 1e-12


def test_a_divergence_is_that_of_the_textbook() -> None:
    half, quarter = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    kl, same, excess = compare([half], quarter, [0])
    assert kl[0] == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert excess[0] == pytest.approx(np.log(2))  # the text went on with a token that was held for half as likely
    assert not same[0]


def test_logits_count_up_to_a_constant() -> None:
    kl, _, _ = compare([logits(0)], logits(0) + 7, [1] * 70)
    assert np.abs(kl).max() < 1e-6


def test_columns_that_padding_adds_do_not_count() -> None:
    padded = np.concatenate([logits(1), np.full((70, 3), 50, dtype=np.float32)], axis=1)
    for plain, wide in zip(
        compare([logits(0)], logits(1), [0] * 70), compare([logits(0)], padded, [0] * 70), strict=True
    ):
        assert (plain == wide).all()


@pytest.mark.parametrize("shape", [(69, VOCABULARY), (70, VOCABULARY - 1)])
def test_too_few_logits_are_an_error(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"the reference has \(70, 5\)"):
        compare([logits(0)], np.zeros(shape), [0] * 70)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite_are_an_error(value: float) -> None:
    broken = logits(0)
    broken[3, 1] = value
    with pytest.raises(ValueError, match="not finite numbers"), np.errstate(invalid="ignore"):
        compare([logits(0)], broken, [0] * 70)


def written_out(expected: Array, got: Array, following: Array) -> tuple[Array, Array, Array]:
    """The same figures in float64, as the definitions have them."""
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (expected.astype(np.float64), got.astype(np.float64)))
    rows = np.arange(len(p))
    kl = (np.exp(p) * (p - q)).sum(-1)
    return kl, p.argmax(-1) == q.argmax(-1), p[rows, following] - q[rows, following]


@pytest.mark.parametrize(("columns", "vocabulary"), [(1, 1000), (1365, 20_000), (4096, 20_000), (20_000, 20_000)])
def test_a_large_vocabulary_in_parts_gives_the_figures_of_the_definitions(columns: int, vocabulary: int) -> None:
    chance = np.random.default_rng(0)
    expected = chance.normal(7, 4, size=(40, vocabulary)).astype(
        np.float32
    )  # as sure as a model is: half a nat of entropy
    expected[np.arange(40), chance.integers(vocabulary, size=40)] += 30
    got = (expected + chance.normal(3, 0.3, size=expected.shape)).astype(np.float32)
    following = chance.integers(vocabulary, size=40)
    parts = [expected[:, i : i + columns] for i in range(0, vocabulary, columns)]
    for found, wanted in zip(compare(parts, got, following), written_out(expected, got, following), strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)


# ---- many positions ------------------------------------------------------------------------------------------


def test_figures_are_those_of_all_positions_of_a_side() -> None:
    kl = np.linspace(0, 1, 201)
    (found,) = distances([positions(kl[:100]), positions(kl[100:], kind="code")])
    assert found.tokens == 201
    assert found.figures.mean_kl == pytest.approx(0.5)
    assert found.figures.p99_kl == pytest.approx(0.99)
    assert found.figures.max_kl == 1
    assert found.figures.top1_agreement == pytest.approx(100 / 201)
    assert found.figures.perplexity_ratio == pytest.approx(np.exp(0.05))
    assert found.by_kind == {"prose": pytest.approx(kl[:100].mean()), "code": pytest.approx(kl[100:].mean())}


def test_sides_and_settings_are_kept_apart() -> None:
    kl = np.ones(40)
    found = distances(
        [positions(kl, setting="another"), positions(kl, side="long"), positions(kl), positions(kl, kind="code")]
    )
    assert [(d.setting, d.side, d.tokens) for d in found] == [
        ("", "short", 80),
        ("", "long", 40),
        ("another", "short", 40),
    ]


def test_standard_errors_cover_the_results_of_other_texts() -> None:
    """Each of many texts has an error bar; the true mean lies within two of them nearly always."""
    chance = np.random.default_rng(0)
    inside = 0
    for _ in range(30):
        (found,) = distances([positions(chance.exponential(0.3, size=256)) for _ in range(6)])
        inside += abs(found.figures.mean_kl - 0.3) < 2 * found.standard_errors.mean_kl
    assert inside >= 26


def test_standard_errors_know_that_neighbours_are_alike() -> None:
    """The same figures in runs of equal ones say less than they would in any order."""
    chance = np.random.default_rng(0)
    runs: Array = np.repeat(chance.exponential(0.3, size=128), distance._BLOCK)
    mixed = chance.permutation(runs)
    alike, apart = distances([positions(runs)])[0], distances([positions(mixed)])[0]
    assert alike.standard_errors.mean_kl > 2.5 * apart.standard_errors.mean_kl


def test_standard_errors_are_the_same_every_time() -> None:
    kl = np.random.default_rng(1).exponential(size=300)
    assert distances([positions(kl)]) == distances([positions(kl)])


@pytest.mark.parametrize("count", [1, 3, 16, 17])
def test_a_short_window_has_errors_too(count: int) -> None:
    (found,) = distances([positions(np.full(count, 0.25))])
    assert found.standard_errors.mean_kl == 0
    assert found.figures.mean_kl == 0.25


# ---- along positions -----------------------------------------------------------------------------------------


def test_a_curve_follows_the_longest_window_of_a_side() -> None:
    short, deep = positions(np.ones(50)), positions(np.linspace(0, 1, 480), first=20)
    beyond = positions(np.zeros(48), side="long", first=500)
    found = stretches([short, deep, beyond])
    assert {s.side for s in found[:24]} == {"short"}
    assert (found[0].first, found[23].last) == (20, 499)
    assert sum(s.tokens for s in found[:24]) == 480
    assert [s.mean_kl for s in found[:24]] == sorted(s.mean_kl for s in found[:24])
    assert (found[24].side, found[24].first, found[-1].last) == ("long", 500, 547)
