"""What a side says of what it built is read with care; the e2e tests have sides that are honest."""

import json
from pathlib import Path

import pytest

from bot.localhub import RunningHub
from bot.reconvert import canary
from bot.reconvert.canary import Bench
from bot.reconvert.child import code_of, ours
from bot.reconvert.records import SideMeasurement
from bot.records.artifacts import Report
from tests.reconvert.trees import checkout
from tests.source import models
from tests.steps import proven

pytestmark = pytest.mark.process

VARIANTS = ("gguf/q4_k_m", "gguf/q8_0")


def measure(bench: Bench, model: Path, said: list[str] | None = None) -> dict[str, SideMeasurement]:
    return bench.measure("Phi-9", model, VARIANTS, (said if said is not None else []).append)


def lying(folder: Path, printed: str) -> Bench:
    """A side whose commands print what they like."""
    head = checkout(folder / "head")
    (head / "bot" / "cli" / "__main__.py").write_text(f"print({printed!r})\n")
    return Bench(code=code_of(head), work=folder / "work")


def test_a_model_that_no_toolchain_reads_is_refused(tmp_path: Path) -> None:
    config = json.dumps(models.CONFIG | {"architectures": ["GrokForCausalLM"]}).encode()
    model = models.write(tmp_path / "model", models.files(config__json=config))
    found = measure(Bench(code=ours(tmp_path), work=tmp_path / "work"), model)
    assert {m.status for m in found.values()} == {"refused"}
    assert all("GrokForCausalLM" in m.reason for m in found.values())
    assert str(tmp_path) not in found["gguf/q8_0"].reason


@pytest.mark.parametrize("printed", ["[]", "{", '{"artifacts": [{"folder": 1}]}', '{"failures": "none"}', "[" * 10**5])
def test_a_malformed_report_is_a_failure(tmp_path: Path, printed: str) -> None:
    found = measure(lying(tmp_path, printed), tmp_path)
    assert {m.status for m in found.values()} == {"failed"}
    assert "what it says cannot be read" in found["gguf/q8_0"].reason


def test_a_side_that_says_nothing_built_nothing(tmp_path: Path) -> None:
    found = measure(lying(tmp_path, "{}"), tmp_path)
    assert {m.reason for m in found.values()} == {"nothing was built, for an unknown reason"}


def test_an_artifact_elsewhere_on_the_disk_is_not_read(tmp_path: Path, hub: RunningHub) -> None:
    artifact = proven.artifact(tmp_path / "elsewhere", proven.release(hub))
    found = measure(lying(tmp_path, json.dumps(Report(artifacts=(artifact,)).to_json())), tmp_path)
    assert "outside its working folder" in found["gguf/q4_k_m"].reason


def test_sizes_are_those_of_the_files_and_not_of_the_sides_report(tmp_path: Path, hub: RunningHub) -> None:
    artifact = proven.artifact(tmp_path / "work", proven.release(hub))
    (Path(artifact.folder) / "files" / "more.bin").write_bytes(b"x" * 1000)
    bench = lying(tmp_path, json.dumps(Report(artifacts=(artifact,)).to_json()))
    found = measure(bench, tmp_path)["gguf/q4_k_m"]
    assert (found.status, found.size) == ("verified", artifact.build.size + 1000)
    assert bench.proven == {("Phi-9", "gguf/q4_k_m"): Path(artifact.folder).resolve()}


def test_links_among_its_files_are_not_followed(tmp_path: Path, hub: RunningHub) -> None:
    artifact = proven.artifact(tmp_path / "work", proven.release(hub))
    (Path(artifact.folder) / "files" / "passwd").symlink_to("/etc/passwd")
    found = measure(lying(tmp_path, json.dumps(Report(artifacts=(artifact,)).to_json())), tmp_path)["gguf/q4_k_m"]
    assert (found.status, found.size) == ("failed", 0)
    assert "not a regular file" in found.reason


def test_a_side_that_takes_too_long_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "_STEP_SECONDS", 0.0)
    bench, said = Bench(code=ours(tmp_path), work=tmp_path / "work"), list[str]()
    assert "stopped after 0 seconds" in measure(bench, tmp_path, said)["gguf/q8_0"].reason
    assert measure(bench, tmp_path, said)["gguf/q8_0"].reason.startswith("not tried: with Phi-9")
    assert said == ["Building 2 variants of Phi-9"]
