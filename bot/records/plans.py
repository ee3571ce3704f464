"""The words of watching and planning, as records: what was seen, what is to be built, and where.

They stand beside those of bot/records/artifacts.py, which speak of releases, artifacts and publications; workers need
only these.
"""

from dataclasses import dataclass
from typing import Literal

from bot.records.artifacts import Commit, Failure, Folder, Release, Variant, label_of
from bot.records.base import Record, Sha256


@dataclass(frozen=True, kw_only=True)
class SourceState(Record):
    """A source, according to a list of models and the bot's memory: enough to know whether there is anything to do.

    ``commit`` and ``folder`` are as in Release. ``content_digest`` is None where the model cannot be used, and
    ``problem`` says why. ``changed`` is when its last commit was made (UTC, ISO 8601; "" for a folder).
    """

    repo_id: str
    commit: Commit | None
    content_digest: Sha256 | None
    changed: str = ""
    gated: bool = False
    private: bool = False
    folder: str | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return self.repo_id.rsplit("/", 1)[-1]

    @property
    def label(self) -> str:
        """``repo_id@commit``, the commit cut to 12 digits; a folder has none."""
        return label_of(self.repo_id, self.commit)


Event = Literal[
    "new", "changed", "edited", "renamed", "deleted", "emptied", "disabled", "gated", "private", "young", "unusable"
]
PolicyWord = Literal["taken", "excluded", "unfit", "gated", "private", "license", "number"]


@dataclass(frozen=True, kw_only=True)
class Notice(Record):
    """Something that happened to a source since the bot last looked, or its policy's word on it, for people to read.

    ``edited`` changed files that decide nothing, as a README; ``unusable`` cannot be read (``text`` says why). Of
    fine-tunes, ``unfit`` is what is not a Phi of full precision, ``license`` and ``number`` are beyond the policy's.
    """

    repo_id: str
    what: Literal[Event, PolicyWord]
    text: str


@dataclass(frozen=True, kw_only=True)
class Estimate(Record):
    """The expected needs of a job, in bytes. ``disk`` is scratch, beyond the source and the output.

    ``cpu_seconds`` is the processor time of building and verifying.
    """

    output: int
    disk: int
    memory: int
    cpu_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PlannedVariant(Record):
    """A variant to build: its row, its build key, and the repo and folder it will be published in.

    ``reason``: nothing of it is published yet, or what is was made from other content (``changed``), or by an older
    toolchain or recipe (``outdated``).
    """

    variant: Variant
    build_key: Sha256
    repo_id: str
    path_in_repo: Folder
    reason: Literal["new", "changed", "outdated"] = "new"


@dataclass(frozen=True, kw_only=True)
class Placement(Record):
    """The runner of a job: its name (see bot/machines/runners.py), and what it takes there: seconds, and US dollars."""

    runner: str
    seconds: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class Job(Record):
    """A release and the variants of one format to build from it. ``placement`` is None until it has a runner.

    ``source`` says whether the release's weights are kept on the disk there, or stream through it.
    """

    release: Release
    format: str
    variants: tuple[PlannedVariant, ...]
    toolchain_digest: Sha256
    estimate: Estimate
    placement: Placement | None = None
    source: Literal["kept", "streamed"] = "kept"


@dataclass(frozen=True, kw_only=True)
class Postponed(Record):
    """A variant that is to be built, but not now. ``why``: it failed, it is outdated, a bound was
    reached, or it is built already and waits to be promoted."""

    release: str  # repo_id@commit
    planned: PlannedVariant
    why: Literal["failed", "outdated", "bound", "staged"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Plan(Record):
    """The work of a run.

    ``jobs``, the variants that are ``done`` (published with the same build key), ``failures``, and the ``postponed``.
    """

    jobs: tuple[Job, ...]
    done: tuple[PlannedVariant, ...]
    failures: tuple[Failure, ...]
    postponed: tuple[Postponed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DueVariant(Record):
    """The name of a variant, as DuePlan has it."""

    name: str


@dataclass(frozen=True, kw_only=True)
class DuePlanned(Record):
    """A variant to build, as DuePlan has it."""

    variant: DueVariant
    reason: Literal["new", "changed", "outdated"] = "new"


@dataclass(frozen=True, kw_only=True)
class DueRelease(Record):
    """A release, as DuePlan has it."""

    repo_id: str
    commit: Commit | None
    content_digest: Sha256


@dataclass(frozen=True, kw_only=True)
class DueJob(Record):
    """A job, as DuePlan has it."""

    release: DueRelease
    format: str
    variants: tuple[DuePlanned, ...]
    placement: Placement | None = None


@dataclass(frozen=True, kw_only=True)
class DuePlan(Record):
    """The plan of another version of the bot: the part of a Plan as JSON that every version has."""

    jobs: tuple[DueJob, ...]

    @property
    def due(self) -> frozenset[tuple[str, str]]:
        """Content digests and names of variants that are to be built, by whatever recipe."""
        return frozenset((job.release.content_digest, v.variant.name) for job in self.jobs for v in job.variants)


@dataclass(frozen=True, kw_only=True)
class NewClass(Record):
    """A class of models that nothing here builds yet, and the watched models of it that anybody may see, by label."""

    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WatchedSources(Record):
    """The sources that watching found, and what is new about them.

    ``finetunes`` are the words of the policy of fine-tunes on each that was looked at: it is taken, or why not.
    ``new_classes`` are those of watched models that cannot be built yet, None where models were named and none looked
    for.
    """

    sightings: tuple[SourceState, ...]
    notices: tuple[Notice, ...] = ()
    finetunes: tuple[Notice, ...] = ()
    new_classes: tuple[NewClass, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedRepo(Record):
    """A repo of the namespace as one list of all of them tells it: its card's own word on what it holds.

    ``source`` is the model it was made from (``repo_id@commit``); ``builds`` maps the names of variants to their build
    keys, ``contents`` to the content digests of what they were built from. ``changed`` is when its last commit was made
    (UTC, ISO 8601).
    """

    repo_id: str
    commit: Commit
    changed: str
    private: bool
    source: str
    builds: dict[str, str]
    contents: dict[str, str]
