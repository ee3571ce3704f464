"""Two sides and their differences: their files, and the description that each side's own code gives.

Files are read here, without being run, so a stranger's code cannot hide that it changed. What it says of itself is
asked of its command line alone, so both sides may have any other shape.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bot.config import FILE_NAME
from bot.printable import json_text
from bot.reconvert import child, foreign
from bot.reconvert.child import ChildError, Code
from bot.reconvert.files import Tree, changed, facts, listed, read
from bot.reconvert.records import Description, Difference, Fingerprint
from bot.reconvert.rooms import find, own_rooms, touched_by
from bot.records.base import Json
from bot.records.digests import digest_of

_SECONDS = 60.0  # a fresh checkout on a slow disk is compiled first
_MOST_FORMATS, _MOST_VARIANTS = 50, 1000
_FORMAT = re.compile(r"[a-z][a-z0-9]*")  # a name that cannot be taken for another file's
_USAGE = 2  # the exit code of a command line that has no such command


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both sides, and what the files that differ between them affect."""

    base: Fingerprint
    head: Fingerprint
    touched: tuple[Difference, ...]


def describe_sides(base: Code, head: Code) -> Sides:
    """Return what both sides are. Raises ChildError, naming the side, where the code of one does not answer."""
    trees = [Tree(root=side.root) for side in (base, head)]
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(_asked, side, name) for side, name in ((base, "base"), (head, "head"))]
        files = changed(*trees)  # meanwhile, here
        said = [a.result() for a in asked]
    formats = tuple(dict.fromkeys(name for one in said for name in one.formats if _FORMAT.fullmatch(name)))
    before, after = (
        Fingerprint(said=one, config=_config(side), sample=_sample(tree, one.formats))
        for one, side, tree in zip(said, (base, head), trees, strict=True)
    )
    return Sides(base=before, head=after, touched=touched_by(files, (own_rooms(), before.said.rooms), formats))


def identical(base: Code, head: Code) -> bool:
    """Say whether two sides are the same byte for byte, in all that ``describe_sides`` reads. Runs nothing."""
    if base.root == head.root:
        return facts(base.folder / FILE_NAME) == facts(head.folder / FILE_NAME)
    one, other = Tree(root=base.root), Tree(root=head.root)
    configs = [facts(side.root / FILE_NAME) if side.folder == side.root else None for side in (base, head)]
    same = one.files.keys() == other.files.keys() and configs[0] == configs[1]
    return same and all(one.facts(name) == other.facts(name) for name in one.files)


def _asked(side: Code, name: str) -> Description:
    try:
        done = child.run(side, ["-m", "bot.cli", "describe", "--json", "--quiet"], seconds=_SECONDS)
        if done.returncode == _USAGE:
            raise ChildError("its code is too old to be asked: it has no `phi-bot describe`")
        if done.returncode != 0:
            raise ChildError(child.failure_line(done))
        found = foreign.read(Description, done.stdout)
        if len(found.formats) > _MOST_FORMATS or len(found.variants) > _MOST_VARIANTS:
            raise ChildError("it has too many variants")
        if not set(found.formats) <= found.locks.keys():
            raise ChildError("a format has no lock")
    except ChildError as error:
        raise ChildError(f"the {name} cannot be read: {error}") from error
    return found


def _sample(tree: Tree, formats: tuple[str, ...]) -> str:
    """Return the digest of what makes sample checkpoints, by the table of this code."""

    def makes(name: str) -> bool:
        return any("sample checkpoints" in room.touches for room, _ in find(name, own_rooms(), formats))

    return digest_of(listed(tree, filter(makes, tree.files)))


def _config(side: Code) -> dict[str, str]:
    """Return the keys that a phi-bot.toml sets, values as JSON. A wrong one is told by what loads it."""
    content = read(side.folder / FILE_NAME)
    try:
        given = tomllib.loads(content.decode()) if content else {}
        return {key: json_text(json.loads(json.dumps(value, default=str))) for key, value in _flat(given, "")}
    except (ValueError, RecursionError):
        return {}


def _flat(table: dict[str, Json], prefix: str) -> Iterator[tuple[str, Json]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
