"""A scenario: one call of a run goes wrong in one way, once or from then on; then a run in which nothing does."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from bot.errors import PhiBotError
from bot.records.artifacts import Report
from tests.faults.bench import REPOS, Bench, Call
from tests.faults.judge import Judge
from tests.hub.faulty import Fault

KINDS: dict[str, Callable[[], dict[str, object]]] = {
    "refused": lambda: {"refuse": True},
    "slow": lambda: {"stall": 0},
    "cut": lambda: {"half": True},
    "lost": lambda: {"lose": True},
    "wrong hash": lambda: {"alter": True},
    "twice": lambda: {"twice": True},
    "429": lambda: {"status": 429},
    "429, Retry-After": lambda: {"status": 429, "headers": {"Retry-After": "30"}},
    "429, RateLimit": lambda: {"status": 429, "headers": {"RateLimit": '"api";r=0;t=30'}},
    "500": lambda: {"status": 500},
    "502": lambda: {"status": 502},
    "503": lambda: {"status": 503},
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What goes wrong. ``lasting`` faults go on until the second run."""

    call: Call
    kind: str
    lasting: bool

    def __str__(self) -> str:
        often = "lasting" if self.lasting else "once"
        return f"{self.call.method} {self.call.path} ({self.call.number}): {self.kind}, {often}"


@dataclass(kw_only=True)
class Outcome:
    """What came of scenarios. Anything but an empty ``wrong`` is a fault of ours."""

    faults: int = 0
    met: int = 0
    half_published: int = 0
    duplicated: int = 0
    wrong: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)


def scenarios(calls: Sequence[Call]) -> list[Scenario]:
    """Return every call of a run, going wrong in every way."""
    return [
        Scenario(call=call, kind=kind, lasting=lasting) for call in calls for kind in KINDS for lasting in (False, True)
    ]


def spread(everything: Sequence[Scenario], count: int) -> list[Scenario]:
    """Return so many of them, in rounds: in each every call, which goes wrong in another way than the one before."""
    ways = 2 * len(KINDS)
    calls = len(everything) // ways
    each = (divmod(n, calls) for n in range(count))
    return [everything[call * ways + (call + turn * (len(KINDS) + 1)) % ways] for turn, call in each]


def play(scenario: Scenario, namespace: str, bench: Bench, judge: Judge, outcome: Outcome) -> None:
    """Play a scenario in a namespace of its own, and note what came of it."""
    proxy = bench.proxy
    fault = Fault(
        method=scenario.call.method,
        path=scenario.call.pattern(namespace),
        after=scenario.call.number,
        times=1_000 if scenario.lasting else 1,
        **KINDS[scenario.kind](),  # type: ignore[arg-type]
    )
    times = fault.times
    proxy.faults[:] = [fault]
    bench.on_pause = (lambda: None) if scenario.lasting else proxy.listen
    with bench.hurried() if scenario.kind == "slow" else nullcontext():
        first = bench.run(namespace)
    outcome.faults += 1
    outcome.met += fault.times < times
    outcome.ends[_end(first)] += 1
    if isinstance(first, PhiBotError) and not (first.message and first.hint):
        outcome.wrong.append(f"{scenario}: ended without words")
    proxy.faults.clear()
    proxy.listen()
    second = bench.run(namespace)
    if isinstance(second, PhiBotError):
        outcome.wrong.append(f"{scenario}: {_end(first)}; the second run failed: {second.message}")
    elif second.failures:
        said = "; ".join(f.message for f in second.failures)
        outcome.wrong.append(f"{scenario}: {_end(first)}; the second run failed: {said}")
    verdict = judge.look(namespace, REPOS)
    outcome.half_published += len(verdict.half)
    outcome.duplicated += len(verdict.duplicated)
    outcome.wrong += [f"{scenario}: {_end(first)}; {what}" for what in (*verdict.half, *verdict.duplicated)]


def _end(result: Report | PhiBotError) -> str:
    if isinstance(result, PhiBotError):
        return type(result).__name__
    return f"failures {sorted({f.exit_code for f in result.failures})}" if result.failures else "complete"


def play_all(todo: Sequence[Scenario], prefix: str, bench: Bench) -> Outcome:
    """Play scenarios one after the other."""
    outcome, judge = Outcome(), Judge(bench.hub)
    for number, scenario in enumerate(todo):
        play(scenario, f"{prefix}-{number}", bench, judge, outcome)
    return outcome
