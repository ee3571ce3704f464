"""Measured numbers as text, with as many digits as they are worth."""

import math
from dataclasses import dataclass

from bot.records.evidence import Distance, Evidence

NONE = "none"  #: in place of a ratio to nothing


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What rounding cost a file, as text: its mean KL and that of plain rounding over ``tokens``, one over the other.

    ``times`` has a † where its runtime is known to differ on those texts, so that nothing was held against it; ``most``
    is the mean KL that was allowed.
    """

    tokens: str
    own: str
    plain: str
    times: str
    most: str


def cost(evidence: Evidence) -> Cost | None:
    """Return what rounding cost, as text; None where it could not be measured."""
    found = evidence.rounding
    if found is None:
        return None
    times = NONE if found.ratio is None else rounded(f"{found.ratio:.2f}", found.ratio_error)
    known = any(b.side == "short" and not b.setting for b in evidence.known_behaviours)
    return Cost(
        tokens=f"{found.tokens:,}",
        own=rounded(nats(found.mean_kl), found.error),
        plain=rounded(nats(found.plain_kl), found.plain_error),
        times=f"{times}†" if known else times,
        most=NONE if known else nats(evidence.gate),
    )


def nats(value: float) -> str:
    """Return a mean KL with three digits that count, and at most five after the point: 0.310, 0.0412, 0.00070."""
    decimals = 3 if value >= 0.1 else 4 if value >= 0.01 else 5
    return f"{value:.{decimals}f}"


def with_error(distance: Distance, name: str) -> str:
    """Return one of ``Figures`` with its standard error, rounded up to the figure's last digit: ``0.0412 ± 0.0009``.

    An agreement is in percent.
    """
    value, error = getattr(distance.figures, name), getattr(distance.standard_errors, name)
    if name == "top1_agreement":
        text, error = percent(value), error * 100
    else:
        text = perplexity(value) if name == "perplexity_ratio" else nats(value)
    return rounded(text, error)


def perplexity(ratio: float) -> str:
    """Return a ratio of perplexities with four decimals."""
    return f"{ratio:.4f}"


def percent(share: float) -> str:
    """Return a share in percent, with one decimal; only all of it is 100."""
    tenths = int(share * 1000 + 0.5)
    return f"{100 if share >= 1 else min(tenths, 999) / 10:.1f}"


def rounded(figure: str, error: float) -> str:
    """Return a figure with its error, rounded up to the last digit of the figure."""
    decimals = len(figure.partition(".")[2])
    return f"{figure} ± {math.ceil(round(error * 10**decimals, 6)) / 10**decimals:.{decimals}f}"
