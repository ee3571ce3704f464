"""Removing files of a working folder that can be made again: by age, by size, and by kind.

Files in use stay, and so do unfinished ones that can be continued and are younger than the limit. Proven artifacts
that are not on the Hub are removed only where a person says so. bot/system/occupancy.py makes this safe.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bot.catalogue.families import SAMPLES
from bot.config.tables import KeepTable
from bot.errors import RecordError
from bot.records.artifacts import Artifact, BuildRecord
from bot.records.base import Record
from bot.source import sparse_files
from bot.system import occupancy, temporary
from bot.workspace import Workspace, read_artifact, write_json

State = Literal["abandoned", "partial", "source", "reference", "sample", "published", "unpublished", "failed", "log"]

STATES: tuple[State, ...] = get_args(State)
PUBLISHED_FILE = "published.json"  #: in the folder of an artifact: the repo that has its files by now
_DAY = 86400.0
# What costs time and nothing else: it goes when there is too much of it, the longest unused first.
_SPARE: tuple[State, ...] = ("source", "reference", "sample", "published", "failed")
_DIGEST = r"[0-9a-f]{32}"
_FOLDERS: tuple[tuple[str, State, str], ...] = (
    ("partial", "partial", _DIGEST),
    ("sources", "partial", rf"{_DIGEST}\.partial"),
    ("references", "reference", _DIGEST),
    ("importances", "reference", _DIGEST),
    ("moments", "reference", _DIGEST),
    ("sensitivities", "reference", _DIGEST),
    ("pictures", "reference", _DIGEST),
    ("samples", "sample", "|".join(["[0-9a-f]{16}", *map(re.escape, SAMPLES)])),
    ("logs", "log", r".+-[0-9a-f]{12}\.log"),
)


@dataclass(frozen=True, kw_only=True)
class KeptItem(Record):
    """Something that is kept: where, what it is, the bytes of disk that it takes, and when it was last used
    (seconds since 1970)."""

    path: str
    state: State
    size: int
    used: float

    @property
    def days(self) -> float:
        """For how many days nothing has used it."""
        return max(time.time() - self.used, 0.0) / _DAY


@dataclass(frozen=True, kw_only=True)
class Cleaned(Record):
    """The removed files, or those that would be: ``freed`` bytes of disk. ``kept`` bytes are left."""

    removed: tuple[KeptItem, ...]
    freed: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class CleaningRequest:
    """The entries to remove.

    These are the entries that nothing has used for ``days``; and, while all of them take more than ``most`` bytes or
    fewer than ``need`` bytes of disk are free, artifacts that are on the Hub, then others, each the longest unused
    first. ``unpublished`` says whether age counts for artifacts that are not on the Hub, too. ``states`` are those that
    may be removed at all. ``is_done`` says of a build whether it is known to be published.
    """

    days: float
    most: float | None = None
    need: int = 0
    unpublished: bool = False
    states: Collection[State] = STATES
    is_done: Callable[[BuildRecord], bool] = lambda _: False


def cleaning_request(
    keep: KeepTable,
    *,
    need: int = 0,
    states: Collection[State] = STATES,
    is_done: Callable[[BuildRecord], bool] = lambda _: False,
) -> CleaningRequest:
    """Return what the configuration says is to go."""
    most = None if keep.gigabytes is None else keep.gigabytes * 1e9
    return CleaningRequest(days=keep.days, most=most, need=need, states=states, is_done=is_done)


def mark_published(artifacts: Sequence[Artifact], repos: Mapping[str, str]) -> None:
    """Note beside artifacts that their files are on the Hub. ``repos`` has the repo of each build key that is."""
    for artifact in artifacts:
        repo_id = repos.get(artifact.build.build_key)
        if repo_id is not None:
            with suppress(OSError):  # what is published counts, and not what is noted of it
                write_json(Path(artifact.folder) / PUBLISHED_FILE, {"repo_id": repo_id})


def clean(workspace: Workspace, wish: CleaningRequest, *, dry_run: bool) -> Cleaned:
    """Remove what is to go; in a dry run, say what would. At every moment the working folder is one to work in."""
    left = _abandoned(workspace) if "abandoned" in wish.states else []
    kept = sorted(_kept(workspace, wish.is_done), key=lambda found: found.used)
    chosen = _chosen(workspace, kept, wish, freed=sum(found.size for found in left))
    if dry_run:
        removed = [*left, *chosen]
    else:
        for found in left:
            occupancy.remove(Path(found.path))
        removed = [*left, *(found for found in chosen if _take(workspace, found))]
        if workspace.root.is_dir():
            occupancy.spare_locks(workspace.root)
    gone = {found.path for found in removed}
    return Cleaned(
        removed=tuple(removed),
        freed=sum(found.size for found in removed),
        kept=sum(found.size for found in kept if found.path not in gone),
    )


def _chosen(workspace: Workspace, kept: Sequence[KeptItem], wish: CleaningRequest, *, freed: int) -> list[KeptItem]:
    """Return the kept items to remove. They come the longest unused first; ``freed`` bytes are removed in any case."""
    if not workspace.root.is_dir():
        return []
    with occupancy.gate(workspace.root):
        since = occupancy.used_since(workspace.root)
    now = time.time()
    free = shutil.disk_usage(workspace.root).free + freed  # Workspace.free would remove what is abandoned
    total = sum(found.size for found in kept)
    chosen: list[KeptItem] = []
    # What is on the Hub is not made again for what comes next; the others are read again, or take long.
    for found in sorted(kept, key=lambda found: found.state != "published"):
        if found.state not in wish.states or (since is not None and found.used >= since):
            continue
        old = now - found.used > wish.days * _DAY
        old = old and (found.state != "unpublished" or wish.unpublished)
        spare = found.state in _SPARE
        too_much = spare and wish.most is not None and total > wish.most
        needed = spare and free < wish.need
        if old or too_much or needed:
            chosen.append(found)
            total -= found.size
            free += found.size
    return chosen


def _take(workspace: Workspace, found: KeptItem) -> bool:
    """Remove something, unless it was used in the meantime; return whether it went."""
    taken = []
    with occupancy.gate(workspace.root):
        since = occupancy.used_since(workspace.root)
        path = Path(found.path)
        paths, used = _paths(path), _last_use(path, found.state)
        if used > found.used or (since is not None and used >= since):
            return False
        with suppress(OSError):
            taken = [occupancy.discard(workspace.root, path) for path in paths]
    for gone in taken:
        occupancy.remove(gone)
    return bool(taken)


def _kept(workspace: Workspace, is_done: Callable[[BuildRecord], bool]) -> Iterator[KeptItem]:
    """Return what has a name in a working folder that the bot gives: a person may keep other things there."""
    root = workspace.root
    for name, state, pattern in _FOLDERS:
        for path in _inside(root / name, pattern):
            yield _found(path, state)
    views = _inside(root / "staged", rf"{_DIGEST}(-\d+)?")
    names = {path.name.partition("-")[0] for path in (*_inside(root / "sources", _DIGEST), *views)}
    for name in sorted(names):
        yield _found(root / "sources" / name, "source")
    for path in _inside(root / "artifacts", _DIGEST):
        yield _found(path, _state_of(path, is_done))


def _state_of(folder: Path, is_done: Callable[[BuildRecord], bool]) -> State:
    """Return what an artifact is: proven or not, on the Hub or not."""
    if (folder / PUBLISHED_FILE).is_file():
        return "published"
    try:
        artifact = read_artifact(folder)
    except RecordError:  # of another version of the bot
        return "failed"
    if is_done(artifact.build):
        return "published"
    evidence = artifact.evidence
    return "failed" if evidence is not None and not evidence.passed else "unpublished"


def _abandoned(workspace: Workspace) -> list[KeptItem]:
    """Return what killed processes left, here and in the temporary folder."""
    left = (*occupancy.abandoned(workspace.root), *temporary.abandoned(Path(tempfile.gettempdir())))
    return [_found(path, "abandoned") for path in left]


def _inside(folder: Path, pattern: str) -> list[Path]:
    """Return what in a folder has such a name."""
    try:
        return sorted(path for path in folder.iterdir() if re.fullmatch(pattern, path.name))
    except OSError:  # there is none, or it is not ours
        return []


def _paths(path: Path) -> list[Path]:
    """Return the folders of something that is kept: of a source, the views of it that share its disk come first."""
    views = (path.parents[1] / "staged").glob(f"{path.name}*") if path.parent.name == "sources" else ()
    return [each for each in (*sorted(views), path) if each.exists() or each.is_symlink()]


def _found(path: Path, state: State) -> KeptItem:
    sizes: dict[tuple[int, int], int] = {}  # of a file with two names, once
    for file in _files(path):
        with suppress(OSError):  # it is being removed, or made
            status = file.lstat()
            sizes[status.st_dev, status.st_ino] = 0 if file.is_symlink() else sparse_files.allocated_bytes(file)
    return KeptItem(path=str(path), state=state, size=sum(sizes.values()), used=_last_use(path, state))


def _files(path: Path) -> Iterator[Path]:
    """Yield what is kept and all that is in it; what others remove meanwhile is passed over."""
    for each in _paths(path):
        yield each
        if not each.is_symlink():
            for folder, folders, files in os.walk(each):
                yield from (Path(folder) / name for name in (*folders, *files))


def _last_use(path: Path, state: State) -> float:
    """Return when something was last used; an unfinished one, when its newest file was written to."""
    return max(map(_changed, _files(path) if state == "partial" else _paths(path)), default=0.0)


def _changed(path: Path) -> float:
    with suppress(OSError):
        return path.lstat().st_mtime
    return 0.0
