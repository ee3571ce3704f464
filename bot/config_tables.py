"""Tables of ``phi-bot.toml``: one frozen dataclass each, with what every key means and may hold.

Here is what is watched, built and verified. Where it runs is in config_machines.py, where it goes in config_places.py.
"""

import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from bot import catalogue, machine
from bot.config_file import key
from bot.errors import UnknownVariantError

# What the Hub takes for a user's or an organisation's name.
OWNER = r"^(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$"
OWNER_IN_WORDS = "the name of a user or an organisation on the Hub (letters, digits, - _ and ., at most 96)"
_GLOB = r"^[^/\s]+$"
_GLOB_IN_WORDS = "a pattern on a model's name without its owner (no slash, no space)"
_LEAVE_OUT_OR_PRIVATE = r"^(leave-out|private)$"


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
class Run:
    """Whether and how the bot works when nobody looks."""

    dry_run: bool = field(
        default=False,
        metadata=key(
            "Say what would be done, and do nothing of it. `phi-bot init` sets it, until a person has looked.",
            allowed="true or false",
            init=True,
        ),
    )
    paused: bool = field(
        default=False,
        metadata=key(
            "Begin nothing. So does a file PAUSED in the bot's own repo (`phi-bot pause`), on all machines at once.",
            allowed="true or false",
        ),
    )
    attempts: int = field(
        default=3,
        metadata=key(
            "How often a variant that fails is tried, with growing pauses, before it waits for `phi-bot retry`.",
            allowed="a whole number from 1 to 100",
            rules={"minimum": 1, "maximum": 100},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Which models are looked for when none is named on the command line."""

    authors: tuple[str, ...] = field(
        default=("microsoft",),
        metadata=key(
            "Users and organisations whose models are watched.",
            allowed=f"a list with one or more of: {OWNER_IN_WORDS}",
            rules={"minItems": 1, "items": {"pattern": OWNER}},
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
    minimum_age: float = field(
        default=0.0,
        metadata=key(
            "Hours that a release must have stood unchanged before it is taken: first uploads are often mended.",
            allowed="a number from 0 to 8760",
            rules={"minimum": 0, "maximum": 8760},
        ),
    )
    gated: str = field(
        default="leave-out",
        metadata=key(
            "What to do with models that ask for something before they are read: leave them out, or take them, if "
            "the token may, and publish in private repos alone.",
            allowed='"leave-out" or "private"',
            rules={"pattern": _LEAVE_OUT_OR_PRIVATE},
        ),
    )
    private: str = field(
        default="leave-out",
        metadata=key(
            "The same for private models.",
            allowed='"leave-out" or "private"',
            rules={"pattern": _LEAVE_OUT_OR_PRIVATE},
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
        default_factory=machine.processors,
        metadata=key(
            "Processor threads that a build may use. Without it, as many as this process may run on.",
            allowed="a whole number from 1 to 1024",
            rules={"minimum": 1, "maximum": 1024},
            example=4,
        ),
    )
    outdated: str = field(
        default="slowly",
        metadata=key(
            "What to do with publications that an older toolchain or recipe made: build them anew now, slowly (one "
            "model a run, the oldest first, when nothing else is to be done), or never.",
            allowed='"now", "slowly" or "never"',
            rules={"pattern": r"^(now|slowly|never)$"},
        ),
    )
    imatrix_from_4_bits: str = field(
        default="never",
        metadata=key(
            "Whether GGUF types of 4 to 6 bits are quantized by an importance matrix: never, or where that is measured "
            "to bring a release's file nearer to the original. Measuring builds and verifies each of them twice.",
            allowed='"never" or "measured"',
            rules={"pattern": r"^(never|measured)$"},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What stays in the working folder of what can be made anew. `phi-bot run` sees to it, and `phi-bot clean` does."""

    days: float = field(
        default=14.0,
        metadata=key(
            "Sources, references, logs, unfinished builds and artifacts that are published go when nothing has used "
            "them for so many days. An artifact that is not published stays.",
            allowed="a number from 0 to 3650",
            rules={"minimum": 0, "maximum": 3650},
        ),
    )
    gigabytes: float | None = field(
        default=None,
        metadata=key(
            "How much the working folder may take between two releases, in GB: what was not used for longest goes "
            "first. Without it, what the disk has: it goes where a release needs the room.",
            allowed="a number of 0 or more",
            rules={"minimum": 0},
            example=200.0,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the working folder (`build.work`) keeps."""

    keep: Keep = field(default_factory=Keep)


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
