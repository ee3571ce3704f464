"""Which toolchains GitHub's cache keeps for a step, and under which key.

What a cache holds is not checked: a toolchain's own files are not hashed once they are unpacked, and whoever may write
to the cache may write its records too. So no step that publishes, promotes or proposes gets a key, and what is saved is
saved before the step has read any model.
"""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from bot import catalogue, config, toolchains
from bot.action.inputs import Inputs
from bot.errors import PhiBotError
from bot.machines.runners import LOCAL
from bot.progress import Display
from bot.records.digests import digest_of
from bot.toolchains import system
from bot.toolchains.install import ensure
from bot.toolchains.kept import cache_folder, folder_of, installed


def needed_toolchains(inputs: Inputs, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the toolchains to keep for a step: none where it builds nothing, or where the cache must not be used.

    Raises what ``config.load`` and ``catalogue.select`` raise.
    """
    settings = config.load(inputs.config, environ=environ)
    dry = settings.run.dry_run if inputs.dry_run is None else inputs.dry_run
    rows = catalogue.select(inputs.variants or settings.build.variants)
    elsewhere = inputs.runner not in ((), (LOCAL,))
    if not inputs.cache or inputs.command != "run" or inputs.publish == "yes" or dry or elsewhere:
        return ()
    return tuple(sorted({"reference", *(row.format for row in rows)}))


def key(names: tuple[str, ...]) -> str:
    """Return the key of an entry: what is installed, for which system, with which Python and where; "" for nothing.

    An environment links to the very Python that made it, and what is compiled to the C library of its machine.
    """
    if not names:
        return ""
    built_on = [sys.version, sys.base_prefix, *platform.libc_ver(), platform.mac_ver()[0]]
    locks = {name: toolchains.install_digest(name) for name in names}
    digest = digest_of([locks, built_on, str(cache_folder())])
    return f"phi-bot-toolchains-{system.name()}-{digest[:32]}"


def paths(names: tuple[str, ...]) -> str:
    """Return the folders that an entry holds, one a line."""
    return "\n".join(str(folder_of(name)) for name in names)


def fill(names: tuple[str, ...], display: Display) -> list[PhiBotError]:
    """Install what is missing of the toolchains; return what went wrong. A build says it again, with its variants."""
    errors: list[PhiBotError] = []
    for name in names:
        try:
            ensure(name, display)
        except PhiBotError as error:
            errors.append(error)
    return errors


def are_installed(names: tuple[str, ...]) -> bool:
    """Say whether all of the toolchains are there."""
    return set(names) <= {found.name for found in installed()}


def names_of(text: str) -> tuple[str, ...]:
    """Read the names that the step before has written. Raises ValueError for anything else."""
    found = tuple(json.loads(text))
    if not set(found) <= set(toolchains.names()):
        raise ValueError(f"{text!a} names no toolchains")
    return found


def default_folder(environ: Mapping[str, str]) -> Path:
    """Return where toolchains and work are kept unless PHI_BOT_CACHE names another place: what runners empty."""
    return Path(environ["RUNNER_TEMP"]) / "phi-bot"
