"""phi-bot plan: what it prints for people, for the next step and for a GitHub workflow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.errors import ConfigError, NoRunnerError
from bot.hub.client import connect
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.records.plans import Plan
from tests.source import models

pytestmark = pytest.mark.process

MODEL = "microsoft/Phi-tiny"
CONFIG = {"hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 256, "num_hidden_layers": 2}
TENSORS = {
    "model.embed_tokens.weight": ("BF16", [1000, 64]),
    "model.norm.weight": ("BF16", [64]),
    **models.layers(2, hidden=64, inner=256),
}


@pytest.fixture
def model(hub: RunningHub) -> str:
    """A model on the embedded Hub, at its commit."""
    config = json.dumps(models.CONFIG | CONFIG | {"vocab_size": 1000}).encode()
    files = models.files(config__json=config, model__safetensors=models.safetensors(TENSORS))
    with Silent().task("") as task:
        commit = connect(hub.url, hub.token).commit(MODEL, files=files, parent=None, message="Put", task=task)
    return f"{MODEL}@{commit}"


def plan(hub: RunningHub, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GITHUB_"))}
    return subprocess.run(
        [sys.executable, "-m", "bot.cli", "plan", *arguments],
        cwd=folder,
        env=clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "PHI_BOT_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_person_reads_the_sizes_costs_and_runners(hub: RunningHub, model: str, tmp_path: Path) -> None:
    done = plan(hub, tmp_path, model, "--variants", "gguf/q4_k_m,mlx/4bit", "--on", "hf-jobs")
    assert done.returncode == 0, done.stderr
    gguf, mlx, total = done.stdout.splitlines()
    assert gguf.startswith(f"build      gguf/q4_k_m of {model[:-28]}: about ")
    assert "hf-jobs/cpu-basic, $0." in gguf
    assert "mlx/4bit" in mlx
    assert total.startswith("in all     2 jobs: about ")
    assert "$0." in total


def test_the_next_step_reads_records(hub: RunningHub, model: str, tmp_path: Path) -> None:
    done = plan(hub, tmp_path, model, "--variants", "gguf/q4_k_m", "--on", "github", "--json")
    found = Plan.from_json(json.loads(done.stdout))
    [job] = found.jobs
    assert job.placement is not None
    assert job.placement.runner == "github/ubuntu-24.04"
    assert job.estimate.cpu_seconds > 0


def test_a_workflow_reads_a_matrix(hub: RunningHub, model: str, tmp_path: Path) -> None:
    done = plan(hub, tmp_path, model, "--variants", "gguf/q4_k_m,openvino/int4,mlx/4bit,onnx/webgpu-int4", "--matrix")
    found = json.loads(done.stdout)
    assert [(e["runs_on"], e["variants"], e["release"]) for e in found["include"]] == [
        ('["ubuntu-24.04"]', "gguf/q4_k_m,onnx/webgpu-int4,openvino/int4", model),
        ('["macos-15"]', "mlx/4bit", model),
    ]


def test_what_fits_no_runner_is_left_out_of_the_matrix_by_name(hub: RunningHub, model: str, tmp_path: Path) -> None:
    (tmp_path / "phi-bot.toml").write_text("[runner.tiny]\nsystem = 'linux'\ncores = 1\nmemory = 1\ndisk = 1\n")
    done = plan(hub, tmp_path, model, "--variants", "gguf/q4_k_m", "--on", "own", "--matrix")
    assert json.loads(done.stdout) == {"include": []}
    assert "Left out: gguf/q4_k_m" in done.stderr


@pytest.mark.parametrize(("key", "why"), [("dry_run", "a dry run"), ("paused", "run.paused is true")])
def test_a_workflow_begins_nothing_while_the_bot_is_off(
    hub: RunningHub, model: str, tmp_path: Path, key: str, why: str
) -> None:
    (tmp_path / "phi-bot.toml").write_text(f"[run]\n{key} = true\n")
    done = plan(hub, tmp_path, model, "--variants", "gguf/q4_k_m", "--matrix")
    assert json.loads(done.stdout) == {"include": []}
    assert f"Left out: 1 entries: {why}" in done.stderr
    assert "build      gguf/q4_k_m" in plan(hub, tmp_path, model, "--variants", "gguf/q4_k_m").stdout


def test_a_job_that_fits_nowhere_is_reported_with_its_needs(hub: RunningHub, model: str, tmp_path: Path) -> None:
    config = tmp_path / "phi-bot.toml"
    config.write_text("[runner.tiny]\nsystem = 'linux'\ncores = 1\nmemory = 1\ndisk = 1\n")
    done = plan(hub, tmp_path, model, "--variants", "gguf/q4_k_m", "--on", "own", "--json")
    [failure] = Plan.from_json(json.loads(done.stdout)).failures
    assert failure.exit_code == NoRunnerError.exit_code
    assert "the largest runner known, own/tiny, has 1.0 GB and 1.0 GB" in failure.message


def test_a_runner_that_is_not_known_is_refused(hub: RunningHub, model: str, tmp_path: Path) -> None:
    done = plan(hub, tmp_path, model, "--on", "gitlab")
    assert done.returncode == ConfigError.exit_code
    assert "there is no runner 'gitlab'" in done.stderr
    assert "github/ubuntu-24.04" in done.stderr
