"""The sample checkpoint: a small Phi with true architecture, tokenizer and config keys, made on this machine."""

import os
import shutil
import tempfile
from pathlib import Path

from bot.errors import ConfigError
from bot.progress import Display
from bot.tasks import SampleTask
from bot.toolchains.enter import run_worker
from bot.toolchains.install import ensure


def make_sample(folder: Path, display: Display) -> None:
    """Make the sample checkpoint in a new folder, whole or not at all.

    Raises ConfigError when the folder is there already and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty", hint="Name a new folder.")
    toolchain = ensure("reference", display)
    folder = folder.absolute()  # the worker has another working folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    log = partial.with_suffix(".log")
    try:
        with display.task("Making the sample checkpoint") as task:
            run_worker(
                toolchain,
                "sample",
                "make",
                SampleTask(out=str(partial)),
                log=log,
                on_event=lambda e: task.update(e["what"], e["done"], e["total"], e["unit"]),
            )
        partial.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    log.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
