"""What is to be built: recipes against what is published. Converts nothing."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from bot import catalogue, machine, source
from bot.errors import ForeignRepoError, UnsupportedArchitectureError
from bot.hub import client
from bot.hub.client import Hub
from bot.hub.local import RunningHub
from bot.records import Estimate, Plan, Release, Sighting
from bot.steps.plan import Known, is_refusal, plan, require_work, total
from bot.steps.watch import Reader, sighting_of
from tests.source import models

CONFIG = models.CONFIG | {"hidden_size": 3072, "num_attention_heads": 32, "num_hidden_layers": 2, "vocab_size": 32064}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    folder = tmp_path / "Phi-9"
    folder.mkdir()
    for name, content in models.files().items():
        (folder / name).write_bytes(content)
    found = source.local_release(folder)
    return Release.from_json(found.to_json() | {"config": CONFIG})


class Given(Reader):
    """Knows the releases that it is given, and counts what it is asked for."""

    def __init__(self, hub: Hub, *releases: Release) -> None:
        super().__init__(hub=hub)
        self.given = {r.repo_id: r for r in releases}
        self.asked: list[str] = []

    def release(self, sighting: Sighting) -> Release:
        self.asked.append(sighting.repo_id)
        return self.given[sighting.repo_id]


NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


def plan_of(hub: RunningHub, releases: Sequence[Release], *names: str, **known: Any) -> Plan:
    connected = client.connect(hub.url, hub.token)
    there = connected.namespace("me")
    settings: dict[str, Any] = {"namespace": "me", "there": there, "now": NOW} | known
    what = Known(**settings)
    reader = Given(connected, *releases)
    return plan([sighting_of(r) for r in releases], catalogue.select(names), reader=reader, known=what)[0]


def planned(hub: RunningHub, release: Release, *names: str) -> Plan:
    return plan_of(hub, [release], *names)


def test_one_job_a_format_with_its_repos(hub: RunningHub, release: Release) -> None:
    todo = planned(hub, release, "default")
    assert {j.format: sorted({v.repo_id for v in j.variants}) for j in todo.jobs} == {
        "gguf": ["me/Phi-9-GGUF"],
        "onnx": ["me/Phi-9-onnx"],
        "openvino": ["me/Phi-9-int4-ov"],
        "mlx": ["me/Phi-9-mlx-4bit"],
    }
    assert (todo.done, todo.failures) == ((), ())


def test_the_same_release_gives_the_same_keys_and_another_one_gives_others(hub: RunningHub, release: Release) -> None:
    def keys(of: Release) -> list[str]:
        return [v.build_key for j in planned(hub, of, "default").jobs for v in j.variants]

    other = Release.from_json(release.to_json() | {"content_digest": "0" * 64})
    assert keys(release) == keys(release)
    assert not set(keys(release)) & set(keys(other))
    assert len(set(keys(release))) == len(keys(release))


@pytest.mark.skipif(machine.lacks("cuda") is None, reason="this machine has an NVIDIA GPU")
def test_what_cannot_run_here_is_left_out_and_said(hub: RunningHub, release: Release) -> None:
    todo = planned(hub, release, "onnx/cpu-int4", "onnx/cuda-int4")
    assert [v.variant.name for j in todo.jobs for v in j.variants] == ["onnx/cpu-int4"]
    assert [(f.variant, f.step) for f in todo.failures] == [("onnx/cuda-int4", "plan")]
    assert "NVIDIA GPU" in todo.failures[0].message


def test_a_model_that_fits_nowhere_is_an_error_of_its_own(hub: RunningHub, release: Release) -> None:
    llama = Release.from_json(release.to_json() | {"config": CONFIG | {"architectures": ["LlamaForCausalLM"]}})
    with pytest.raises(UnsupportedArchitectureError, match=r"none of the variants can be built: .*LlamaForCausalLM"):
        require_work(planned(hub, llama, "default"))


def test_one_model_that_fits_nowhere_holds_up_no_other(hub: RunningHub, release: Release) -> None:
    llama = Release.from_json(release.to_json() | {"config": CONFIG | {"architectures": ["LlamaForCausalLM"]}})
    todo = plan_of(hub, [llama, dataclasses.replace(release, repo_id="me/other")], "gguf")
    require_work(todo)
    assert [j.format for j in todo.jobs] == ["gguf"]
    assert all(is_refusal(f) for f in todo.failures)


def test_a_repo_that_is_not_ours_is_left_alone_and_holds_up_no_other(hub: RunningHub, release: Release) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("me/Phi-9-onnx")
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="model.onnx", repo_id="me/Phi-9-onnx")
    todo = planned(hub, release, "default")
    assert [j.format for j in todo.jobs] == ["gguf", "openvino", "mlx"]
    assert [(f.variant, f.exit_code) for f in todo.failures] == [("onnx/cpu-int4", ForeignRepoError.exit_code)]


def test_a_job_needs_all_its_outputs_and_the_largest_of_its_scratch() -> None:
    estimates = [Estimate(output=2, disk=10, memory=5), Estimate(output=3, disk=7, memory=8)]
    assert total(estimates) == Estimate(output=5, disk=10, memory=8)
