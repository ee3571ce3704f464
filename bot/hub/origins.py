"""The origin of a copy: the repo of Microsoft's that its card leads to, over the copies and fine-tunes in between.

A card names what its model was made from in ``base_model``, which may be a conversion (``…-bnb-4bit``) of a copy of
a copy. Each step asks the Hub for one card. What a copy's own card leaves out (a licence above all) comes from there.
"""

import re
from collections.abc import Callable

from bot.records.artifacts import Json
from bot.source.card import inherited

OWNER = "microsoft"
STEPS = 6
REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
CONVERSION = re.compile(r"(-unsloth)?-bnb-[48]bit$", re.IGNORECASE)  # by their names, where a repo is no longer there

ReadCard = Callable[[str], dict[str, Json] | None]  #: the card's metadata of a repo; None for one that cannot be seen


def origin_of(card: dict[str, Json], read: ReadCard) -> tuple[str, dict[str, Json]]:
    """Return the repo of Microsoft's that a card leads to, or "", and the card with what it leaves out.

    That comes from the nearest repo on the way that says it.
    """
    found, here, seen = dict(card), card, set[str]()
    for _ in range(STEPS):
        base = base_named(here)
        if base is None or base in seen:
            return "", found
        seen.add(base)
        there = read(base)
        if there is None:  # gone, or not to be seen
            there = {"base_model": CONVERSION.sub("", base)} if CONVERSION.search(base) else {}
        found = inherited(found, there)
        if base.split("/")[0].lower() == OWNER:
            return base, found
        here = there
    return "", found


def base_named(card: dict[str, Json]) -> str | None:
    """Return the repo that a card names as its base, None where it names none, or several."""
    named = card.get("base_model")
    first = named[0] if isinstance(named, list) and len(named) == 1 else named  # of several, a merge
    return first if isinstance(first, str) and REPO.fullmatch(first) else None
