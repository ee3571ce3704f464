"""The tables of ``phi-bot.toml``: one frozen dataclass each, with what every key means and may hold."""

import ipaddress
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from bot import catalogue
from bot.config_file import key
from bot.errors import UnknownVariantError

# What the Hub takes for a user's or an organisation's name.
_OWNER = r"^(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$"
_OWNER_IN_WORDS = "the name of a user or an organisation on the Hub (letters, digits, - _ and ., at most 96)"
_GLOB = r"^[^/\s]+$"
_GLOB_IN_WORDS = "a pattern on a model's name without its owner (no slash, no space)"
_LEAVE_OUT_OR_PRIVATE = r"^(leave-out|private)$"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"


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
        default_factory=available_threads,
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
class Planning:
    """How much is done in one run. What is over a bound is left for the next one, and said."""

    max_jobs: int | None = field(
        default=None,
        metadata=key(
            "Jobs a run begins at most; a job is a model in one format.",
            allowed="a whole number from 1 to 10000",
            rules={"minimum": 1, "maximum": 10000},
            example=20,
        ),
    )
    max_cost: float | None = field(
        default=None,
        metadata=key(
            "What the jobs of a run may cost together, in US dollars, by the estimates.",
            allowed="a number, 0 or above",
            rules={"minimum": 0},
            example=5.0,
        ),
    )
    max_jobs_per_model: int | None = field(
        default=None,
        metadata=key(
            "The same for each model: jobs.",
            allowed="a whole number from 1 to 10000",
            rules={"minimum": 1, "maximum": 10000},
            example=4,
        ),
    )
    max_cost_per_model: float | None = field(
        default=None,
        metadata=key(
            "The same for each model: US dollars.",
            allowed="a number, 0 or above",
            rules={"minimum": 0},
            example=1.0,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class HfJobs:
    """How `phi-bot run --on hf-jobs` and `phi-bot schedule install` start a phi-bot on Hugging Face Jobs."""

    image: str = field(
        default="python:3.12",
        metadata=key(
            "The container image, with a Python that phi-bot runs on, a C++ compiler and git.",
            allowed="the name of an image",
            rules={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$"},
        ),
    )
    setup: str = field(
        default="pip install -q phi-bot",
        metadata=key(
            "The shell command that makes phi-bot available in the image. Empty where it is there already.",
            allowed="one line for a shell",
            rules={"pattern": r"^[^\n\r\u0000]*$"},
        ),
    )
    namespace: str | None = field(
        default=None,
        metadata=key(
            "The user or organisation that pays for the jobs. Without it, the namespace of `publish`.",
            allowed=_OWNER_IN_WORDS,
            rules={"pattern": _OWNER},
            example="your-name",
        ),
    )
    time_factor: float = field(
        default=3.0,
        metadata=key(
            "A job is ended after so many times its estimated time, and no earlier than after 30 minutes.",
            allowed="a number from 1 to 100",
            rules={"minimum": 1, "maximum": 100},
        ),
    )


RUNNERS = key(
    "Machines of your own that jobs may be planned on, by names that you give them.",
    allowed="a name of letters, digits, - _ and ., at most 40",
    rules={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"},
)


@dataclass(frozen=True, kw_only=True)
class OwnRunner:
    """A machine of your own, as a self-hosted or larger runner of GitHub. A plan may put jobs on own/NAME."""

    system: str = field(
        metadata=key(
            "Its operating system.",
            allowed='"linux", "macos" or "windows"',
            rules={"pattern": r"^(linux|macos|windows)$"},
            example="linux",
        ),
    )
    architecture: str = field(
        default="x86_64",
        metadata=key("Its processor.", allowed='"x86_64" or "arm64"', rules={"pattern": r"^(x86_64|arm64)$"}),
    )
    cores: int = field(
        metadata=key(
            "How many cores it has.",
            allowed="a whole number from 1 to 1024",
            rules={"minimum": 1, "maximum": 1024},
            example=16,
        ),
    )
    memory: float = field(
        metadata=key(
            "Its memory, in GB.",
            allowed="a number from 1 to 100000",
            rules={"minimum": 1, "maximum": 100000},
            example=64,
        ),
    )
    disk: float = field(
        metadata=key(
            "The disk that a job finds free, in GB.",
            allowed="a number from 1 to 1000000",
            rules={"minimum": 1, "maximum": 1000000},
            example=500,
        ),
    )
    accelerator: str = field(
        default="none",
        metadata=key("Its GPU.", allowed='"none", "nvidia" or "apple"', rules={"pattern": r"^(none|nvidia|apple)$"}),
    )
    accelerator_memory: float = field(
        default=0.0,
        metadata=key(
            "The memory of its GPU, in GB.",
            allowed="a number from 0 to 100000",
            rules={"minimum": 0, "maximum": 100000},
        ),
    )
    price: float = field(
        default=0.0,
        metadata=key(
            "What an hour on it costs, in US dollars.",
            allowed="a number from 0 to 10000",
            rules={"minimum": 0, "maximum": 10000},
        ),
    )
    labels: tuple[str, ...] = field(
        default=(),
        metadata=key(
            "What a workflow's `runs-on` says to get it. Without it, self-hosted and its name.",
            allowed="a list of labels",
            rules={"items": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"}},
        ),
    )


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
    staging: str = field(
        default="phi-bot-staging",
        metadata=key(
            "The repo, in the same namespace, that `phi-bot stage` writes to and `phi-bot promote` publishes from.",
            allowed="the name of a repo, without its owner",
            rules={"pattern": _NAME},
        ),
    )
    trusted_publishers: bool = field(
        default=False,
        metadata=key(
            "Write with the tokens that the Hub gives a workflow for one repo at a time (Trusted Publishers), not with "
            "HF_TOKEN. Every repo has to be there already.",
            allowed="true or false",
        ),
    )
    state: str = field(
        default="phi-bot-state",
        metadata=key(
            "The dataset repo, in the same namespace, in which the bot keeps what failed and what it has seen.",
            allowed="the name of a repo, without its owner",
            rules={"pattern": _NAME},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Reconvert:
    """What a pull request on GitHub may ask for."""

    models: tuple[str, ...] = field(
        default=(),
        metadata=key(
            "Models that the label convert:all converts from a pull request, for people to try on the Hub. "
            "convert:OWNER/NAME converts any other one.",
            allowed="a list of: owner/name of a model on the Hub",
            rules={"items": {"pattern": r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$"}},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Announce:
    """Where a release is announced, beside the summary of the run."""

    repository: str | None = field(
        default=None,
        metadata=key(
            "The GitHub repository (owner/name) that gets an issue for every release, if GITHUB_TOKEN may write there.",
            allowed="owner/name",
            rules={"pattern": r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$"},
            example="your-name/phi-releases",
        ),
    )
    status_page: str | None = field(
        default=None,
        metadata=key(
            "Where people find the site that `phi-bot status` makes. Summaries and issues link to it.",
            allowed="an https:// address",
            rules={"pattern": r"^https?://[^\s]+$"},
            example="https://your-name.github.io/phi-status/",
        ),
    )
