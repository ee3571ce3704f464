"""A disk that is full, told as that: where, how much is free there, and how much is needed."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.errors import DiskFullError
from bot.printable import size
from bot.system import temporary

#: What to do about it.
FREE = "Free some disk (`phi-bot clean` says what can go), and run the same command again."
_TEMPORARY = "Free some disk there, or set TMPDIR to a folder on another disk, and run the same command again."
_NEEDS = " needs"
_NOTHING = 1 << 20  # bytes: with fewer, whoever failed may well have failed of that


def is_full(error: BaseException) -> bool:
    """Say whether an error is that of a full disk, or of a quota that is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def without_room(*folders: Path) -> Path | None:
    """Return the first of the folders on whose disk next to nothing is free, None where there is none."""
    return next((folder for folder in folders if folder.is_dir() and shutil.disk_usage(folder).free < _NOTHING), None)


def disk_full_error(what: str, where: Path, *, said: str = "", needed: int | None = None) -> DiskFullError:
    """Return the error that a disk filled up while ``what`` was done.

    ``said`` is what the system had to say, ``needed`` are bytes, as far as that is known.
    """
    there = next(folder for folder in (where, *where.absolute().parents) if folder.exists())
    free = f"{size(shutil.disk_usage(there).free)} are free there"
    needs = "" if needed is None else f"; it{_NEEDS} about {size(needed)}"
    return DiskFullError(
        f"{what}: {said or 'no room'}: the disk of {where} is full: {free}{needs}",
        hint=_TEMPORARY if _is_temporary(where) else FREE,
    )


@contextmanager
def disk_errors(what: str, root: Path, *, needed: int | None = None) -> Iterator[None]:
    """Raise DiskFullError, with the path and what is ``needed``, where the disk fills up in the block.

    ``root`` stands for the path where the system names none.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        named = [Path(name) for name in (error.filename2, error.filename) if isinstance(name, str)]
        # Of two, as in copying, one is full; of a file without a name, it may be the temporary folder.
        where = without_room(*(path.parent for path in named), root, temporary.home()) or root
        raise disk_full_error(what, where, said=str(error.strerror), needed=needed) from error
    except DiskFullError as error:  # of a worker or a download: they do not know what is needed
        if needed is None or _NEEDS in error.message:
            raise
        raise DiskFullError(f"{error.message}; {what}{_NEEDS} about {size(needed)}", hint=error.hint) from error


def _is_temporary(where: Path) -> bool:
    """Say whether a path is in the folder for temporary files. (Python itself looks for one that has room.)"""
    return where.is_relative_to(temporary.home())
