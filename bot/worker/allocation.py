"""Which matrix of a file gets how many bytes: the least that rounding may cost in all, within a size.

It knows no format. Of each tensor there are choices, each of so many bytes, with what it costs. Those that are worth
their bytes lie on the lower convex hull of cost over bytes. Going along the hulls, the step that gains most for each of
its bytes comes first: at every size that this passes through, no other choice of types costs less in that size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A type that a tensor may have, by the number or the name that its format gives it: its bytes, and its cost."""

    kind: int | str
    size: int
    cost: float


def hull(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices on the lower convex hull of cost over bytes, from the smallest one on.

    Of each of them on, another byte gains less than before. Raises ValueError for no choices.
    """
    if not choices:
        raise ValueError("a tensor without a type to choose")
    found: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.size, c.cost, str(c.kind))):
        if found and choice.cost >= found[-1].cost:
            continue
        while len(found) > 1 and _gain(found[-2], found[-1]) <= _gain(found[-2], choice):
            found.pop()
        if found and found[-1].size == choice.size:
            continue
        found.append(choice)
    return found


def smallest(choices: Mapping[str, Sequence[Choice]]) -> int:
    """Return the bytes of all tensors, each of the smallest type that it may have."""
    return sum(hull(of_tensor)[0].size for of_tensor in choices.values())


def largest(choices: Mapping[str, Sequence[Choice]]) -> int:
    """Return the bytes of all tensors, each of the type that costs least."""
    return sum(hull(of_tensor)[-1].size for of_tensor in choices.values())


def allocate(choices: Mapping[str, Sequence[Choice]], budget: int) -> dict[str, Choice]:
    """Return a choice for each tensor; all together have no more bytes than the ``budget``.

    A step that does not fit any more ends the way of its tensor, and others go on with what is left. Equal gains are
    taken in the order of the names. A larger budget never costs more: where it first has room for a step for which a
    smaller one has none, that step gains more than all that the smaller one can still put into its last bytes. Raises
    ValueError where even the smallest types have more bytes.
    """
    hulls = {name: hull(of_tensor) for name, of_tensor in sorted(choices.items())}
    at = dict.fromkeys(hulls, 0)
    left = budget - sum(found[0].size for found in hulls.values())
    if left < 0:
        raise ValueError(f"the smallest types have {-left} bytes more than there is room for")
    steps = [(-_gain(found[0], found[1]), name) for name, found in hulls.items() if len(found) > 1]
    heapify(steps)
    while steps:
        _, name = heappop(steps)
        found, now = hulls[name], at[name]
        more = found[now + 1].size - found[now].size
        if more > left:
            continue
        left -= more
        at[name] = now + 1
        if now + 2 < len(found):
            heappush(steps, (-_gain(found[now + 1], found[now + 2]), name))
    return {name: found[at[name]] for name, found in hulls.items()}


def _gain(smaller: Choice, larger: Choice) -> float:
    """Return what each byte more gains."""
    return (smaller.cost - larger.cost) / (larger.size - smaller.size) if larger.size > smaller.size else float("inf")
