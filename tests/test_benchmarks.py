"""What a cycle costs in requests, exactly; and that the benchmarks say what they measured."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.cycle import configure, phi_bot
from benchmarks.namespace import Shape, changed_source, fill
from bot.localhub import RunningHub, ServerLimits, check, serve
from bot.records.plans import Plan

pytestmark = pytest.mark.process

SHAPE = Shape(sources=30)
MEMORY = {
    "GET /api/datasets/{namespace}/{name}": 1,
    "GET /api/datasets/{namespace}/{name}/tree/{revision}/{path*}": 1,
    "GET /datasets/{namespace}/{name}/resolve/{revision}/{path*}": 1,
}  # what it takes to read the bot's memory


@dataclass(frozen=True, kw_only=True)
class Place:
    """A Hub that answers, and a folder with a phi-bot.toml."""

    hub: RunningHub
    settings: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace with 120 publications of 30 sources, which the bot has seen once."""
    folder = tmp_path_factory.mktemp("benchmark")
    with serve(folder / "hub") as hub:
        fill(hub.hub, SHAPE)
        settings = configure(folder / "settings", SHAPE)
        first = phi_bot(hub, settings, "run")
        assert first.requests["GET /api/models/{namespace}/{name}/revision/{revision}"] == SHAPE.sources
        yield Place(hub=hub, settings=settings)


@pytest.mark.parametrize("page", [20, 30, 1000])
def test_a_cycle_with_nothing_to_do_takes_a_request_a_page_and_three(place: Place, page: int) -> None:
    idle = phi_bot(place.hub, place.settings, "run", limits=ServerLimits(page=page))
    pages = math.ceil(SHAPE.sources / page) + math.ceil(SHAPE.publications / page)
    assert idle.requests == MEMORY | {"GET /api/models": pages}
    assert "Nothing to convert: 150 variants are published already." in idle.output


def test_a_source_that_changed_is_the_only_one_that_is_read(place: Place) -> None:
    with changed_source(place.hub.hub, 7) as changed:
        looked = phi_bot(place.hub, place.settings, "plan", "--json")
    plan = Plan.from_json(json.loads(looked.output))
    assert {job.release.repo_id for job in plan.jobs} == {changed}
    assert {v.reason for job in plan.jobs for v in job.variants} == {"changed"}
    assert len(plan.done) == 5 * (SHAPE.sources - 1)
    assert looked.requests["GET /api/models"] == 2
    assert looked.requests["GET /api/models/{namespace}/{name}/revision/{revision}"] == 1


def test_the_namespace_is_one_that_the_hub_finds_nothing_wrong_with(place: Place) -> None:
    assert check(place.hub.hub.folder) == []


@pytest.mark.parametrize(("power", "values"), [(0, [7, 7, 7]), (1, [1, 10, 100]), (2, [5, 500, 50000])])
def test_growth_is_told_as_a_power(power: int, values: list[int]) -> None:
    rows = [row(publications=10**n) for n in range(1, 4)]
    assert scale.exponent(rows, values) == pytest.approx(power)


def test_the_table_is_of_the_results_beside_it() -> None:
    readme = scale.README.read_text(encoding="utf-8")
    assert scale.with_table(readme, scale.load()) == readme


def row(*, publications: int) -> scale.Row:
    return scale.Row(
        sources=publications // 10,
        publications=publications,
        page=1000,
        work="nothing",
        requests=6,
        seconds=1.0,
        cpu_seconds=1.0,
        peak_memory=10**8,
    )
