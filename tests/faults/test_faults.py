"""A spread of the faults that `make faults` plays all of (docs/hub-calls.md)."""

import pytest

from tests.faults.bench import Bench, Call
from tests.faults.scenarios import KINDS, play_all, scenarios, spread

pytestmark = pytest.mark.toolchain

EACH = 12  # faults of a test
ALWAYS, SWEPT = 9, 9  # tests: the first ones have every call, the others the same calls going wrong in other ways
PARTS = [*range(ALWAYS), *(pytest.param(n, marks=pytest.mark.sweep) for n in range(ALWAYS, ALWAYS + SWEPT))]


@pytest.fixture(scope="session")
def calls(bench: Bench) -> list[Call]:
    """The calls of a whole run."""
    return bench.calls("nothing-wrong")


def test_a_run_is_watching_remembering_downloading_and_publishing(calls: list[Call]) -> None:
    paths = {(c.method, c.path.split("?")[0].rsplit("/", 1)[-1]) for c in calls}
    assert paths >= {
        ("GET", "models"),  # the lists of the sources and of the namespace
        ("GET", "config.json"),
        ("POST", "create"),
        ("GET", "model.safetensors"),
        ("GET", "download"),
        ("POST", "batch"),
        ("PUT", "upload"),
        ("POST", "verify"),
        ("POST", "main"),  # preupload and commit, of models and of the memory
    }
    assert len(scenarios(calls)) >= 1_000


def test_a_spread_has_every_call_and_every_kind(calls: list[Call]) -> None:
    chosen = spread(scenarios(calls), EACH * ALWAYS)
    assert {s.call for s in chosen} == set(calls)
    assert {(s.kind, s.lasting) for s in chosen} == {(kind, lasting) for kind in KINDS for lasting in (False, True)}


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_half_or_twice_there_and_the_next_run_completes(bench: Bench, calls: list[Call], part: int) -> None:
    chosen = spread(scenarios(calls), EACH * (part + 1))[EACH * part :]
    outcome = play_all(chosen, f"part-{part}", bench)
    assert outcome.wrong == []
    assert outcome.faults == outcome.met == len(chosen)
