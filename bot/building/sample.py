"""The sample checkpoints: a small Phi of each family, with true architecture, tokenizer and config keys.

There is also the real model, which is not a Phi but has the architecture of one, and was really trained.
"""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import bot
from bot.catalogue import families
from bot.errors import ConfigError
from bot.machines import worker_limits
from bot.progress import Display, show_event
from bot.records.tasks import RealModelTask, SampleTask
from bot.toolchains import packages
from bot.toolchains.enter import Supervision, run_worker
from bot.toolchains.install import ensure

PACKAGE = Path(bot.__file__).parent / "worker" / "smollm2" / "package.txt"  #: of the real model


def make_sample(
    folder: Path, display: Display, *, family: str = families.DEFAULT, shards: int = 1, keys: str = "older"
) -> None:
    """Make the sample checkpoint of a family, or the real model's, in a new folder, whole or not at all.

    ``shards`` is the number of files that its weights are in; ``keys`` are those of its config: ``older``, as Microsoft
    publishes them, or ``newer``, as transformers 5 writes them. Raises ConfigError when the folder is there already and
    not empty, and when there are no newer keys; for the real model, what ``packages.fetch`` raises.
    """
    title = families.SAMPLES[family].title
    if keys == "newer":
        _require_newer_keys(family)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty", hint="Name a new folder.")
    toolchain = ensure("reference", display)
    package = packages.fetch(PACKAGE, display) if family == families.REAL.name else None
    folder = folder.absolute()  # the worker has another working folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    log = unfinished.with_suffix(".log")
    try:
        with display.task(f"Making a small {title}") as task:
            run_worker(
                toolchain,
                "bot.worker.smollm2" if package else "bot.worker.sample",
                "make",
                RealModelTask(out=str(unfinished), package=str(package), shards=shards)
                if package
                else SampleTask(out=str(unfinished), family=family, shards=shards, keys=keys),
                Supervision(
                    log=log,
                    on_event=partial(show_event, task),
                    limits=worker_limits.default_limits(),
                ),
            )
        unfinished.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    log.unlink(missing_ok=True)


def _require_newer_keys(family: str) -> None:
    """Raise ConfigError where nothing writes a config with the keys of transformers 5."""
    title, hint = families.SAMPLES[family].title, "Leave out --keys."
    if families.SAMPLES[family].text_part:
        raise ConfigError(f"there are no newer keys for {title}, which transformers does not know", hint=hint)
    if family == families.REAL.name:
        raise ConfigError(f"{title} is made with the older keys alone", hint=hint)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
