"""The action as a whole: its steps executed as a runner does, against an embedded Hub."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.errors import DamagedWeightsError
from bot.hub.local import RunningHub
from bot.records import BuildRecord, Report
from tests.action.conftest import RELEASE, on_hub
from tests.action.runner import Runner

pytestmark = [pytest.mark.toolchain, pytest.mark.process]

CONFIG = """\
[build]
variants = ["gguf/q4_k_m"]

[publish]
namespace = "{namespace}"
"""


def configure(runner: Runner, hub: RunningHub, namespace: str = "demo") -> None:
    """Make the workspace that of a publisher."""
    (runner.workspace / "phi-bot.toml").write_text(CONFIG.format(namespace=namespace))
    runner.environment |= on_hub(hub, runner.temp)


def report_of(path: str) -> Report:
    return Report.from_json(json.loads(Path(path).read_text()))


def test_a_scheduled_run_publishes_what_is_new(runner: Runner, released: RunningHub, work: Path) -> None:
    configure(runner, released)
    done = runner.use(publish="yes", work=str(work))
    assert not done.failed, done.log
    assert json.loads(done.outputs["publications"]) == [f"{released.url}/demo/Phi-3.5-sample-instruct-GGUF"]
    report = report_of(done.outputs["report"])
    assert [b.build.variant.name for p in report.publications for b in p.builds] == ["gguf/q4_k_m"]
    api = HfApi(endpoint=released.url, token=released.token)
    assert "phi-bot.json" in api.list_repo_files("demo/Phi-3.5-sample-instruct-GGUF")
    assert done.summary == Path(done.outputs["summary"]).read_text()
    assert "## Published" in done.summary
    assert "Verifying gguf/q4_k_m" in done.log, "progress is in the log"
    assert (done.wanted, done.saved) == ((), ()), "no cache where files are published"

    again = runner.use(publish="yes", work=str(work))
    assert not again.failed, again.log
    assert json.loads(again.outputs["publications"]) == []
    assert "Nothing to do" in again.summary


def test_a_fine_tune_of_the_workspace_becomes_artifacts(
    runner: Runner, released: RunningHub, work: Path, fine_tune: Callable[[str], Path]
) -> None:
    configure(runner, released, namespace="nobody")
    fine_tune("my model")
    done = runner.use(models="my model", work=str(work))
    assert not done.failed, done.log
    (folder,) = json.loads(done.outputs["artifacts"])
    assert Path(folder, "files", "my-model-Q4_K_M.gguf").is_file()
    build, evidence = json.loads(done.outputs["records"])
    assert BuildRecord.from_json(json.loads(Path(build).read_text())).variant.name == "gguf/q4_k_m"
    assert json.loads(Path(evidence).read_text())["checks"]
    assert json.loads(done.outputs["publications"]) == []
    assert list(HfApi(endpoint=released.url).list_models(author="nobody")) == [], "whatever is configured"
    (key, paths) = done.saved[0]
    assert done.wanted == ((key, paths),)
    assert [Path(path).name.split("-")[0] for path in paths.splitlines()] == ["gguf", "reference"]

    again = runner.use(models="my model", work=str(work))
    assert again.outcomes["Install toolchains"] == "skipped", "GitHub's cache had them"
    assert again.saved == ()


def test_a_broken_model_is_an_annotation_an_exit_code_and_outputs(
    runner: Runner, released: RunningHub, work: Path, fine_tune: Callable[[str], Path]
) -> None:
    configure(runner, released)
    weights = fine_tune("broken") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    done = runner.use(models="./broken", work=str(work))
    assert done.outcomes["Run phi-bot"] == "failure"
    assert done.code == DamagedWeightsError.exit_code
    assert "Traceback" not in done.log
    (annotation,) = done.errors
    message, hint = annotation.data.split("\n")
    assert "model.safetensors" in message
    assert hint
    (failure,) = report_of(done.outputs["report"]).failures or [None]
    if failure is not None:
        assert (failure.message, failure.hint) == (message, hint)
    assert json.loads(done.outputs["artifacts"]) == []
    assert json.loads(done.outputs["records"]) == []
    assert "model.safetensors" in done.summary


def test_a_dry_run_does_nothing(runner: Runner, released: RunningHub) -> None:
    configure(runner, released, namespace="dry")
    done = runner.use(publish="yes", dry_run="true")
    assert not done.failed, done.log
    assert f"Found {RELEASE}" in done.log
    assert list(HfApi(endpoint=released.url).list_models(author="dry")) == []
    assert json.loads(done.outputs["artifacts"]) == []


def test_a_plan_is_a_matrix(runner: Runner, released: RunningHub) -> None:
    configure(runner, released, namespace="planned")
    done = runner.use(command="plan", runner="github")
    assert not done.failed, done.log
    (entry,) = json.loads(done.outputs["matrix"])["include"]
    assert entry["variants"] == "gguf/q4_k_m"
    assert entry["release"].startswith(f"{RELEASE}@")
    assert json.loads(entry["runs_on"]) == ["ubuntu-24.04"]
    assert done.outputs["empty"] == "false"
    assert "## Planned" in done.summary


def test_a_plan_without_work_is_empty(runner: Runner, released: RunningHub) -> None:
    configure(runner, released, namespace="planned")
    config = runner.workspace / "phi-bot.toml"
    config.write_text(f'{config.read_text()}\n[watch]\ninclude = ["Phi-9-*"]\n')
    done = runner.use(command="plan")
    assert not done.failed, done.log
    assert json.loads(done.outputs["matrix"]) == {"include": []}
    assert done.outputs["empty"] == "true"
    assert "Nothing is to be built" in done.summary
