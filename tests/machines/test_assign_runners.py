"""Where a plan runs, by what the headers on the Hub say and the runners that are there."""

import json
from pathlib import Path

import pytest

from bot import catalogue, source
from bot.config import Config
from bot.config.machines import PlanTable, RunnerTable
from bot.errors import ConfigError, DamagedTokenizerError, DamagedWeightsError, HubUnreachableError
from bot.hub.client import Hub, connect
from bot.localhub import RunningHub
from bot.machines.assign_runners import assign_runners, candidates
from bot.machines.runners import built_in
from bot.progress import Silent
from bot.records.plans import Plan
from bot.steps.plan import plan_releases
from tests.contexts import context_of
from tests.hub.faulty import Fault, proxy
from tests.source import models

MODEL = "microsoft/Phi-tiny"
CONFIG = models.CONFIG | {
    "hidden_size": 64,
    "num_attention_heads": 1,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
}
TENSORS = {
    "model.embed_tokens.weight": ("BF16", [1000, 64]),
    "model.norm.weight": ("BF16", [64]),
    **models.layers(2, hidden=64, inner=256),
}


@pytest.fixture
def client(hub: RunningHub) -> Hub:
    return connect(hub.url, hub.token)


class Said(Silent):
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def todo(client: Hub, *names: str, weights: bytes | None = None) -> Plan:
    files = models.files(
        config__json=json.dumps(CONFIG).encode(), model__safetensors=weights or models.safetensors(TENSORS)
    )
    with Silent().task("") as task:
        client.commit(MODEL, files=files, parent=None, message="Put", task=task)
    return plan_releases([client.release(MODEL)], catalogue.select(names))


def where(found: Plan) -> dict[str, str]:
    return {v.variant.name: j.placement.runner for j in found.jobs for v in j.variants if j.placement is not None}


def test_without_a_word_a_plan_runs_here(client: Hub) -> None:
    found = assign_runners(todo(client, "gguf/q4_k_m", "mlx/4bit"), context_of(hub=client))
    assert where(found) == {"gguf/q4_k_m": "local", "mlx/4bit": "local"}


def test_a_plan_elsewhere_runs_on_flavors_that_the_hub_lists(client: Hub) -> None:
    found = assign_runners(todo(client, "mlx/4bit"), context_of(hub=client), on=["hf-jobs"])
    assert where(found) == {"mlx/4bit": "hf-jobs/cpu-basic"}


def test_a_list_that_cannot_be_read_is_said_and_a_known_one_taken(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    said = Said()
    with proxy(hub.url) as faulty:
        faulty.faults.append(Fault(method="GET", path="/api/jobs/hardware", status=404))
        found = candidates(["hf-jobs"], context_of(hub=connect(faulty.url, hub.token), display=said))
    assert [r.name for r in found] == [r.name for r in built_in() if r.kind == "hf-jobs"]
    assert ["cannot be read" in line for line in said.lines] == [True]


def test_nobody_is_asked_for_flavors_where_none_is_meant(hub: RunningHub) -> None:
    with proxy(hub.url) as faulty:
        found = candidates(["github", "own", "local"], context_of(hub=connect(faulty.url, hub.token)))
        assert not faulty.seen
    assert {r.kind for r in found} == {"github", "local"}


def test_a_runner_that_is_not_known_is_refused(client: Hub) -> None:
    with pytest.raises(ConfigError, match="there is no runner 'gitlab'"):
        candidates(["gitlab"], context_of(hub=client))


def test_a_machine_of_ones_own_is_planned_on(client: Hub) -> None:
    config = Config(runner={"mac": RunnerTable(system="macos", architecture="arm64", cores=8, memory=32.0, disk=500.0)})
    found = assign_runners(todo(client, "mlx/4bit"), context_of(config, hub=client), on=["own"])
    assert where(found) == {"mlx/4bit": "own/mac"}


def test_a_damaged_header_is_known_before_anything_is_downloaded(client: Hub) -> None:
    given = todo(client, "gguf/q4_k_m", "mlx/4bit", weights=models.safetensors(TENSORS)[:-5])
    found = assign_runners(given, context_of(hub=client))
    assert found.jobs == ()
    assert [(f.variant, f.step, f.exit_code) for f in found.failures] == [
        ("gguf/q4_k_m", "plan", DamagedWeightsError.exit_code),
        ("mlx/4bit", "plan", DamagedWeightsError.exit_code),
    ]


def test_a_folder_is_looked_at_where_it_is(client: Hub, tmp_path: Path) -> None:
    files = models.files(config__json=json.dumps(CONFIG).encode(), model__safetensors=models.safetensors(TENSORS))
    release = source.local_release(models.write(tmp_path / "Phi-here", files))
    given = plan_releases([release], catalogue.select(["gguf/q4_k_m"]))
    found = assign_runners(given, context_of(hub=client))
    assert where(found) == {"gguf/q4_k_m": "local"}


def test_a_token_without_a_row_is_known_of_a_folder_when_it_is_planned(client: Hub, tmp_path: Path) -> None:
    beyond = b'{"model": {"type": "BPE", "vocab": {"a": 0, "b": 99999999}, "merges": []}}'
    files = models.files(
        config__json=json.dumps(CONFIG).encode(),
        model__safetensors=models.safetensors(TENSORS),
        tokenizer__json=beyond,
    )
    release = source.local_release(models.write(tmp_path / "Phi-here", files))
    given = plan_releases([release], catalogue.select(["gguf/q4_k_m"]))
    found = assign_runners(given, context_of(hub=client))
    assert found.jobs == ()
    assert [(f.step, f.exit_code) for f in found.failures] == [("plan", DamagedTokenizerError.exit_code)]


def test_a_hub_that_is_gone_is_nobodys_fault_and_ends_it(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    given = todo(client, "gguf/q4_k_m")
    gone = connect("http://127.0.0.1:9", None)
    with pytest.raises(HubUnreachableError):
        assign_runners(given, context_of(hub=gone))
    assert where(assign_runners(given, context_of(hub=gone), exact=False)) == {"gguf/q4_k_m": "local"}


def test_the_bounds_of_the_configuration_hold(client: Hub) -> None:
    given = todo(client, "gguf/q4_k_m", "mlx/4bit")
    found = assign_runners(given, context_of(Config(plan=PlanTable(max_jobs=1)), hub=client))
    assert len(found.jobs) == 1
    assert [(p.why, p.text) for p in found.postponed] == [("bound", "plan.max_jobs is 1")]
