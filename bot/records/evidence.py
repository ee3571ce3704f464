"""Measurements of verifying an artifact, as frozen dataclasses that read and write JSON (evidence.json).

Only the standard library is imported, because workers import this module inside toolchains. What the figures mean and
how they are computed is in docs/verification.md; the schema of the file is evidence.schema.json beside this module.
"""

from dataclasses import dataclass, replace
from typing import Literal

from bot.records.base import Record, Sha256

EVIDENCE_VERSION = 6  # of evidence.json; raised when what is measured, or what a field means, changes

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
class RoundingCost(Record):
    """The file's distance from the reference, beside that of the source's weights plainly rounded to its precision.

    Both are means of KL over the same ``tokens`` positions, at the beginnings of windows on the short side, in nats per
    token and each with its standard error. Plain rounding is defined in worker/plain.py; that to fp32 costs nothing.
    ``ratio_error`` is the standard error of one over the other, and 0 where plain rounding costs nothing.
    """

    tokens: int
    mean_kl: float
    error: float
    plain_kl: float
    plain_error: float
    ratio_error: float

    @property
    def ratio(self) -> float | None:
        """How many times the cost of plain rounding; None where that costs nothing that could be measured."""
        return self.mean_kl / self.plain_kl if self.plain_kl > _NOTHING else None


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

    ``peak_memory`` is the largest resident size in bytes after loading and generating, before windows are read.
    ``decode_rate`` is that of the longest answer, and None where this was too short.
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

    @property
    def allowed(self) -> float:
        """The most that the runtime's arithmetic may cost.

        The same rounding in another order of sums gave 0.89 to 1.27 times what imitating it says, on a really trained
        model: small differences in keys and states move which neighbour is rounded to.
        """
        return _IMITATED * self.rounding_kl + _NOTHING


@dataclass(frozen=True, kw_only=True)
class Evidence(Record):
    """The measurements of one artifact in its own runtime. Missing ones could not be made."""

    version: int
    build_key: Sha256
    runtime: str  # the package and version that loaded it; "" if none did
    machine: str
    device: str = (
        ""  # that stood in for the variant's own, by its name: kernels of its own were not run; "" if none did
    )
    checks: tuple[Check, ...]
    distances: tuple[Distance, ...]
    stretches: tuple[Stretch, ...]
    deep: bool = True  # whether it was read as far as windows reach; versions 2 to 5 always were
    own_weights: OwnWeights | None = None  # version 2 did not measure it
    rounding: RoundingCost | None = None  # versions 2 to 4 did not measure it
    cost: RunningCost | None
    gate: float  # the bound on the mean_kl of rounding that applied, in nats per token
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
    def arithmetic(self) -> float:
        """What the runtime's own arithmetic may cost, beside the weights, in nats per token."""
        return self.own_weights.allowed if self.own_weights else 0.0

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
    def compared(self) -> Distance | None:
        """The distance by which files of a release are compared, None where no gate applies to any.

        It is that on short texts, which every file has read, or the other one where no gate applies to that.
        """
        return min(self.gated, key=lambda d: d.side != "short", default=None)


DISTANCE, COST = "distance", "cost of rounding"  #: how the names of the checks begin that judging makes
_NOTHING = 1e-6  # nats: computing in float32 may cost as much by itself; measured: 1e-13 to 3e-11
_IMITATED = 3.0  # times what imitating a runtime's rounding costs: what its own may
_SIDES = 4.0  # times what a file costs at the beginnings of short windows: what it may cost elsewhere
_LITTLE = 0.001  # nats that it may cost elsewhere in any case


def is_judged(check: str) -> bool:
    """Say whether a check, by its name, is one that judging makes: the others are about faults."""
    return check.startswith((DISTANCE, COST))


def judge(measured: Evidence, times: float) -> Evidence:
    """Return the evidence as a publisher's policy has it, with its checks in place of any that were there.

    ``times`` is how many times the cost of plain rounding a file of its precision may cost; what its runtime's own
    arithmetic costs is allowed on top. No side may be much farther from the reference than the file is there.
    """
    kept = tuple(c for c in measured.checks if not is_judged(c.name))
    rounding = measured.rounding
    if rounding is None:  # nothing could be measured, as another check says
        return replace(measured, checks=kept, gate=0.0)
    known = {b.side: b for b in measured.known_behaviours if not b.setting}
    gate = times * rounding.plain_kl + measured.arithmetic
    cost = _cost_check(measured, rounding, times, known.get("short"))
    sides = tuple(_distance_check(d, rounding, known.get(d.side)) for d in measured.recommended)
    return replace(measured, checks=(*kept, cost, *sides), gate=gate)


def _cost_check(measured: Evidence, rounding: RoundingCost, times: float, known: KnownBehaviour | None) -> Check:
    figures = f"mean KL {_nats(rounding.mean_kl, rounding.error)} over {rounding.tokens} tokens"
    plain = f"plain rounding of the same bits costs {_nats(rounding.plain_kl, rounding.plain_error)} on this model"
    if known is not None:
        detail = f"{figures}; {plain}; not held against it: {known.name} ({known.reference})"
        return Check(name=COST, passed=True, detail=detail)
    most = times * rounding.plain_kl + measured.arithmetic
    allowed = f"{most:.2g} allowed, {times:g} times that and {measured.arithmetic:.2g} for the runtime's arithmetic"
    passed = rounding.mean_kl <= most
    poor = "" if passed else "a faithful conversion, but of poor quality for its bits: "
    if not all(c.passed for c in measured.checks if not is_judged(c.name)):
        poor = ""  # something is wrong with it, and may be why
    return Check(name=COST, passed=passed, detail=f"{poor}{figures}; {plain}; at most {allowed}")


def _distance_check(distance: Distance, rounding: RoundingCost, known: KnownBehaviour | None) -> Check:
    name = f"{DISTANCE}, {distance.side} windows"
    figures = (
        f"mean KL {_nats(distance.figures.mean_kl, distance.standard_errors.mean_kl)} over {distance.tokens} tokens"
    )
    if known is not None:
        return Check(name=name, passed=True, detail=f"{figures}; not gated: {known.name} ({known.reference})")
    most = _SIDES * rounding.mean_kl + _LITTLE
    detail = f"{figures}; at the beginnings of windows it is {rounding.mean_kl:.2g}, so at most {most:.2g} allowed"
    return Check(name=name, passed=distance.figures.mean_kl <= most, detail=detail)


def _nats(value: float, error: float) -> str:
    return f"{value:.2g} ± {error:.1g} nats"
