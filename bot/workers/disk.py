"""Was it the disk? For libraries that write files and, when that fails, keep the reason to themselves."""

import errno
import os
import shutil
from pathlib import Path

_PROBE_BYTES = 1 << 20


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


def disk_full(error: Exception, folder: Path, needed: int = _PROBE_BYTES) -> OSError | None:
    """Return the lack of space that ``error`` is, or that is behind it, or None. Asked like ``out_of_space``."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error  # whoever raised it may have removed the half-made file already
    return out_of_space(folder, needed)
