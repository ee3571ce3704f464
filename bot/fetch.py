"""Fetch a release: its files in the working folder, checked, and the view of them that toolchains read."""

import shutil
from pathlib import Path

from bot import source
from bot.errors import ChangedSourceError
from bot.hub.client import Hub
from bot.progress import Display, size
from bot.records import Release
from bot.workspace import Workspace


def fetch(release: Release, *, workspace: Workspace, hub: Hub, display: Display) -> Path:
    """Return the staged folder of a release, downloading and checking it first if that is not done yet.

    Raises what the checks of ``bot.source`` raise, and DiskTooSmallError before a download that does not fit.
    """
    staged = workspace.staged(release)
    if staged.exists():
        return staged
    with workspace.only_one(f"source-{staged.name}", display):
        if staged.exists():
            return staged
        folder = _local(release) if release.folder else _download(release, workspace, hub, display)
        source.check(folder)
        with workspace.scratch() as scratch:
            for note in source.stage(folder, scratch / "staged"):
                display.say(f"{release.label}: {note}")
            staged.parent.mkdir(parents=True, exist_ok=True)
            (scratch / "staged").rename(staged)
    return staged


def _local(release: Release) -> Path:
    assert release.folder is not None  # noqa: S101 - the caller looked
    folder = Path(release.folder)
    if source.local_release(folder).content_digest != release.content_digest:
        raise ChangedSourceError(
            f"the files in {folder} have changed since they were planned", hint="Plan again, or run the whole way."
        )
    return folder


def missing_bytes(release: Release, workspace: Workspace) -> int:
    """Return how many bytes a fetch would download."""
    if release.folder or workspace.source(release).exists():
        return 0
    return sum(f.size for f in release.files if source.is_wanted(f.path))


def _download(release: Release, workspace: Workspace, hub: Hub, display: Display) -> Path:
    folder = workspace.source(release)
    if folder.exists():
        return folder
    workspace.need_disk(missing_bytes(release, workspace), f"Downloading {release.label}")
    partial = folder.with_name(f"{folder.name}.partial")  # not in scratch: a killed download goes on from here
    partial.mkdir(parents=True, exist_ok=True)
    with display.task(f"Downloading {release.label} ({size(release.weight_bytes)} of weights)") as task:
        hub.download(release, partial, task)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder
