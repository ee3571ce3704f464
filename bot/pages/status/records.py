"""The content of the status page, as records. They are its status.json too, from which the next page is made."""

from dataclasses import dataclass
from typing import Annotated, Literal

from bot.records.base import Record, of_version
from bot.records.evidence import Side

STATUS_VERSION = 1

# Worst first: what a person should look at, then what the bot will do, then what is as it should be.
State = Literal["stuck", "failed", "waiting", "changed", "outdated", "planned", "published", "refused"]
STATES: tuple[State, ...] = (
    "stuck",
    "failed",
    "waiting",
    "changed",
    "outdated",
    "planned",
    "published",
    "refused",
)


@dataclass(frozen=True, kw_only=True)
class Quality(Record):
    """A distance from the original on one side of the LongRoPE switch: mean KL in nats per token, its standard error.

    ``agreement`` is the share of positions, 0 to 1, with the same likeliest token. ``gated`` is False where the runtime
    is known to differ, so that the gate leaves the side out.
    """

    side: Side
    tokens: int
    mean_kl: float
    error: float
    agreement: float
    gated: bool


@dataclass(frozen=True, kw_only=True)
class MadeVariant(Record):
    """A published build, as the record of its repo tells of it. ``size`` is in bytes; ``created`` UTC, ISO 8601.

    ``toolchain`` and ``runtime`` are packages with their versions; ``checks`` is how many it passed. ``known`` names
    what its runtime does differently. ``proven_on`` is the device that stood in for its own ``target``; "" if none did.
    """

    variant: str
    precision: str
    target: str
    proven_on: str = ""
    folder: str
    build_key: str
    commit: str | None  # of the source
    created: str
    size: int
    toolchain: str
    runtime: str
    checks: int
    gate: float
    quality: tuple[Quality, ...]
    known: tuple[str, ...]

    @property
    def compared(self) -> Quality | None:
        """The distance by which files are compared: on short texts, or the other one where no gate looks at that."""
        return min((q for q in self.quality if q.gated), key=lambda q: q.side != "short", default=None)


@dataclass(frozen=True, kw_only=True)
class RepoAtCommit(Record):
    """A repo at one head, and what its record told of it there."""

    repo_id: str
    commit: str
    changed: str
    made: tuple[MadeVariant, ...]


@dataclass(frozen=True, kw_only=True)
class Entry(Record):
    """The state of a variant of a model. ``repo_id`` is where it is or will be published; "" where it never will.

    ``published`` is True if a file of it is there, be it outdated. ``text`` says why it stands so, ``hint`` what to do;
    ``attempts`` failed so far, the last one in the ``run`` of that address, and ``next`` (UTC, ISO 8601) is when it is
    tried again, None where that is not known.
    """

    variant: str
    state: State
    repo_id: str
    published: bool = False
    text: str = ""
    hint: str = ""
    step: str = ""
    attempts: int = 0
    next: str | None = None
    run: str = ""

    @property
    def format(self) -> str:
        """``gguf`` of ``gguf/q4_k_m``."""
        return self.variant.split("/", 1)[0]


@dataclass(frozen=True, kw_only=True)
class ModelStatus(Record):
    """A source model and how its variants stand. ``problem`` says why nothing can be made of it."""

    repo_id: str
    commit: str | None
    entries: tuple[Entry, ...]
    problem: str = ""

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return self.repo_id.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Status(Record):
    """All that the page shows. ``made`` is when (UTC, ISO 8601), ``run`` the address of the run that made it, or "".

    ``hidden`` counts the models that are left out because they or their files are private. ``paused`` says why the bot
    begins nothing, or is None.
    """

    version: Annotated[int, of_version(STATUS_VERSION)]
    made: str
    hub: str
    namespace: str
    models: tuple[ModelStatus, ...]
    shelves: tuple[RepoAtCommit, ...]
    hidden: int = 0
    run: str = ""
    paused: str | None = None
