"""``phi-bot.toml`` → one frozen Config.

The dataclasses below are the one description of that file: how it is read, its JSON schema (phi-bot.schema.json, by
``python -m bot.config``), the text of ``phi-bot init`` and the table in docs/configuration.md all come from them.
"""

import dataclasses
import ipaddress
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from bot import catalogue, config_file
from bot.config_file import key
from bot.errors import ConfigError, UnknownVariantError

FILE_NAME = "phi-bot.toml"
_HINT = "docs/configuration.md explains every key; so does the file that `phi-bot init` writes."

# What the Hub takes for a user's or an organisation's name.
_OWNER = r"^(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$"
_OWNER_IN_WORDS = "the name of a user or an organisation on the Hub (letters, digits, - _ and ., at most 96)"
_GLOB = r"^[^/\s]+$"
_GLOB_IN_WORDS = "a pattern on a model's name without its owner (no slash, no space)"


def _check_endpoint(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no URL"
    if "@" in parts.netloc:
        return "holds a user name or a password; tokens come from the environment variable HF_TOKEN alone"
    if not host or parts.query or parts.fragment or value != value.strip():
        return "is no URL of a Hub"
    if parts.scheme == "http" and not _is_loopback(host):
        return "would send your token unencrypted"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_variants(names: tuple[str, ...]) -> str | None:
    try:
        catalogue.select(names)
    except UnknownVariantError as error:
        return f"has an {error.message}. {error.hint}".removesuffix(".")
    return None


def _check_work(value: Path) -> str | None:
    try:
        value.expanduser()
    except RuntimeError:
        return "is in the home folder of nobody known here"
    return None


def _check_gate(value: float) -> str | None:
    return None if math.isfinite(value) else "is no finite number"


_GATE = key("", allowed="a number above 0, in nats per token", rules={"exclusiveMinimum": 0}, check=_check_gate)


def default_work() -> Path:
    """Return the folder for unfinished work where none is set."""
    return platformdirs.user_cache_path("phi-bot", appauthor=False) / "work"


def available_threads() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where releases are found and repos are published."""

    endpoint: str = field(
        default="https://huggingface.co",
        metadata=key(
            "The Hub's address. Without it, the environment variable HF_ENDPOINT is taken, if set.",
            allowed="an https:// address, or an http:// address of this machine (localhost, 127.0.0.1)",
            rules={"pattern": r"^https?://[^\s]+$"},
            check=_check_endpoint,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Which models are looked for when none is named on the command line."""

    authors: tuple[str, ...] = field(
        default=("microsoft",),
        metadata=key(
            "Users and organisations whose models are watched.",
            allowed=f"a list with one or more of: {_OWNER_IN_WORDS}",
            rules={"minItems": 1, "items": {"pattern": _OWNER}},
        ),
    )
    include: tuple[str, ...] = field(
        default=("Phi-*", "phi-*"),
        metadata=key(
            "Names of models to take: * stands for anything, ? for one character.",
            allowed=f"a list with one or more of: {_GLOB_IN_WORDS}",
            rules={"minItems": 1, "items": {"pattern": _GLOB}},
        ),
    )
    exclude: tuple[str, ...] = field(
        default=(),
        metadata=key(
            "Names of models to leave out, even if they are included.",
            allowed=f"a list of: {_GLOB_IN_WORDS}",
            rules={"items": {"pattern": _GLOB}},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Build:
    """What is built, and where."""

    variants: tuple[str, ...] = field(
        default=("default",),
        metadata=key(
            'What to build: "default", a row of the catalogue ("gguf/q4_k_m"), the default rows of a format ("gguf") '
            'or all of its rows ("gguf/*"). `phi-bot variants` lists the rows.',
            allowed='a list with one or more of: "default", FORMAT, FORMAT/*, or a row that `phi-bot variants` lists',
            rules={"minItems": 1, "items": {"minLength": 1}},
            check=_check_variants,
        ),
    )
    work: Path = field(
        default_factory=default_work,
        metadata=key(
            "Folder for downloads and unfinished work; a relative path starts at the folder of this file. Without it: "
            "work in the folder that the environment variable PHI_BOT_CACHE names, or else in the user's cache folder.",
            allowed="the path of a folder",
            rules={"pattern": r"^[^\u0000]+$"},
            check=_check_work,
            example="~/.cache/phi-bot/work",
        ),
    )
    threads: int = field(
        default_factory=available_threads,
        metadata=key(
            "Processor threads that a build may use. Without it, as many as this process may run on.",
            allowed="a whole number from 1 to 1024",
            rules={"minimum": 1, "maximum": 1024},
            example=4,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The largest mean KL divergence, in nats per token, with which a file of each precision is still published."""

    int2: float = field(default=1.0, metadata=_GATE)
    int3: float = field(default=0.5, metadata=_GATE)
    int4: float = field(default=0.2, metadata=_GATE)
    int5: float = field(default=0.03, metadata=_GATE)
    int6: float = field(default=0.015, metadata=_GATE)
    int8: float = field(default=0.003, metadata=_GATE)
    bf16: float = field(default=0.001, metadata=_GATE)
    fp16: float = field(default=0.0005, metadata=_GATE)
    fp32: float = field(default=0.0002, metadata=_GATE)


@dataclass(frozen=True, kw_only=True)
class Verify:
    """What a file must prove before it is published."""

    gates: Gates = field(default_factory=Gates)


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Where finished files go: into the repo NAMESPACE/MODEL with the format's suffix."""

    namespace: str | None = field(
        default=None,
        metadata=key(
            "The user or organisation to publish under. Needed for publishing, and for nothing else.",
            allowed=_OWNER_IN_WORDS,
            rules={"pattern": _OWNER},
            example="your-name",
        ),
    )
    private: bool = field(default=False, metadata=key("Make new repos private.", allowed="true or false"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a phi-bot watches, builds, verifies and publishes. Every key may be left out."""

    hub: Hub = field(default_factory=Hub)
    watch: Watch = field(default_factory=Watch)
    build: Build = field(default_factory=Build)
    verify: Verify = field(default_factory=Verify)
    publish: Publish = field(default_factory=Publish)

    def gate(self, precision: str) -> float:
        """Return the bound on mean KL, in nats per token, for a precision class of the catalogue (``int4`` …)."""
        bounds: dict[str, float] = dataclasses.asdict(self.verify.gates)
        return bounds[precision]

    def replace(
        self, *, endpoint: str | None = None, work: Path | None = None, namespace: str | None = None
    ) -> "Config":
        """Return the config with what the command line said in place of it; None leaves a value as it is.

        Raises ConfigError, naming the option, for a value that the file could not hold either.
        """
        hub, build, publish = self.hub, self.build, self.publish
        if endpoint is not None:
            hub = _with(hub, "endpoint", endpoint, "--endpoint")
        if work is not None:
            build = _with(build, "work", str(work), "--work")
        if namespace is not None:
            publish = _with(publish, "namespace", namespace, "--namespace")
        return dataclasses.replace(self, hub=_trimmed(hub), build=_placed(build, Path.cwd()), publish=publish)


def load(path: Path | None, *, environ: Mapping[str, str]) -> Config:
    """Read a config file; None stands for ./phi-bot.toml, or the defaults where there is none.

    HF_ENDPOINT and PHI_BOT_CACHE of ``environ`` fill in what the file leaves out. Raises ConfigError for a file that
    cannot be read, an unknown key or a wrong value; the message names file, line, key and what is allowed.
    """
    if path is None and not Path(FILE_NAME).exists():
        config, given, folder = Config(), dict[str, Any](), Path()
    else:
        path = path or Path(FILE_NAME)
        given, source = config_file.parse(path, hint=_HINT)
        config, folder = config_file.read(Config, given, source), path.parent
    hub, build = config.hub, config.build
    if environ.get("HF_ENDPOINT") and "endpoint" not in given.get("hub", {}):
        hub = _with(hub, "endpoint", environ["HF_ENDPOINT"], "the environment variable HF_ENDPOINT")
    if environ.get("PHI_BOT_CACHE") and "work" not in given.get("build", {}):
        build = _with(build, "work", environ["PHI_BOT_CACHE"], "the environment variable PHI_BOT_CACHE")
        build = _placed(dataclasses.replace(build, work=build.work / "work"), Path.cwd())
    return dataclasses.replace(config, hub=_trimmed(hub), build=_placed(build, folder.absolute()))


def init(path: Path) -> None:
    """Write a config file in which every key is explained. Raises ConfigError where there is one already."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(config_file.template(Config))
    except FileExistsError:
        raise ConfigError(f"{path} is there already", hint="It was left as it is. Edit it, or move it away.") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="Name a file in a folder of yours.") from None


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a config file, for editors and for checks in CI."""
    return config_file.json_schema(Config, title="phi-bot.toml")


def _with(section: Any, name: str, value: str, said_by: str) -> Any:
    def wrong(complaint: str) -> ConfigError:
        return ConfigError(f"{said_by} {complaint}", hint=_HINT)

    return dataclasses.replace(section, **{name: config_file.read_value(type(section), name, value, wrong)})


def _trimmed(hub: Hub) -> Hub:
    return dataclasses.replace(hub, endpoint=hub.endpoint.rstrip("/"))


def _placed(build: Build, folder: Path) -> Build:
    return dataclasses.replace(build, work=folder / build.work.expanduser())


if __name__ == "__main__":
    import json

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
