"""Which parts of the evaluation text a reference is made of. Imports no toolchain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bot.records import Json

WINDOW = 256  #: positions of a short window, and those scored of a long one
UNSCORED = 4  #: positions at the start of a window that say more about the start than about the model


@dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive tokens of the text, and the first position whose prediction counts."""

    side: Literal["short", "long"]
    ids: tuple[int, ...]
    first_scored: int
    file: str


def windows_of(ids: Sequence[int], *, first: Sequence[int], switch: int | None, short_windows: int) -> list[Window]:
    """Cut windows out of a text of ``ids``.

    Each begins with the ids ``first`` (the beginning of text, where the tokenizer adds one). Short windows lie evenly
    over the text, so that each kind of text in it has its part. With a LongRoPE ``switch`` they stay below it, and one
    long window passes it by 256 positions, which are the ones that count; a text too short for it is repeated.
    """
    body = min(WINDOW, switch or WINDOW) - len(first)
    last = max(len(ids) - body, 0)
    starts = [last * n // max(short_windows - 1, 1) for n in range(short_windows)]
    windows = [
        Window(side="short", ids=(*first, *ids[s : s + body]), first_scored=UNSCORED, file=f"short-{n}.npy")
        for n, s in enumerate(starts)
    ]
    if switch is not None:
        wanted = switch + WINDOW - len(first)
        text = list(ids) * -(-wanted // len(ids))
        windows.append(Window(side="long", ids=(*first, *text[:wanted]), first_scored=switch, file="long-0.npy"))
    return windows


def longrope_switch(config: dict[str, Json]) -> int | None:
    """Return the number of positions past which a config asks for the long rotary factors, or None if it never does."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not rope.get("long_factor"):
        return None
    switch = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    most = config.get("max_position_embeddings")
    return int(switch) if switch and most and switch + WINDOW <= most else None
