"""Measurements of verifying an artifact, as frozen dataclasses that read and write JSON (evidence.json).

Only the standard library is imported, because workers import this module inside toolchains. What the figures mean and
how they are computed is in docs/verification.md; the schema of the file is evidence.schema.json beside this module.
"""

from dataclasses import dataclass, replace
from typing import Literal

from bot.records.base import Record, Sha256

EVIDENCE_VERSION = 4  # of evidence.json; raised when what is measured, or what a field means, changes

Side = Literal["short", "long"]  # of the LongRoPE switch; every window of a model without one is short


CHECKS = (
    "integrity",
    "loading",
    "tokenizer",
    "chat template",
    "stop tokens",
    "generation",
    "predictions",
    "rotary",
    "constants",
    "weights",
    "own weights",
)
"""The checks that every artifact has to pass, beside the gate on its distances."""


@dataclass(frozen=True, kw_only=True)
class Figures(Record):
    """The distances of predictions from the reference's, or the standard errors of these figures.

    KL divergences are in nats per token. ``perplexity_ratio`` is the artifact's perplexity on the text over the
    reference's.
    """

    mean_kl: float
    p99_kl: float  # the 99th percentile over positions
    max_kl: float
    top1_agreement: float  # the share of positions at which both name the same likeliest token, 0 to 1
    perplexity_ratio: float


@dataclass(frozen=True, kw_only=True)
class Distance(Record):
    """The distance of a file's predictions from the reference, over ``tokens`` positions on one side of the switch.

    ``setting`` names how the runtime was set, where that is not what the card recommends; "" is what it recommends,
    and the only one that gates look at. ``by_kind`` is the mean KL on each kind of text.
    """

    side: Side
    tokens: int
    figures: Figures
    standard_errors: Figures  # by bootstrap over blocks of consecutive positions
    by_kind: dict[str, float]
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Stretch(Record):
    """The mean KL, in nats per token, over the scored ones of the positions ``first`` to ``last`` of windows."""

    side: Side
    first: int
    last: int
    tokens: int
    mean_kl: float
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class KnownBehaviour(Record):
    """Something a runtime is known to do differently, with where that is said.

    With an empty ``setting`` the gate leaves that side out; otherwise it is about the figures of that setting alone.
    """

    name: str
    side: Side
    reference: str
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class ReadDifferently(Record):
    """A kind of unusual text that a runtime is known to read differently, with where that is said.

    ``differing`` of the ``texts`` of that kind get other ids, or are decoded to other text, than by the source.
    """

    kind: str
    differing: int
    texts: int
    reference: str


@dataclass(frozen=True, kw_only=True)
class Check(Record):
    """One named check and how it went, in words that a person understands."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Generation(Record):
    """Greedy generation from a fixed prompt: the ids that went in, the ids and the text that came out.

    ``stopped`` says whether a stop token ended it, rather than the limit of tokens.
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    stopped: bool


@dataclass(frozen=True, kw_only=True)
class RunningCost(Record):
    """The cost of running the file on the machine that measured it.

    ``peak_memory`` is the largest resident size in bytes after loading and generating, before anything else was
    measured. ``decode_rate`` is None where the model ended before it could be timed.
    """

    load_seconds: float
    peak_memory: int
    prefill_rate: float  # tokens per second
    decode_rate: float | None  # tokens per second
    threads: int


@dataclass(frozen=True, kw_only=True)
class OwnWeights(Record):
    """How far the runtime's predictions are from those of the file's own weights in float32, over ``tokens`` positions.

    ``mean_kl`` is in nats per token, and so is ``rounding_kl``: what it costs to round states as that runtime does,
    computed from the same weights. 0 where it rounds nothing.
    """

    tokens: int
    mean_kl: float
    rounding_kl: float


@dataclass(frozen=True, kw_only=True)
class Evidence(Record):
    """The measurements of one artifact in its own runtime. Missing ones could not be made."""

    version: int
    build_key: Sha256
    runtime: str  # the package and version that loaded it; "" if none did
    machine: str
    checks: tuple[Check, ...]
    distances: tuple[Distance, ...]
    stretches: tuple[Stretch, ...]
    own_weights: OwnWeights | None = None  # version 2 did not measure it
    cost: RunningCost | None
    gate: float  # the bound on mean_kl that applied, in nats per token
    known_behaviours: tuple[KnownBehaviour, ...]
    read_differently: tuple[ReadDifferently, ...]
    generations: tuple[Generation, ...]
    seconds: float  # that verifying took
    reference_digest: str  # of what the reference was computed from: model, texts, toolchain

    @property
    def passed(self) -> bool:
        """True if every check passed."""
        return bool(self.checks) and all(c.passed for c in self.checks)

    @property
    def recommended(self) -> tuple[Distance, ...]:
        """The distances in the setting that the card recommends."""
        return tuple(d for d in self.distances if not d.setting)

    @property
    def gated(self) -> tuple[Distance, ...]:
        """Those of them that the gate applies to."""
        known = {b.side for b in self.known_behaviours if not b.setting}
        return tuple(d for d in self.recommended if d.side not in known)

    @property
    def mean_kl(self) -> float | None:
        """The largest mean KL that the gate applies to, in nats per token."""
        return max((d.figures.mean_kl for d in self.gated), default=None)


DISTANCE = "distance"  #: how the names of the checks begin that the gate makes


def judge(measured: Evidence, gate: float) -> Evidence:
    """Return the evidence with the gate applied: one check a side, in place of any that an earlier gate left."""
    kept = tuple(c for c in measured.checks if not c.name.startswith(DISTANCE))
    known = {b.side: b for b in measured.known_behaviours if not b.setting}
    judged = tuple(_distance_check(d, gate, known.get(d.side)) for d in measured.recommended)
    return replace(measured, checks=kept + judged, gate=gate)


def _distance_check(distance: Distance, gate: float, known: KnownBehaviour | None) -> Check:
    mean, error = distance.figures.mean_kl, distance.standard_errors.mean_kl
    figures = f"mean KL {mean:.5f} ± {error:.5f} nats over {distance.tokens} tokens"
    name = f"{DISTANCE}, {distance.side} windows"
    if known is not None:
        return Check(name=name, passed=True, detail=f"{figures}; not gated: {known.name} ({known.reference})")
    return Check(name=name, passed=mean <= gate, detail=f"{figures}, at most {gate:g} allowed")
