"""Tables of ``phi-bot.toml``: one frozen dataclass each, with what every key means and may hold.

Here is what is watched, built and verified. Where it runs is in machines.py, where it goes in places.py.
"""

# ruff: noqa: RUF009 - a key is a field

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs

from bot import catalogue
from bot.config.file import key, key_metadata
from bot.errors import UnknownVariantError
from bot.records.base import NOT_EMPTY, Record, bounds, check, pattern
from bot.system import machine


def _check_endpoint(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is not a URL"
    if "@" in parts.netloc:
        return "holds a user name or a password; tokens come from the environment variable HF_TOKEN alone"
    if not host or parts.query or parts.fragment or value != value.strip():
        return "is not the URL of a Hub"
    if parts.scheme == "http" and not _is_loopback(host):
        return "would send your token unencrypted"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_variants(names: list[str]) -> str | None:
    try:
        catalogue.select(names)
    except UnknownVariantError as error:
        return f"has an {error.message}. {error.hint}".removesuffix(".")
    return None


def check_home(value: str) -> str | None:
    """Say what is wrong with a path that begins with ``~``; None where nothing is, or it begins otherwise."""
    try:
        Path(value).expanduser()
    except RuntimeError:
        return "is in the home folder of an unknown user"
    return None


Owner = Annotated[  # what the Hub takes for one
    str,
    pattern(
        r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?",
        "the name of a user or an organisation on the Hub (letters, digits, - _ and ., at most 96)",
    ),
]
Endpoint = Annotated[
    str,
    check(_check_endpoint),  # first: a password is not repeated
    pattern(r"https?://[^\s]+", "an https:// address, or an http:// address of this machine (localhost, 127.0.0.1)"),
]
Glob = Annotated[str, pattern(r"[^/\s]+", "a pattern on a model's name without its owner (no slash, no space)")]
LicenseName = Annotated[str, pattern(r"[A-Za-z0-9.+-]+", 'a licence as cards name it: "mit", "apache-2.0"')]
VariantNames = Annotated[
    str,
    pattern(r"[\s\S]+", '"default", FORMAT, FORMAT/*, or a row that `phi-bot variants` lists, with a size for SIZE'),
]
Folder = Annotated[Path, check(check_home), pattern(r"[^\u0000]+", "the path of a folder")]
Times = Annotated[float, bounds(above=0, unit="multiples of the cost of plain rounding")]


def default_work() -> Path:
    """Return the folder for unfinished work where none is set."""
    return platformdirs.user_cache_path("phi-bot", appauthor=False) / "work"


@dataclass(frozen=True, kw_only=True)
class HubTable(Record):
    """Where releases are found and repos are published."""

    endpoint: Endpoint = key(
        "https://huggingface.co",
        "The Hub's address. Without it, the environment variable HF_ENDPOINT is taken, if set.",
    )


@dataclass(frozen=True, kw_only=True)
class RunTable(Record):
    """The bot's work when nobody is watching."""

    dry_run: bool = key(
        False,
        "Say what would be done, and do nothing. `phi-bot init` sets it, until a person has looked.",
        init=True,
    )
    paused: bool = key(
        False,
        "Begin nothing. So does a file PAUSED in the bot's own repo (`phi-bot pause`), on all machines at once.",
    )
    attempts: Annotated[int, bounds(1, 100)] = key(
        3, "How often a variant that fails is tried, with growing pauses, before it waits for `phi-bot retry`."
    )


@dataclass(frozen=True, kw_only=True)
class FinetunesTable(Record):
    """Which fine-tunes of the watched models are taken beside them. Without an author and a number, none.

    Gated and private ones are left out, and so is what `watch.exclude` fits.
    """

    authors: tuple[Owner, ...] = key((), "Users and organisations whose fine-tunes of Phi are taken, by any name.")
    most_downloaded: Annotated[int, bounds(0, 100)] = key(
        0, "How many of the most downloaded fine-tunes of each watched model are taken."
    )
    adapters: bool = key(False, "Take adapters (LoRA) too, by the same rules, as many again of each model.")
    licenses: Annotated[tuple[LicenseName, ...], NOT_EMPTY] = key(
        ("mit", "apache-2.0"), "Licences that a fine-tune may have, as its card names them."
    )
    limit: Annotated[int, bounds(0, 1000)] = key(
        20, "How many are taken at most: those of the named authors first, then the most downloaded."
    )


@dataclass(frozen=True, kw_only=True)
class WatchTable(Record):
    """Which models are looked for when none is named on the command line."""

    authors: Annotated[tuple[Owner, ...], NOT_EMPTY] = key(
        ("microsoft",), "Users and organisations whose models are watched."
    )
    include: Annotated[tuple[Glob, ...], NOT_EMPTY] = key(
        ("Phi-*", "phi-*"), "Names of models to take: * stands for anything, ? for one character."
    )
    exclude: tuple[Glob, ...] = key((), "Names of models to leave out, even if they are included.")
    minimum_age: Annotated[float, bounds(0, 8760)] = key(
        0.0, "Hours that a release must have been unchanged before it is taken: first uploads are often corrected."
    )
    gated: Literal["leave-out", "private"] = key(
        "leave-out",
        "What to do with models that ask for something before they are read: leave them out, or take them, if "
        "the token may, and publish in private repos only.",
    )
    private: Literal["leave-out", "private"] = key("leave-out", "The same for private models.")
    finetunes: FinetunesTable = field(default_factory=FinetunesTable)


@dataclass(frozen=True, kw_only=True)
class BuildTable(Record):
    """The variants to build, and where."""

    variants: Annotated[tuple[VariantNames, ...], NOT_EMPTY, check(_check_variants)] = key(
        ("default",),
        'What to build: "default", a row of the catalogue ("gguf/q4_k_m"), one with the bytes that its files may have '
        '("gguf/fit:4.2GB"), the default rows of a format ("gguf") or all of its rows ("gguf/*"). `phi-bot variants` '
        "lists the rows.",
    )
    work: Folder = field(
        default_factory=default_work,
        metadata=key_metadata(
            "Folder for downloads and unfinished work; a relative path starts at the folder of this file. Without it: "
            "work in the folder that the environment variable PHI_BOT_CACHE names, or else in the user's cache folder.",
            example="~/.cache/phi-bot/work",
        ),
    )
    threads: Annotated[int, bounds(1, 1024)] = field(
        default_factory=machine.processors,
        metadata=key_metadata(
            "Processor threads that a build may use. Without it, as many as this process may run on.", example=4
        ),
    )
    outdated: Literal["now", "slowly", "never"] = key(
        "slowly",
        "What to do with publications that an older toolchain or recipe made: build them anew now, slowly (one "
        "model a run, the oldest first, when nothing else is to be done), or never.",
    )
    imatrix_from_4_bits: Literal["never", "measured"] = key(
        "never",
        "Whether GGUF types of 4 to 6 bits are quantized with an importance matrix: never, or where measuring shows "
        "that it brings a release's file nearer to the original. Measuring builds and verifies each of them twice.",
    )
    quality: Literal["plain", "calibrated"] = key(
        "plain",
        "How weights are rounded: plain, as the formats' own tools do it, or calibrated, for what each matrix is "
        "multiplied with on a text that is shipped. That takes more time, and formats that cannot do it stay plain.",
    )


@dataclass(frozen=True, kw_only=True)
class KeepTable(Record):
    """The files that stay in the working folder though they can be made again. `phi-bot run` and `clean` see to it."""

    days: Annotated[float, bounds(0, 3650)] = key(
        14.0,
        "Sources, references, logs, unfinished builds and published artifacts are removed when nothing has used "
        "them for so many days. An artifact that is not published stays.",
    )
    gigabytes: Annotated[float, bounds(0)] | None = key(
        None,
        "How much the working folder may take between two releases, in GB: files that were not used for longest "
        "are removed first. Without it, the whole disk: files are removed when a release needs the room.",
        example=200.0,
    )


@dataclass(frozen=True, kw_only=True)
class WorkTable(Record):
    """The working folder (`build.work`)."""

    keep: KeepTable = field(default_factory=KeepTable)


@dataclass(frozen=True, kw_only=True)
class CostTable(Record):
    """What rounding may cost a file that is still published.

    In times what plain rounding of the same bits costs on the same model, by precision. Correct files that cost more
    are of poor quality for their bits. What the runtime's own arithmetic costs is allowed on top.
    """

    int2: Times = 1.5
    int3: Times = 1.5
    int4: Times = 1.5
    int5: Times = 1.5
    int6: Times = 1.5
    int8: Times = 1.5
    bf16: Times = 1.5
    fp16: Times = 1.5
    fp32: Times = 1.5


@dataclass(frozen=True, kw_only=True)
class VerifyTable(Record):
    """The requirements that a file must meet before it is published."""

    cost: CostTable = field(default_factory=CostTable)
