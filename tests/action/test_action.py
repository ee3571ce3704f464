"""The action as a whole: its steps executed as a runner does, against an embedded Hub."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi

from bot.errors import ConfigError, DamagedWeightsError, HubUnreachableError, Interrupted
from bot.localhub import RunningHub
from bot.reconvert.records import Comparison
from bot.records.artifacts import BuildRecord, Report
from tests import github_server
from tests.action.conftest import RELEASE, on_hub
from tests.action.log import commands
from tests.action.runner import Runner, read_pairs

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


def test_a_scheduled_run_publishes_new_variants(runner: Runner, released: RunningHub, work: Path) -> None:
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
    assert report.publications[0].pictures == (), "one file is nothing to compare its size with"

    two = runner.use(publish="yes", variants="gguf/q4_k_m gguf/q8_0", work=str(work))
    assert not two.failed, two.log
    (publication,) = report_of(two.outputs["report"]).publications
    assert publication.pictures == ("quality.png",)
    picture = f"{publication.url}/resolve/{publication.commit}/quality.png"
    assert f"![{publication.repo_id}](<{picture}>)" in two.summary
    assert httpx2.get(picture, follow_redirects=True).content.startswith(b"\x89PNG")

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
    (failure,) = report_of(done.outputs["report"]).failures
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
    assert "There is nothing to build" in done.summary


def test_one_job_stages_and_another_one_promotes(runner: Runner, released: RunningHub, work: Path) -> None:
    configure(runner, released, namespace="halves")
    staging = runner.use(models=RELEASE, publish="stage", work=str(work))
    assert not staging.failed, staging.log
    (staged,) = report_of(staging.outputs["report"]).staged
    assert staged.repo_id == "halves/phi-bot-staging"
    assert "## Staged" in staging.summary
    assert json.loads(staging.outputs["publications"]) == []

    reports = runner.temp / "reports"
    reports.mkdir()
    Path(staging.outputs["report"]).rename(reports / "report.json")
    promoting = runner.use(command="promote", models=RELEASE, reports=str(reports), work=str(work))
    assert not promoting.failed, promoting.log
    assert json.loads(promoting.outputs["publications"]) == [f"{released.url}/halves/Phi-3.5-sample-instruct-GGUF"]
    assert "## Published" in promoting.summary
    assert (promoting.wanted, promoting.saved) == ((), ())


def test_a_comparison_becomes_the_comment_of_a_pull_request(
    runner: Runner, released: RunningHub, fine_tune: Callable[[str], Path]
) -> None:
    configure(runner, released)
    fine_tune("base/model")
    fine_tune("head/model")
    done = runner.use(command="compare", base="base", head="head", model="model", work="work")
    assert not done.failed, done.log
    comparison = Path(done.outputs["comparison"])
    Comparison.from_json(json.loads(comparison.read_text()))
    assert done.summary
    with github_server.serve() as github:
        runner.environment |= github.environ
        said = runner.use(command="comment", reports=str(comparison.parent), pull_request="o/r#7")
        assert not said.failed, said.log
        (comment,) = github.comments[7]
    assert done.summary.strip() in comment["body"]


def test_a_hub_that_is_away_is_one_annotation(runner: Runner, released: RunningHub) -> None:
    configure(runner, released)
    done = runner.use(publish="yes", endpoint="http://127.0.0.1:9")
    assert done.code == HubUnreachableError.exit_code
    (annotation,) = done.errors
    assert annotation.data.startswith("http://127.0.0.1:9 is not reachable: ")
    assert annotation.data.splitlines()[1].startswith("Check the address")
    assert report_of(done.outputs["report"]) == Report()
    assert "## Nothing was done" in done.summary


def test_publishing_without_a_namespace_is_an_error_before_anything_is_built(
    runner: Runner, released: RunningHub, fine_tune: Callable[[str], Path]
) -> None:
    runner.environment |= on_hub(released, runner.temp)
    fine_tune("model")
    done = runner.use(models="model", publish="yes")
    assert done.code == ConfigError.exit_code
    (annotation,) = done.errors
    assert annotation.data.startswith("the input publish is yes, and there is no namespace to publish in\n")


def test_a_job_that_is_cancelled_ends_tidily(
    runner: Runner, released: RunningHub, fine_tune: Callable[[str], Path], tmp_path: Path
) -> None:
    configure(runner, released)
    fine_tune("model")
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    inputs = {"INPUT_MODELS": "model", "INPUT_WORK": "work"}
    process = subprocess.Popen(
        [sys.executable, "-X", "utf8", "-m", "bot.action", "run"],
        cwd=runner.workspace,
        env=runner.machine() | files | inputs,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    before = []
    for line in process.stdout:
        before.append(line)
        if line.startswith("Building "):
            process.send_signal(signal.SIGINT)
            break
    said = "".join([*before, process.stdout.read()])
    assert process.wait() == Interrupted.exit_code
    (error,) = [c for c in commands(said) if c.name == "error"]
    assert error.data.startswith("interrupted\n")
    outputs = read_pairs(Path(files["GITHUB_OUTPUT"]).read_text())
    assert json.loads(outputs["artifacts"]) == []
