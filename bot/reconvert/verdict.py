"""The verdict on a variant: is the file of the head nearer to the original than that of the base, or further from it?

Evidence keeps a mean KL and its standard error for each side of the LongRoPE switch. The two files were measured on the
same positions, but their differences position by position are not kept, so the test is the unpaired one: the
difference of the means over the root of the sum of the squared errors, two-sided at three. What hard positions have in
common would make the difference surer than that, so the test errs towards "same".
"""

import math
from collections.abc import Sequence

from bot.reconvert.records import ComparedVariant, Figure, SideMeasurement, Verdict

ERRORS = 3.0  #: standard errors that a difference has to be larger than
#: What a reader has to know first comes first.
ORDER: tuple[Verdict, ...] = (
    "failed", "fails the gate", "refused", "gone", "worse", "better", "new", "same", "same bytes",
)  # fmt: skip
SIZE = 0.005  #: the share of its size that a file may change by without being said to


def verdict(before: SideMeasurement | None, after: SideMeasurement | None) -> Verdict:
    """Return the verdict on a variant. Worse on one side of the switch is worse, whatever the other one says."""
    match before, after:
        case _, None:
            return "gone"
        case _, SideMeasurement(status="refused"):
            return "refused"
        case _, SideMeasurement(status="failed"):
            return "failed"
        case _, SideMeasurement(status="outside the gate"):
            return "fails the gate"
        case ((None | SideMeasurement(status="refused")), _):
            return "new"
        case SideMeasurement(status="failed"), _:
            return "better"
    assert before is not None  # noqa: S101 - that is new
    assert after is not None  # noqa: S101 - that is gone
    if before.digest and before.digest == after.digest:
        return "same bytes"
    signs = {_sign(z) for _, z in differences(before.figures, after.figures)}
    return "worse" if 1 in signs else "better" if -1 in signs else "same"


def differences(before: Sequence[Figure], after: Sequence[Figure]) -> list[tuple[str, float]]:
    """Return, for each side of the switch that both were measured on, by how many errors the head is further away."""
    there = {f.side: f for f in before}
    return [(f.side, _errors(there[f.side], f)) for f in after if f.side in there]


def refused_on_both_sides(row: ComparedVariant) -> bool:
    """Say whether the toolchain refuses it on both sides, so that the change is not the cause."""
    return all(m is not None and m.status == "refused" for m in (row.before, row.after))


def resized(row: ComparedVariant) -> float | None:
    """Return the share by which the size changes, None where it does not change enough to be said."""
    if row.before is None or row.after is None or not row.before.size or not row.after.size:
        return None
    share = row.after.size / row.before.size - 1
    return share if abs(share) > SIZE else None


def _errors(before: Figure, after: Figure) -> float:
    difference = after.mean_kl - before.mean_kl
    error = math.hypot(before.mean_kl_error, after.mean_kl_error)
    if error == 0:  # nothing is uncertain: any difference is one
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / error


def _sign(errors: float) -> int:
    return 0 if abs(errors) <= ERRORS else int(math.copysign(1, errors))
