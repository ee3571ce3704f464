"""The inputs of the action: from the environment variables INPUT_… to one frozen record, each checked.

Inputs may hold what a stranger wrote (the title of a pull request, the name of a branch), so each has a form, and what
does not have it ends the step before anything is begun. Folders and files have to lie in the caller's workspace or in
the runner's temporary folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from bot.errors import ConfigError

Command = Literal["run", "plan", "promote", "compare", "comment", "approve", "propose", "conclude", "status"]
Publish = Literal["no", "stage", "yes"]
Kind = Literal["file", "folder", "any", "new"]  # of what a path names

COMMANDS: tuple[Command, ...] = get_args(Command)

#: Which commands take an input, for those that not every command takes.
TAKEN_BY: dict[str, tuple[Command, ...]] = {
    "models": ("run", "plan", "promote"),
    "variants": ("run", "plan", "compare"),
    "runner": ("plan", "run"),
    "reports": ("promote", "propose", "comment"),
    "base": ("compare",),
    "head": ("compare", "propose"),
    "model": ("compare",),
    "pull-request": ("comment", "propose", "conclude"),
    "out": ("compare", "status"),
}
_NEEDED_BY: dict[str, tuple[Command, ...]] = {
    "reports": ("propose", "comment"),
    "base": ("compare",),
    "head": ("compare", "propose"),
    "pull-request": ("comment",),
}

_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*(?:@[A-Za-z0-9_][A-Za-z0-9._/-]*)?")
_VARIANT = re.compile(r"[a-z0-9]+(?:/(?:\*|[a-z0-9][a-z0-9._-]*))?")
_RUNNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PULL = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+#[1-9][0-9]{0,9}")
_NUMBER = re.compile(r"#?([1-9][0-9]{0,9})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENDPOINT = re.compile(r"https?://[\x21-\x7e]+")
_MODEL = "OWNER/NAME, OWNER/NAME@REVISION or a folder in the workspace"
_SHOWN = 80  # characters of a wrong value


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of the action. Paths are absolute, and exist unless something is to be written there.

    ``models`` are repos with or without a revision, and folders. ``dry_run`` is None where the configuration decides.
    ``pull_request`` is ``OWNER/REPO#N``, or None for the one that the event of the workflow is about. ``head`` is a
    folder to compare, or the commit to propose for.
    """

    command: Command
    models: tuple[str, ...]
    variants: tuple[str, ...]
    config: Path | None
    namespace: str | None
    publish: Publish
    dry_run: bool | None
    endpoint: str | None
    work: Path | None
    cache: bool
    runner: tuple[str, ...]
    reports: Path | None
    base: Path | None
    head: Path | str | None
    model: str | None
    pull_request: str | None
    out: Path | None


def read(environ: Mapping[str, str]) -> Inputs:
    """Read the inputs. Raises ConfigError, naming the input and what it may hold, for the first that is wrong."""
    return _Reader(environ).inputs()


