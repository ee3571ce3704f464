"""Which files differ between two sides, in what they say. Files are read and never run.

A file that both sides have is compared with itself; one that only the head has, with those that only the base has: so a
file that was moved is the same one, if all that it uses of the bot is, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from bot.reconvert.normal import Normal, Use, normal

_FILE_BYTES = 2 << 20  # the largest source file of ours has 30 kB
_PACKAGED = "bot/templates/"  # where an installed bot has its templates


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The files of a side's code and templates, by their paths in a checkout."""

    root: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every file, link and device, by its path with ``/``."""
        found = {}
        for folder in (self.root / "bot", self.root / "templates"):
            for path in folder.rglob("*"):
                if "__pycache__" not in path.parts and (path.is_symlink() or not path.is_dir()):
                    name = path.relative_to(self.root).as_posix()
                    found[name.removeprefix("bot/") if name.startswith(_PACKAGED) else name] = path
        return found

    @cached_property
    def _known(self) -> dict[str, Normal]:
        return {}

    def says(self, name: str) -> Normal:
        """Return what a file says; nothing where it is a device or a pipe."""
        if name not in self._known:
            path = self.files[name]
            self._known[name] = normal(path.suffix, read(path))
        return self._known[name]

    def facts(self, name: str) -> tuple[bool, int, bytes]:
        """Return whether a file is a link, its size, and how it begins."""
        return facts(self.files[name])

    def target(self, use: Use, seen: frozenset[Use] = frozenset()) -> tuple[str, str]:
        """Return the file that something is defined in, and its name there: imports are followed to their end."""
        if use.name and (inner := self._module(f"{use.module}.{use.name}")):
            return inner, ""
        path = self._module(use.module)
        if not path:
            return use.module, use.name
        further = dict(self.says(path).names).get(use.name)
        if further is None or further in seen:
            return path, use.name
        return self.target(further, seen | {use})

    def _module(self, module: str) -> str:
        path = module.replace(".", "/")
        return next((p for p in (f"{path}.py", f"{path}/__init__.py") if p in self.files), "")


def read(path: Path) -> bytes:
    """Return the first 2 MiB of a regular file; nothing of anything else, as a device or a pipe."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_FILE_BYTES)
    except OSError:
        return b""


def facts(path: Path) -> tuple[bool, int, bytes]:
    """Return whether a file is a link, its size (-1 for what is none), and how it begins."""
    return path.is_symlink(), path.stat().st_size if path.is_file() else -1, read(path)


def changed(base: Tree, head: Tree) -> tuple[tuple[str, ...], ...]:
    """Return the files that differ, each by its paths: where it was, where it is, or both."""
    if base.root == head.root:
        return ()
    alike = {name for name in base.files.keys() & head.files.keys() if base.facts(name) == head.facts(name)}
    moved = _moved(base, head)
    was = {name: name for name in base.files.keys() & head.files.keys()} | moved
    modules = {n for n in base.files if n.endswith(".py")} == {n for n in head.files if n.endswith(".py")}
    found = []
    for name, before in was.items():
        if name in alike and modules:
            continue  # and what it imports is compared by itself
        if name not in alike and _links(base, before) != _links(head, name):
            same = False
        else:
            same = base.says(before).digest == head.says(name).digest and _uses_the_same(base, before, head, name, was)
        if not same:
            found.append((before,) if before == name else (before, name))
    found += [(name,) for name in base.files if name not in was.values() and not base.says(name).empty]
    found += [(name,) for name in head.files if name not in was and not head.says(name).empty]
    return tuple(sorted(found))


def _links(tree: Tree, name: str) -> tuple[bool, bool]:
    """Return what the content of a file, as far as it is read, does not tell: that it is a link, or larger."""
    link, size, begin = tree.facts(name)
    return link, size > len(begin)


def _moved(base: Tree, head: Tree) -> dict[str, str]:
    """Return where files were that only the head has, by what they say: of several, the one whose path is nearest."""
    gone: dict[tuple[str, str], list[str]] = {}
    for name in sorted(base.files.keys() - head.files.keys()):
        if not base.says(name).empty:
            gone.setdefault((PurePosixPath(name).suffix, base.says(name).digest), []).append(name)
    found = {}
    for name in sorted(head.files.keys() - base.files.keys()):
        candidates = gone.get((PurePosixPath(name).suffix, head.says(name).digest), [])
        if candidates:
            found[name] = max(candidates, key=lambda c: _near(c, name))
            candidates.remove(found[name])
    return found


def _near(one: str, other: str) -> tuple[int, bool]:
    parts, others = PurePosixPath(one).parts, PurePosixPath(other).parts
    return len(set(parts) & set(others)), parts[-1] == others[-1]


def _uses_the_same(base: Tree, before: str, head: Tree, name: str, was: dict[str, str]) -> bool:
    one, other = base.says(before), head.says(name)

    def here(use: Use) -> tuple[str, str, str]:
        path, what = head.target(use)
        return was.get(path, path), what, use.bound

    def there(use: Use) -> tuple[str, str, str]:
        return *base.target(use), use.bound

    return [*map(there, one.used)] == [*map(here, other.used)] and {*map(there, one.others)} == {
        *map(here, other.others)
    }


def listed(tree: Tree, names: Iterator[str]) -> list[list[str]]:
    """Return files with the digests of what they say."""
    return [[name, tree.says(name).digest] for name in sorted(names)]
