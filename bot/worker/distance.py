"""Distances of predictions from the reference's: per position, and over many with standard errors. Needs numpy alone.

Standard errors come from a block bootstrap (Künsch, 1989): neighbouring positions share their context, so whole
runs of them are drawn.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.records.evidence import Distance, Figures, Side, Stretch

Array = Any  # numpy is not installed where mypy runs

_AT_ONCE = 1 << 17  # logits compared at once in a thread: 512 KiB of each array, which caches hold
_BLOCK = 16  # positions drawn together
_DRAWS = 1000
_STRETCHES = 24  # points of a curve over positions


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The measurements at the positions of one window, called by its file. All arrays have the same length.

    ``kl`` is in nats; ``same`` says whether both name the same likeliest token; ``excess`` is how many nats more than
    the reference the artifact's predictions take for the token that follows.
    """

    window: str
    side: Side
    kind: str
    setting: str
    at: Array
    kl: Array
    same: Array
    excess: Array


def compare(
    expected: Iterable[Array], got: Array, following: Sequence[int], *, threads: int = 1
) -> tuple[Array, Array, Array]:
    """Return KL(expected || got), whether their likeliest tokens are equal, and the excess loss at each position.

    Both are float32 logits of shape (positions, vocabulary). The expected ones come in parts of the vocabulary, from
    the first token on, so that they are never all held. ``got`` may have more columns, which padding adds.
    ``following`` are the ids that follow in the text. Raises ValueError for other shapes, or predictions that are not
    finite.
    """
    comparison = Comparison(following)
    with ThreadPoolExecutor(threads) as pool:  # numpy lets other threads run while it computes
        for part in expected:
            start, columns = comparison.columns, part.shape[-1]
            got_part = got[:, start : start + columns]
            if got_part.shape != part.shape or len(got_part) != len(following):
                wanted = (len(part), start + columns)
                raise ValueError(f"logits of shape {got.shape}, the reference has {wanted} or more")
            comparison.add(part, got_part, pool.map)
    return comparison.result()


