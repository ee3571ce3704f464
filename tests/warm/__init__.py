"""Warm toolchains: one process per toolchain has imported its libraries, and forks for each worker.

Importing torch, transformers and a runtime takes a worker 3 to 10 seconds of processor: most of what a small build
takes. ``warm`` gives a toolchain whose ``python`` runs what it is given in a fork of such a process, with its own
streams, folder, environment, exit code and process group. Nothing that one worker does reaches the next one.

``warm_cache`` is for command lines that a test starts: a folder for PHI_BOT_CACHE whose toolchains are warm.

What is about processes themselves (their limits, their environment, what they keep at home) runs in a process of its
own: ``client.py`` starts one wherever limits or environment are not those of a worker.
"""

import atexit
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from bot.progress import Silent
from bot.toolchains import Toolchain, kept, lock, lock_file, names
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure

ON = True  #: unset where a test is about what a whole process takes

_HERE = Path(__file__).parent
_PREFIX = "warm-"  # of the folders that stand-ins are in

# Of before any test: what the first test that asks has of its own ends with it, and differs from what all others have.
_TEMPORARY = tempfile.gettempdir()
_ENVIRONMENT = child_environment(_TEMPORARY) | {"OPENBLAS_NUM_THREADS": "1"}  # each core has a process that tests


def warm(toolchain: Toolchain) -> Toolchain:
    """Return the same toolchain with an interpreter that forks; on systems but Linux, the toolchain as it is."""
    if not ON or sys.platform != "linux" or toolchain.python.parent.name.startswith(_PREFIX):
        return toolchain  # on other systems the libraries do not bear a fork
    return replace(toolchain, python=_interpreter(toolchain.name, toolchain.python))


def warm_cache() -> Path:
    """Return a folder for PHI_BOT_CACHE in which every toolchain is there and forks, until this process ends.

    On systems but Linux it is the cache that tests use.
    """
    return _cache(kept.cache_folder()) if ON and sys.platform == "linux" else kept.cache_folder().parent


@cache
def _cache(real: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_TEMPORARY))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for there in real.parent.iterdir():
        if there != real:
            (folder / there.name).symlink_to(there)
    for name in names():
        cold = ensure(name, Silent())
        environment, slot = cold.python.parent.parent, kept.folder_of(name)
        stand_in = folder / real.name / slot.name / environment.name
        (stand_in / "bin").mkdir(parents=True)
        (stand_in.parent / kept.MARK).symlink_to(slot / kept.MARK)
        for there in environment.iterdir():
            if there.name != "bin":
                (stand_in / there.name).symlink_to(there)
        (stand_in / "bin" / cold.python.name).symlink_to(_interpreter(name, cold.python))
    return folder


@cache
def _interpreter(name: str, python: Path) -> Path:
    """Start the server of a toolchain; return what stands in for its interpreter until this process ends."""
    imports = lock.read(lock_file(name)).imports
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_TEMPORARY))
    address, interpreter = folder / "socket", folder / "python"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening, (folder / "log").open("wb") as log:
        listening.bind(str(address))
        listening.listen(64)  # clients wait here until the libraries are imported
        subprocess.Popen(
            [python, "-I", _HERE / "server.py", str(listening.fileno()), interpreter, *imports],
            stdin=subprocess.PIPE,  # its end tells the server that this process is gone
            stdout=log,
            stderr=log,
            env=_ENVIRONMENT | {"HF_HOME": str(folder)},
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C is for who asked
        )
    interpreter.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -I -S "{_HERE / "client.py"}" "{address}" "{python}" "$@"\n'
    )
    interpreter.chmod(0o755)

    return interpreter
