"""Watch: which releases are there. Asks the Hub; reads no weights."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from bot import source
from bot.config import Config
from bot.errors import SourceError, TokenError, UnknownModelError
from bot.hub.client import Hub
from bot.progress import Display
from bot.records import Release


def watch(models: Sequence[str], *, config: Config, hub: Hub, display: Display) -> tuple[Release, ...]:
    """Return the releases that ``models`` name, or without any, those that the configuration watches.

    A model is a repo on the Hub (``owner/name`` or ``owner/name@revision``) or a local folder. Raises UnknownModelError
    for what is neither, and what ``hub.release`` and ``source.local_release`` raise. Of a watched namespace,
    a repo that cannot be used is said and left out: one bad repo must not hold up the others.
    """
    if models:
        return tuple(_one(model, hub) for model in models)
    found: list[Release] = []
    for author in config.watch.authors:
        display.say(f"Looking for releases of {author} on {hub.endpoint}")
        for repo_id in hub.find(author):
            if _wanted(repo_id, config):
                try:
                    found.append(hub.release(repo_id))
                except (SourceError, TokenError, UnknownModelError) as error:
                    display.say(f"Left out {repo_id}: {error.message}. {error.hint}")
    return tuple(found)


def is_folder(model: str) -> bool:
    """Say whether a MODEL argument means a local folder: it looks like a path, or there is such a folder."""
    return model.startswith((".", "/", "~")) or "\\" in model or Path(model).is_dir()


def _one(model: str, hub: Hub) -> Release:
    if model and is_folder(model):
        return source.local_release(Path(model).expanduser())
    repo_id, _, revision = model.partition("@")
    if repo_id.count("/") != 1:
        raise UnknownModelError(
            f"{model!r} is neither a folder here nor a repo id",
            hint="Give owner/name, owner/name@revision, or the path of a folder.",
        )
    return hub.release(repo_id, revision or None)


def _wanted(repo_id: str, config: Config) -> bool:
    name = repo_id.split("/", 1)[1]
    included = any(fnmatch.fnmatchcase(name, pattern) for pattern in config.watch.include)
    return included and not any(fnmatch.fnmatchcase(name, pattern) for pattern in config.watch.exclude)