class _Reader:
    """Reads one input after the other."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._workspace = Path(environ["GITHUB_WORKSPACE"]).resolve()
        self._temp = Path(environ["RUNNER_TEMP"]).resolve()

    def inputs(self) -> Inputs:
        command = cast("Command", self._one_of("command", COMMANDS, "run"))
        self._require(command)
        return Inputs(
            command=command,
            models=self._models(),
            variants=self._names(
                "variants", _VARIANT, "a variant, as `phi-bot variants` lists them, FORMAT or default"
            ),
            config=self._path("config", "file"),
            namespace=self._matching("namespace", _NAMESPACE, "a user's or an organisation's name on the Hub"),
            publish=cast("Publish", self._one_of("publish", get_args(Publish), "no")),
            dry_run={"": None, "true": True, "false": False}[self._one_of("dry-run", ("true", "false"), "")],
            endpoint=self._matching("endpoint", _ENDPOINT, "the address of a Hub"),
            work=self._path("work", "new"),
            cache=self._one_of("cache", ("true", "false"), "true") == "true",
            runner=self._names("runner", _RUNNER, "a runner, as `phi-bot plan --on` takes it"),
            reports=self._path("reports", "any"),
            base=self._path("base", "folder"),
            head=self._head(command),
            model=self._relative("model"),
            pull_request=self._pull_request(),
            out=self._path("out", "new"),
        )

    def _text(self, name: str) -> str:
        return self._environ.get(f"INPUT_{name.upper().replace('-', '_')}", "").strip()

    def _require(self, command: Command) -> None:
        for name, commands in TAKEN_BY.items():
            if self._text(name) and command not in commands:
                raise ConfigError(
                    f"the input {name} is given, and the command {command} does not take it",
                    hint=f"It is for {' and '.join(commands)}. Leave it out, or set another command.",
                )
        for name, commands in _NEEDED_BY.items():
            if not self._text(name) and command in commands:
                raise ConfigError(f"the command {command} takes an input {name}", hint="docs/action.md explains it.")

    def _one_of(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        text = self._text(name) or default
        if text not in (*allowed, default):
            raise _wrong(name, text, f"one of {', '.join(allowed)}")
        return text

    def _matching(self, name: str, pattern: re.Pattern[str], words: str) -> str | None:
        text = self._text(name)
        if text and not pattern.fullmatch(text):
            raise _wrong(name, text, words)
        return text or None

    def _names(self, name: str, pattern: re.Pattern[str], words: str) -> tuple[str, ...]:
        found = tuple(part for part in re.split(r"[\s,]+", self._text(name)) if part)
        for part in found:
            if not pattern.fullmatch(part):
                raise _wrong(name, part, words)
        return found

    def _models(self) -> tuple[str, ...]:
        found: list[str] = []
        for line in filter(None, (line.replace("\t", " ").strip() for line in self._text("models").splitlines())):
            if not line.isprintable():
                raise _wrong("models", line, _MODEL)
            # A folder's name may hold spaces, where it has a line of its own.
            found += [line] if _is(self._below(line), "folder") else line.split()
        return tuple(self._model(text) for text in found)

    def _model(self, text: str) -> str:
        looks_like_a_path = text.startswith((".", "/", "~")) or "\\" in text or re.match(r"[A-Za-z]:", text)
        if looks_like_a_path or _is(self._below(text), "folder"):
            return str(self._existing("models", text, "folder"))
        if not _REPO.fullmatch(text):
            raise _wrong("models", text, _MODEL)
        return text

    def _head(self, command: Command) -> Path | str | None:
        if command == "propose":
            return self._matching("head", _COMMIT, "the 40 hex digits of a commit")
        return self._path("head", "folder")

    def _pull_request(self) -> str | None:
        text = self._text("pull-request")
        repository = self._environ.get("GITHUB_REPOSITORY", "")
        if (number := _NUMBER.fullmatch(text)) and repository:
            return f"{repository}#{number[1]}"
        return self._matching("pull-request", _PULL, "OWNER/REPO#NUMBER, or the NUMBER alone")

    def _relative(self, name: str) -> str | None:
        """Return a path that is the same in two checkouts."""
        text = self._text(name)
        parts = text.replace("\\", "/").split("/")
        if text and (text.startswith(("/", "~", "-")) or ".." in parts or ":" in text or not text.isprintable()):
            raise _wrong(name, text, "a path inside a checkout")
        return text or None

    def _path(self, name: str, kind: Kind) -> Path | None:
        text = self._text(name)
        return self._existing(name, text, kind) if text else None

    def _existing(self, name: str, text: str, kind: Kind) -> Path:
        if not text.isprintable():
            raise _wrong(name, text, "the path of a file or folder")
        path = self._below(text)
        if not (path.is_relative_to(self._workspace) or path.is_relative_to(self._temp)):
            raise ConfigError(
                f"the input {name} leads out of the workspace: {_shown(text)}",
                hint="Name something in the caller's checkout, or in the runner's temporary folder.",
            )
        if not _is(path, kind):
            what = {"file": "file", "folder": "folder"}.get(kind, "file or folder")
            raise ConfigError(
                f"the input {name} names a {what} that does not exist: {_shown(text)}",
                hint="Paths start at the workspace: is there a step before that checks out or downloads?",
            )
        return path

    def _below(self, text: str) -> Path:
        """Return where a path leads, links followed."""
        return (self._workspace / text).resolve()


def _is(path: Path, kind: Kind) -> bool:
    try:
        return kind == "new" or {"file": path.is_file, "folder": path.is_dir, "any": path.exists}[kind]()
    except OSError:  # a name that no file system takes
        return False


def _wrong(name: str, value: str, words: str) -> ConfigError:
    return ConfigError(f"the input {name} is {_shown(value)}", hint=f"It is {words}.")


def _shown(value: str) -> str:
    return ascii(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
