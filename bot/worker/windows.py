"""Which parts of the evaluation text a reference is made of. Imports no toolchain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from bot.records.artifacts import Json
from bot.records.evidence import Side

WINDOW = 256  #: positions of a window of one kind, and those scored of a long one
UNSCORED = 4  #: positions at the start of a window that say more about the start than about the model
MIXED = "mixed"  #: the kind of windows that hold all kinds of text

_OF_EACH_KIND = 2
_DEEP = 1024  # positions of a deep window where nothing in the model asks for more
_DEEPEST = 8192  # ... and the most: memory and time grow with it
_SCORED_DEEP = 512


@dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive tokens of the text, the id that follows them, and the positions whose predictions count."""

    side: Side
    kind: str
    ids: tuple[int, ...]
    following: int
    scored: tuple[int, ...]
    file: str


def windows_of(
    ids: Mapping[str, Sequence[int]], mixed: Sequence[int], *, first: Sequence[int], config: dict[str, Json]
) -> list[Window]:
    """Cut windows out of the ids of the text by kind, and out of those of the whole text, ``mixed``.

    Each begins with the ids ``first`` (the beginning of text, where the tokenizer adds one). There are two of each
    kind, of 256 tokens. A deep one, mixed, reaches to the LongRoPE switch of the config, or past its sliding window.
    All of these stay below the switch; a long one passes it by 256 positions, which are the ones that count. A text too
    short for its window is repeated.
    """
    switch = longrope_switch(config)
    most = (config.get("max_position_embeddings") or _DEEP + 1) - 1  # runtimes want room for a token behind a text
    length = min(WINDOW, switch or most)
    windows = [
        _window(_ids(text, starts, first, length), side="short", kind=kind, file=f"{kind}-{n}.npy")
        for kind, text in ids.items()
        for n, starts in enumerate(_starts(len(text), length - len(first)))
    ]
    deep = switch or _deep(config, most)
    windows.append(_window(_ids(mixed, 0, first, deep), side="short", kind=MIXED, file="deep.npy"))
    if switch is not None:
        long = range(switch, switch + WINDOW)
        windows.append(
            _window(_ids(mixed, 0, first, len(long) + switch), side="long", kind=MIXED, file="long.npy", scored=long)
        )
    return windows


def longrope_switch(config: dict[str, Json]) -> int | None:
    """Return the number of positions past which a config asks for the long rotary factors, or None if it never does."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not rope.get("long_factor"):
        return None
    switch = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    most = config.get("max_position_embeddings")
    return int(switch) if switch and most and switch + WINDOW <= most else None


def _deep(config: dict[str, Json], most: int) -> int:
    sliding = config.get("sliding_window")
    if sliding and sliding < min(most, _DEEPEST):
        return int(min(most, sliding + WINDOW))
    return int(min(_DEEP, most))


def _starts(tokens: int, length: int) -> Iterator[int]:
    """Yield where windows begin that lie evenly over a text."""
    last = max(tokens - length - 1, 0)  # the id that follows has to be there
    return (last * n // (_OF_EACH_KIND - 1) for n in range(_OF_EACH_KIND))


def _ids(text: Sequence[int], start: int, first: Sequence[int], length: int) -> tuple[int, ...]:
    """Return the ids of a window and the one that follows: ``first``, then the text from ``start`` on, repeated."""
    return (*first, *islice(cycle(text), start, start + length - len(first) + 1))


def _window(ids_and_next: Sequence[int], *, side: Side, kind: str, file: str, scored: range | None = None) -> Window:
    *ids, following = ids_and_next
    return Window(
        side=side,
        kind=kind,
        ids=tuple(ids),
        following=following,
        scored=tuple(scored or _spread(UNSCORED, len(ids))),
        file=file,
    )


def _spread(first: int, end: int) -> Iterator[int]:
    """Yield the positions from ``first`` on, or as many as are scored of a deep window, evenly."""
    count = min(end - first, _SCORED_DEEP)
    return (first + (end - first) * n // count for n in range(count))
