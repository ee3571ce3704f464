"""What differs between two fingerprints, and which variants a canary has to show it on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bot.compare.records import Change, Fingerprint, FormatPrint, RecipePrint


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


def changes(base: Fingerprint, head: Fingerprint) -> tuple[Change, ...]:
    """Return what differs, in the order in which it matters."""
    return tuple(_changes(base, head))


def _changes(base: Fingerprint, head: Fingerprint) -> Iterator[Change]:
    rows, new_rows = _rows(base), _rows(head)
    forms, new_forms = _formats(base), _formats(head)
    both = [f for f in forms if f in new_forms]
    for name in [n for n in rows if n in new_rows]:
        if rows[name].recipe != new_rows[name].recipe:
            yield Change(what="recipe", name=name, before=rows[name].options, after=new_rows[name].options)
    for name in both:
        if forms[name].lock != new_forms[name].lock:
            yield Change(what="lock", name=name, before=forms[name].lock[:12], after=new_forms[name].lock[:12])
    yield from (Change(what="added", name=n, after=row.options) for n, row in new_rows.items() if n not in rows)
    yield from (Change(what="removed", name=n, before=row.options) for n, row in rows.items() if n not in new_rows)
    yield from (Change(what="code", name=name) for name in both if forms[name].code != new_forms[name].code)
    if base.steps != head.steps:
        yield Change(what="steps", name="every format")
    if base.measuring != head.measuring:
        yield Change(what="measuring", name="every format")
    if base.sample != head.sample:
        yield Change(what="sample", name="every family")
    for name in sorted(base.gates.keys() | head.gates.keys()):
        if base.gates.get(name) != head.gates.get(name):
            yield Change(what="gate", name=name, before=_bound(base, name), after=_bound(head, name))
    yield from (Change(what="cards", name=name) for name in both if forms[name].cards != new_forms[name].cards)
    for key in sorted(base.config.keys() | head.config.keys()):
        if base.config.get(key) != head.config.get(key):
            yield Change(what="config", name=key, before=base.config.get(key, ""), after=head.config.get(key, ""))


def affected(found: Sequence[Change], base: Fingerprint, head: Fingerprint) -> tuple[Affected, ...]:
    """Return the variants of a canary, in the order of the head's catalogue; those that are gone come last.

    A change of one row is shown on that row. What may alter many of them, as a lock, is shown on the default rows of
    those formats; a gate on the default rows of its precision.
    """
    rows, new_rows = _rows(base), _rows(head)
    named = {c.name for c in found if c.what in ("recipe", "added", "removed")}
    formats = {c.name for c in found if c.what in ("lock", "code")}
    precisions = {c.name for c in found if c.what == "gate"}
    all_formats = any(c.what in ("steps", "measuring", "sample") for c in found)

    def shown(row: RecipePrint) -> bool:
        wide = all_formats or row.name.split("/", 1)[0] in formats or row.precision in precisions
        return row.name in named or (row.default and wide)

    wanted = [row.name for row in (*new_rows.values(), *rows.values()) if shown(row)]
    return tuple(Affected(name=n, before=n in rows, after=n in new_rows) for n in dict.fromkeys(wanted))


def alter_builds(found: Sequence[Change]) -> bool:
    """Say whether build keys differ, so that publications are built anew; or which models or variants are wanted."""
    return any(c.what in ("recipe", "lock", "added", "removed", "config") for c in found)


def unkeyed(found: Sequence[Change]) -> frozenset[str]:
    """Return the formats whose code changed while nothing else says that their files are other ones."""
    keyed = {c.name.split("/", 1)[0] for c in found if c.what in ("recipe", "lock")}
    return frozenset(c.name for c in found if c.what == "code") - keyed


def _rows(side: Fingerprint) -> dict[str, RecipePrint]:
    return {row.name: row for row in side.variants}


def _formats(side: Fingerprint) -> dict[str, FormatPrint]:
    return {form.name: form for form in side.formats}


def _bound(side: Fingerprint, precision: str) -> str:
    return f"{side.gates[precision]:g}" if precision in side.gates else ""
