"""The differences between two sides, and which variants a canary has to show it on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from bot.reconvert.records import Difference, Fingerprint, RecipePrint, What
from bot.reconvert.sides import Sides

_ORDER: tuple[What, ...] = get_args(What)
_IN_KEYS: tuple[What, ...] = ("recipe", "lock", "added", "removed", "config")
_EVERYWHERE: tuple[What, ...] = ("steps", "measuring", "sample")  # may alter what is built or measured of any format


@dataclass(frozen=True, kw_only=True)
class Affected:
    """A variant that the change may alter, and which of the sides have it."""

    name: str
    before: bool
    after: bool

    @property
    def format(self) -> str:
        """``gguf`` of ``gguf/q4_k_m``."""
        return self.name.split("/", 1)[0]


def changes(sides: Sides) -> tuple[Difference, ...]:
    """Return what differs, in the order in which it matters: what both sides say, and what their files touch."""
    files = {(c.what, c.name): c for c in sides.touched}
    found = []
    for change in _said(sides.base, sides.head):
        of = files.pop((change.what, change.name), None)
        found.append(replace(change, files=of.files) if of else change)
    return tuple(sorted([*found, *files.values()], key=lambda c: _ORDER.index(c.what)))


def _said(base: Fingerprint, head: Fingerprint) -> Iterator[Difference]:
    rows, new_rows = _rows(base), _rows(head)
    for name in [n for n in rows if n in new_rows]:
        if rows[name].recipe != new_rows[name].recipe:
            yield Difference(what="recipe", name=name, before=rows[name].options, after=new_rows[name].options)
    for name in [f for f in base.said.formats if f in head.said.formats]:
        if base.said.locks[name] != head.said.locks[name]:
            yield Difference(
                what="lock", name=name, before=base.said.locks[name][:12], after=head.said.locks[name][:12]
            )
    yield from (Difference(what="added", name=n, after=row.options) for n, row in new_rows.items() if n not in rows)
    yield from (Difference(what="removed", name=n, before=row.options) for n, row in rows.items() if n not in new_rows)
    for name in sorted(base.said.gates.keys() | head.said.gates.keys()):
        if base.said.gates.get(name) != head.said.gates.get(name):
            yield Difference(what="gate", name=name, before=_bound(base, name), after=_bound(head, name))
    for key in sorted(base.config.keys() | head.config.keys()):
        if base.config.get(key) != head.config.get(key):
            yield Difference(what="config", name=key, before=base.config.get(key, ""), after=head.config.get(key, ""))


def affected(found: Sequence[Difference], base: Fingerprint, head: Fingerprint) -> tuple[Affected, ...]:
    """Return the variants of a canary, in the order of the head's catalogue; those that are gone come last.

    A change of one row is shown on that row; a change that may alter many of them, such as a lock, on the default rows
    of those formats; a gate on the default rows of its precision; an importance matrix on the rows that take one.
    """
    rows, new_rows = _rows(base), _rows(head)
    named = {c.name for c in found if c.what in ("recipe", "added", "removed")}
    formats = {c.name for c in found if c.what in ("lock", "code")}
    precisions = {c.name for c in found if c.what == "gate"}
    all_formats = any(c.what in _EVERYWHERE for c in found)
    importance = any(c.what == "importance" for c in found)

    def shown(row: RecipePrint) -> bool:
        wide = all_formats or row.name.split("/", 1)[0] in formats or row.precision in precisions
        return row.name in named or (row.default and wide) or (row.importance and importance)

    wanted = [row.name for row in (*new_rows.values(), *rows.values()) if shown(row)]
    return tuple(Affected(name=n, before=n in rows, after=n in new_rows) for n in dict.fromkeys(wanted))


def alter_builds(found: Sequence[Difference]) -> bool:
    """Say whether what is built anew may differ: by build keys, by which models or variants are wanted, by planning."""
    return any(c.what in (*_IN_KEYS, "plan") for c in found)


def unkeyed(found: Sequence[Difference]) -> frozenset[str]:
    """Return the formats whose code changed while nothing else says that their files are other ones."""
    keyed = {c.name.split("/", 1)[0] for c in found if c.what in ("recipe", "lock")}
    return frozenset(c.name for c in found if c.what == "code") - keyed


def _rows(side: Fingerprint) -> dict[str, RecipePrint]:
    return {row.name: row for row in side.said.variants}


def _bound(side: Fingerprint, precision: str) -> str:
    return f"{side.said.gates[precision]:g}" if precision in side.said.gates else ""
