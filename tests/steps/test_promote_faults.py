"""A promotion that breaks at any request leaves the public repo as it was, or as it should be."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bot.config import Config
from bot.errors import PhiBotError
from bot.hub import client
from bot.hub.client import Hub
from bot.localhub import RunningHub
from bot.records.artifacts import Report
from bot.steps.promote import promote
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.hub.faulty import Fault, proxy
from tests.steps.test_promote import World
from tests.steps.test_promote import config as config
from tests.steps.test_publish import no_plots as no_plots

pytestmark = pytest.mark.usefixtures("no_plots")

NAMES = ["gguf/q4_k_m", "gguf/q8_0"]


@pytest.fixture
def world(hub: RunningHub, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return World(hub, config, tmp_path)


def held(hub: Hub, repo_id: str) -> list[str]:
    """Return what a public repo says it holds, after comparing that with the files there."""
    found, listed = hub.record(repo_id), hub.files(repo_id)
    if found is None or listed is None:
        return []
    weights = {p for p in listed[1] if p.endswith(".gguf")}
    assert weights == {f.path for b in found[0].builds for f in b.build.files}
    return [b.build.variant.name for b in found[0].builds]


def broken(world: World, namespace: str, *faults: Fault) -> tuple[Report | None, list[tuple[str, str]]]:
    """Promote in a namespace through a proxy that breaks requests. Return what came of it, and the requests."""
    world.config = replace(world.config, publish=replace(world.config.publish, namespace=namespace))
    world.stage(*world.artifacts)
    work = Workspace(root=world.config.build.work)
    with proxy(world.hub.url) as running:
        running.faults = list(faults)
        there = client.connect(running.url, world.hub.token)
        try:
            report = promote((), context_of(world.config, workspace=work, hub=there))
        except PhiBotError:
            report = None
        return report, [(method, path) for method, path, _ in running.seen]


@pytest.mark.parametrize("fault", [{"refuse": True}, {"lose": True}, {"status": 503}], ids=str)
def test_whichever_request_breaks_the_next_promotion_ends_it(world: World, fault: dict[str, bool | int]) -> None:
    world.artifacts = [world.build(name) for name in NAMES]
    report, requests = broken(world, "whole")
    assert report is not None
    assert held(world.client, "whole/Phi-9-mini-GGUF") == NAMES
    assert sum(method == "POST" for method, _ in requests) >= 4  # makes the repo, asks what is there, copies, commits

    for method, every in (("POST", 1), ("GET", 4)):
        for number in range(0, sum(m == method for m, _ in requests), every):
            namespace = f"{method.lower()}{number}"
            repo_id = f"{namespace}/Phi-9-mini-GGUF"
            one = Fault(method=method, path="", after=number, times=1, **fault)  # type: ignore[arg-type]
            report, _ = broken(world, namespace, one)
            found = held(world.client, repo_id)
            assert found in ([], NAMES), namespace
            assert report is None or report.failures or found == NAMES
            assert world.promote().failures == ()
            assert held(world.client, repo_id) == NAMES


def test_two_that_promote_at_once_make_one_commit(world: World) -> None:
    world.stage(*(world.build(name) for name in NAMES))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: world.promote(), range(2))
    assert (*first.failures, *second.failures) == ()
    made = [p for report in (first, second) for p in report.publications if p.created]
    assert len({p.commit for p in made}) == 1
    assert held(world.client, "me/Phi-9-mini-GGUF") == NAMES
