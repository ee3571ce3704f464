"""Put the files of a site into a folder: at any moment it holds the old site or the new one, whole."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bot.errors import ConfigError, RecordError
from bot.pages.status.records import Status
from bot.workspace import read_record

STATUS_FILE = "status.json"


def previous(out: Path, given: Path | None) -> Status | None:
    """Read the status of an earlier page: a file that is named, or the one in the folder of the site if it can be read.

    Raises RecordError where the named one is not there or none.
    """
    if given is not None:
        return read_record(given, Status)
    try:
        return read_record(out / STATUS_FILE, Status)
    except RecordError:  # the first page, or the first of this version: all of it is read anew
        return None


def check(out: Path) -> None:
    """Raise ConfigError for a folder that holds something else than a site of ours: it would be removed."""
    if out.is_dir() and any(out.iterdir()) and not (out / STATUS_FILE).is_file():
        raise ConfigError(f"{out} holds something else than a status page", hint="Name an empty or a new folder.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is not a folder", hint="Name an empty or a new folder.")


def write(files: Mapping[str, bytes], out: Path) -> None:
    """Write a site in place of the one in ``out``. Raises ConfigError as ``check`` does, or where it cannot be written.

    The new one is made beside it, and takes its place by being renamed.
    """
    check(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}", hint="Name a folder in one of yours.") from error
    try:
        made = scratch / "new"
        for path, content in files.items():
            target = made / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        if out.exists():
            out.rename(scratch / "old")
        try:
            made.rename(out)
        except OSError:
            if (scratch / "old").exists():
                os.rename(scratch / "old", out)  # noqa: PTH104 - back where it was
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
