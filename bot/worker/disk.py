"""Finding out whether the disk was full, for libraries that fail to write a file and do not say why."""

import errno
import os
import re
import shutil
from pathlib import Path

_LONGEST_CHAIN = 20
_PROBE_BYTES = 1 << 20
# numpy's short write has no number, and of what C++ libraries raise nothing but the words arrives.
_WORDS = re.compile(r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written")


def out_of_space(folder: Path, needed: int = _PROBE_BYTES) -> OSError | None:
    """Return the error that ``needed`` more bytes in ``folder`` meet because its disk or quota is full, or None.

    To be asked after a write has failed, while the half-made file is still there.
    """
    probe = folder / ".space-probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
    finally:
        probe.unlink(missing_ok=True)
    if shutil.disk_usage(folder).free < needed:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return None


def says_full(error: BaseException) -> bool:
    """Say whether an error is that of a full disk, or was raised of one.

    It is known by its number, or where a library drops that, by its words.
    """
    found: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if found is None:
            return False
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(found, OSError | RuntimeError | ValueError) and _WORDS.search(str(found)):
            return True
        found = found.__cause__ or found.__context__
    return False


def disk_full(error: Exception, folder: Path, needed: int = _PROBE_BYTES) -> OSError | None:
    """Return the lack of space that ``error`` is, or that is behind it, or None; arguments as of ``out_of_space``."""
    if says_full(error):  # whoever raised it may have removed the half-made file already
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return out_of_space(folder, needed)
