"""The results of a comparison, as frozen dataclasses that read and write JSON (comparison.json).

All of it may come from a machine on which a stranger's code ran: whoever shows it escapes it.
"""

from dataclasses import dataclass
from typing import Literal

from bot.records.artifacts import VariantName
from bot.records.base import Record, Sha256
from bot.records.evidence import Side

COMPARISON_VERSION = 1  # of comparison.json; raised when a reader of the old one would be misled

#: What may differ between two sides. The first two are part of build keys, so publications are built anew for them.
What = Literal[
    "recipe", "lock", "added", "removed", "code", "steps", "measuring", "importance", "sample", "gate", "cards",
    "pictures", "plan", "publishing", "commands", "reports", "config", "model",
]  # fmt: skip
#: What a change of a file may touch, in the words of rooms.toml, as ``every build`` or ``builds of {format}``.
Touch = str
Verdict = Literal["better", "worse", "same", "same bytes", "new", "gone", "refused", "failed", "fails the gate"]


@dataclass(frozen=True, kw_only=True)
class Room(Record):
    """A row of the table of rooms: files, as paths or patterns of them, and what a change of one touches."""

    name: str
    touches: tuple[Touch, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RecipePrint(Record):
    """A row of the catalogue. ``recipe`` is the digest of what of it, and of its format, goes into a build key.

    ``options`` are those of the recipe and the version of its format, as JSON for people to read. ``importance`` says
    whether it takes an importance matrix.
    """

    name: VariantName
    precision: str
    default: bool
    options: str
    recipe: Sha256
    importance: bool = False


@dataclass(frozen=True, kw_only=True)
class Description(Record):
    """The description of a side: ``phi-bot describe --json``.

    ``locks`` are digests of the locks of toolchains, ``gates`` what
    rounding may cost by precision, in multiples of what plain rounding of the same bits costs.
    """

    version: int
    variants: tuple[RecipePrint, ...]
    formats: tuple[str, ...]
    locks: dict[str, Sha256]
    gates: dict[str, float]
    rooms: tuple[Room, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fingerprint(Record):
    """A side, as far as published files depend on it: its description, and what was read from its files here.

    ``config`` has the keys that its phi-bot.toml sets, values as JSON. ``sample`` is the digest of what makes sample
    checkpoints.
    """

    said: Description
    config: dict[str, str]
    sample: Sha256


@dataclass(frozen=True, kw_only=True)
class Difference(Record):
    """One thing that differs: the variant, format, gate or key ``name``, and both values where they can be shown.

    ``files`` are those whose change touches it, at most 50.
    """

    what: What
    name: str
    before: str = ""
    after: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rebuild(Record):
    """A job that the change makes necessary. By the estimates it takes ``seconds`` and costs ``cost`` US dollars."""

    release: str  # repo_id@commit
    format: str
    variants: tuple[str, ...]
    reason: Literal["new", "changed", "outdated"]
    runner: str
    seconds: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class Rebuilds(Record):
    """The builds that merging would cause in a namespace, beyond those that are due in any case.

    ``watched`` and ``unwatched`` are models that only the head, or only the base, watches. ``problem`` says why
    there is no plan; it is "" where there is one.
    """

    namespace: str
    jobs: tuple[Rebuild, ...] = ()
    watched: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure(Record):
    """Measurements on one side of the LongRoPE switch: mean KL in nats per token, share of same top tokens.

    Errors are standard errors.
    """

    side: Side
    mean_kl: float
    mean_kl_error: float
    top1: float
    top1_error: float


@dataclass(frozen=True, kw_only=True)
class SideMeasurement(Record):
    """The result of a variant on one side. ``reason`` says why where it was not verified.

    ``size`` is in bytes, ``digest`` that of all files, ``peak_memory`` of building in bytes.
    """

    status: Literal["verified", "outside the gate", "failed", "refused"]
    reason: str = ""
    size: int = 0
    digest: str = ""
    figures: tuple[Figure, ...] = ()
    build_seconds: float = 0.0
    verify_seconds: float = 0.0
    peak_memory: int = 0


@dataclass(frozen=True, kw_only=True)
class ComparedVariant(Record):
    """A variant of a model on both sides; None where that side does not have it."""

    model: str
    variant: str
    before: SideMeasurement | None
    after: SideMeasurement | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class CardDiff(Record):
    """The change of a format's card: a unified diff of the same artifacts' card, or the ``problem`` with that."""

    format: str
    diff: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """The effect of a change. ``kind`` says whether the sides are code and configuration, or a model.

    ``problem`` says why the head could not be compared; ``notes`` what a reader has to know; ``seconds`` is what
    comparing took.
    """

    version: int
    kind: Literal["code", "model"]
    changes: tuple[Difference, ...] = ()
    rebuilds: Rebuilds | None = None
    rows: tuple[ComparedVariant, ...] = ()
    cards: tuple[CardDiff, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""
    seconds: float = 0.0

    @property
    def nothing(self) -> bool:
        """Say whether the change affects nothing that is published."""
        return not (self.changes or self.rows or self.problem)
