"""Applying a commit to a tree, and merging two lines of commits."""

from collections.abc import Callable, Iterable

from bot.localhub.objects import File, Tree, make_tree
from bot.localhub.refused import bad_request, not_found

Change = Callable[[dict[str, File]], None]


def put(file: File) -> Change:
    """Add a file, or replace it."""

    def change(files: dict[str, File]) -> None:
        files[file.path] = file

    return change


def drop(path: str) -> Change:
    """Delete a file that must be there, or the folder of that path: its name need not end with a slash."""

    def change(files: dict[str, File]) -> None:
        if files.pop(path, None) is not None:
            return
        if not any(p.startswith(f"{path}/") for p in files):
            raise not_found("EntryNotFound", f"A file with this name doesn't exist: {path}")
        drop_folder(path)(files)

    return change


def drop_folder(path: str) -> Change:
    """Delete a folder that must be there, with all that is in it."""
    prefix = path.rstrip("/") + "/"

    def change(files: dict[str, File]) -> None:
        doomed = [p for p in files if p.startswith(prefix)]
        if not doomed:
            raise not_found("EntryNotFound", f"A folder with this name doesn't exist: {path}")
        for p in doomed:
            del files[p]

    return change


def apply(changes: Iterable[Change], tree: Tree) -> Tree:
    """Return a tree after changes, in their order. Refuses a tree in which a name is both a file and a folder."""
    files = dict(tree)
    for change in changes:
        change(files)
    for path in files:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                raise bad_request(f"{parent} cannot be a file and the folder of {path}")
            parent = parent.rpartition("/")[0]
    return make_tree(files.values())


def conflicts(*, base: Tree, ours: Tree, theirs: Tree) -> list[str]:
    """Return the paths that both sides changed since ``base``, each in its own way."""
    return [p for p in _changed(base, theirs) if ours.get(p) not in (base.get(p), theirs.get(p))]


def merge(*, base: Tree, ours: Tree, theirs: Tree) -> Tree:
    """Return ``ours`` with what ``theirs`` changed since ``base``."""
    files = dict(ours)
    for path in _changed(base, theirs):
        if path in theirs:
            files[path] = theirs[path]
        else:
            files.pop(path, None)
    return apply((), files)


def _changed(base: Tree, other: Tree) -> list[str]:
    return [p for p in sorted({*base, *other}) if base.get(p) != other.get(p)]
