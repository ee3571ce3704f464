"""The staging repo: how it is laid out.

It holds one folder an artifact, named by its build key and its release, with files/, notices/, build.json,
evidence.json and prompt.json. A file staging.json says that the repo is for this and nothing else.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from bot.config import Config
from bot.errors import ForeignRepoError, RecordError, TokenError, UnknownModelError
from bot.hub.client import Hub
from bot.hub.namespace import Namespace
from bot.records.artifacts import BuildRecord, MalformedRecordError, Record, SourceFile
from bot.records.digests import digest_of
from bot.source.strict import parse_object

MARKER, BUILD_FILE, EVIDENCE_FILE = "staging.json", "build.json", "evidence.json"
FILES, NOTICES = "files", "notices"

_KEY_LENGTH = 32  # hex digits of a build key in a folder's name: 128 bits
_FOLDER = re.compile(rf"([0-9a-f]{{{_KEY_LENGTH}}}-[0-9a-f]{{8}})/(.+)")
_UNTOUCHED = frozenset({".gitattributes", "README.md"})


def folder_name(build_key: str, repo_id: str, commit: str | None) -> str:
    """Return the name of the folder of what was built from a source repo at a commit."""
    return f"{build_key[:_KEY_LENGTH]}-{digest_of([repo_id, commit])[:8]}"


def folders(files: Mapping[str, SourceFile]) -> dict[str, dict[str, SourceFile]]:
    """Return the files in each artifact's folder of a staging repo, by the paths there."""
    found: dict[str, dict[str, SourceFile]] = {}
    for path, file in files.items():
        if match := _FOLDER.fullmatch(path):
            found.setdefault(match[1], {})[match[2]] = file
    return found


def below(folder: str, files: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """Return the files of one folder, by their paths in it."""
    return {p.removeprefix(f"{folder}/"): f for p, f in files.items() if p.startswith(f"{folder}/")}


def built_as(folders: Iterable[str], build_keys: Iterable[str]) -> set[str]:
    """Return those of the folders that hold a build with one of the keys."""
    keys = {key[:_KEY_LENGTH] for key in build_keys}
    return {folder for folder in folders if folder.partition("-")[0] in keys}


def check_staging(repo_id: str, files: Mapping[str, SourceFile]) -> None:
    """Raise ForeignRepoError for a repo that holds something else than what is staged."""
    if MARKER not in files and not files.keys() <= _UNTOUCHED:
        raise ForeignRepoError(
            f"{repo_id} holds files that phi-bot did not put there",
            hint="Nothing in it is changed. Name another repo for staging (publish.staging).",
        )


R = TypeVar("R", bound=Record)


def staging_repo(config: Config) -> str:
    """Return the staging repo's id. Raises ConfigError without a namespace."""
    return f"{config.namespace('there is no namespace to stage in')}/{config.publish.staging}"


def folder_of(build: BuildRecord) -> str:
    """Return the name of a build's folder in the staging repo."""
    return folder_name(build.build_key, build.source.repo_id, build.source.commit)


def published_folders(there: Mapping[str, SourceFile], namespace: Namespace) -> set[str]:
    """Return the folders of a staging repo whose builds are published by now, as the namespace's list tells it."""
    return built_as(folders(there), (key for s in namespace.shelved.values() for key in s.builds.values()))


def staged_folders(config: Config, hub: Hub) -> frozenset[str]:
    """Return the names of all folders of the staging repo, none if there is no such repo (for this token)."""
    try:
        found = hub.files(staging_repo(config))
    except (TokenError, UnknownModelError):
        return frozenset()
    return frozenset(folders(found[1]) if found else ())


def parsed(kind: type[R], content: bytes, *, where: str) -> R:
    """Return a record that was staged. Raises RecordError, naming where it is."""
    try:
        return kind.from_json(parse_object(content))
    except (MalformedRecordError, ValueError) as error:
        raise RecordError(f"{where}: {error}", hint="Was it staged by another version of phi-bot?") from error