class Comparison:
    """A comparison of logits that come in parts of the vocabulary, from the first token on, at ``following`` positions.

    ``columns`` are those that came so far.
    """

    def __init__(self, following: Sequence[int]) -> None:
        """Begin with the ids that follow in the text."""
        self.columns = 0
        count = len(following)
        self._want, self._have = _Softmax(count, following), _Softmax(count, following)
        self._weighted: Array = np.zeros(count)  # differences of logits, weighted by what is expected

    def add(self, expected: Array, got: Array, run: Callable[..., Iterable[None]] = map) -> None:
        """Add the next columns of both, float32 of shape (positions, columns); ``run`` maps over groups of rows."""
        step = max(_AT_ONCE // expected.shape[-1], 1)

        def rows(first: int) -> None:
            part = slice(first, first + step)
            want, have = self._want, self._have
            x, y = want.shifted(expected[part], part, self.columns), have.shifted(got[part], part, self.columns)
            difference = x - y
            weight, scale = want.add(x, part)
            have.add(y, part)
            moved = (want.top[part] - have.top[part]) * weight.sum(axis=-1)
            self._weighted[part] = self._weighted[part] * scale + np.einsum("ij,ij->i", weight, difference) + moved

        list(run(rows, range(0, len(expected), step)))
        self.columns += expected.shape[-1]

    def result(self) -> tuple[Array, Array, Array]:
        """Return what ``compare`` does. Raises ValueError for predictions that are not finite."""
        want, have = self._want, self._have
        shift = want.log_sum() - have.log_sum()  # from logits to log-probabilities
        kl = self._weighted / want.total - shift
        excess = want.followed - have.followed - shift
        if not (np.isfinite(kl).all() and np.isfinite(excess).all()):
            raise ValueError("the runtime's predictions are not finite numbers")
        return kl, want.likeliest == have.likeliest, excess


class _Softmax:
    """Partial softmax of rows of logits after some of their columns: the sums are relative to the largest so far.

    Columns are computed with in float32, and sums over all of them are kept in float64: the logits themselves are no
    more exact, and this is three times as fast.
    """

    def __init__(self, rows: int, following: Sequence[int]) -> None:
        self.top: Array = np.full(rows, -np.inf)
        self.total: Array = np.zeros(rows)
        self.likeliest: Array = np.zeros(rows, dtype=np.int64)
        self.followed: Array = np.zeros(rows)  # the logit of the id that follows
        self._before = np.full(rows, -np.inf)
        self._following = np.asarray(following)

    def shifted(self, logits: Array, rows: slice, start: int) -> Array:
        """Take note of columns from ``start`` on; return them relative to the largest so far of each row."""
        largest = logits.argmax(axis=-1)
        top = np.take_along_axis(logits, largest[:, None], axis=-1)[:, 0]
        self.likeliest[rows] = np.where(top > self.top[rows], largest + start, self.likeliest[rows])
        self._before[rows] = self.top[rows]
        self.top[rows] = np.maximum(self.top[rows], top)
        column = self._following[rows] - start
        inside = (column >= 0) & (column < logits.shape[-1])
        self.followed[rows][inside] = logits[inside, column[inside]]
        return logits - self.top[rows, None].astype(logits.dtype)

    def add(self, shifted: Array, rows: slice) -> tuple[Array, Array]:
        """Add the columns to the sum; return their weights, and what earlier sums are to be multiplied with."""
        scale = np.exp(self._before[rows] - self.top[rows])
        weight = np.exp(shifted, out=shifted)
        self.total[rows] = self.total[rows] * scale + weight.sum(axis=-1)
        return weight, scale

    def log_sum(self) -> Array:
        return self.top + np.log(self.total)


def distances(measured: Sequence[Positions]) -> list[Distance]:
    """Return one distance for each setting and side: the recommended setting and the short side come first."""
    groups = {(p.setting, p.side): p for p in measured}
    return [_distance([p for p in measured if (p.setting, p.side) == key]) for key in sorted(groups, key=_order)]


def stretches(measured: Sequence[Positions]) -> list[Stretch]:
    """Return the mean KL along the positions of the longest window of each setting and side."""
    longest: dict[tuple[str, Side], Positions] = {}
    for p in measured:
        key = (p.setting, p.side)
        if key not in longest or p.at[-1] > longest[key].at[-1]:
            longest[key] = p
    return [
        Stretch(
            side=p.side,
            first=int(at[0]),
            last=int(at[-1]),
            tokens=len(at),
            mean_kl=float(kl.mean()),
            setting=p.setting,
        )
        for key in sorted(longest, key=_order)
        for p in [longest[key]]
        for at, kl in zip(_parts(p.at), _parts(p.kl), strict=True)
    ]


def _parts(values: Array) -> list[Array]:
    parts: list[Array] = np.array_split(values, min(_STRETCHES, len(values)))
    return parts


def _order(key: tuple[str, Side]) -> tuple[str, int]:
    setting, side = key
    return setting, ("short", "long").index(side)


def _distance(windows: Sequence[Positions]) -> Distance:
    kl, same, excess = (np.concatenate([getattr(w, name) for w in windows]) for name in ("kl", "same", "excess"))
    kinds = dict.fromkeys(w.kind for w in windows)
    return Distance(
        side=windows[0].side,
        setting=windows[0].setting,
        tokens=len(kl),
        figures=Figures(
            **{name: float(values[0]) for name, values in _figures(kl[None], same[None], excess[None]).items()}
        ),
        standard_errors=_standard_errors(windows, kl, same, excess),
        by_kind={kind: float(np.concatenate([w.kl for w in windows if w.kind == kind]).mean()) for kind in kinds},
    )


def _figures(kl: Array, same: Array, excess: Array) -> dict[str, Array]:
    """Return each of Figures for every row of arrays of shape (draws, positions)."""
    return {
        "mean_kl": kl.mean(axis=-1),
        "p99_kl": np.percentile(kl, 99, axis=-1),
        "max_kl": kl.max(axis=-1),
        "top1_agreement": same.mean(axis=-1),
        "perplexity_ratio": np.exp(excess.mean(axis=-1)),
    }


def _standard_errors(windows: Sequence[Positions], kl: Array, same: Array, excess: Array) -> Figures:
    """Return the standard deviation of each figure over many draws of blocks, always the same ones."""
    starts = 0
    blocks: list[Array] = []
    for window in windows:
        count = len(window.kl)
        blocks += [np.arange(s, min(s + _BLOCK, count)) + starts for s in range(0, count - count % _BLOCK or 1, _BLOCK)]
        starts += count
    smallest = min(len(b) for b in blocks)
    whole = np.array([b[:smallest] for b in blocks])
    chosen = np.random.default_rng(0).integers(len(whole), size=(_DRAWS, len(whole)))
    drawn = whole[chosen].reshape(_DRAWS, -1)
    spread = _figures(kl[drawn], same[drawn], excess[drawn])
    return Figures(**{name: float(values.std()) for name, values in spread.items()})
