"""A new device takes one row: the doctor, the plan, settings, cards and messages follow."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot import catalogue, config, format_folders
from bot.cli.diagnose import Finding, diagnose
from bot.errors import ConfigError
from bot.machines.placing import place_jobs
from bot.machines.runners import GB, Runner, known_runners
from bot.pages import figures
from bot.records.failures import is_refusal
from bot.records.plans import Job, Plan
from tests.devices.table import with_npu
from tests.machines.test_hf_flavors import listed
from tests.pages.cards.examples import GGUF, RELEASE
from tests.steps.jobs import job, release, runner, shape

ROW = {"name": "onnx/npu-int4", "precision": "int4", "bits_per_weight": 4.8, "summary": "NPUs", "target": "npu"}
OWN = """
[runner.laptop]
system = 'linux'
cores = 8
memory = 32
disk = 90
accelerator = 'npu'
accelerator_memory = 16
"""


@pytest.fixture
def npu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that shows that this machine has one; it is not there yet. A variant is for it."""
    file = tmp_path / "accel0"
    with_npu(tmp_path, monkeypatch, found=f"file = '{file}'", platform="linux x86_64")
    rows = list(format_folders.rows())
    monkeypatch.setattr(format_folders, "rows", lambda: iter([*rows, ROW]))
    catalogue.all_variants.cache_clear()
    yield file
    catalogue.all_variants.cache_clear()


def doctors(work: Path) -> Finding:
    (found,) = (f for f in diagnose(work, lambda: None) if f.name == "device npu")
    return found


def test_the_doctor_looks_for_it(npu: Path, tmp_path: Path) -> None:
    assert doctors(tmp_path).detail == "none: its runtime needs an NPU, and this machine has none"
    npu.touch()
    assert doctors(tmp_path).detail.startswith("an NPU, ")


def placed(wanted: Job, *runners: Runner) -> Plan:
    todo = Plan(jobs=(wanted,), done=(), failures=())
    shapes = {wanted.release.content_digest: shape(wanted.release.parameters)}
    return place_jobs(todo, runners=runners, shapes=shapes, config=config.Config())


def test_a_plan_puts_its_variants_where_it_is(npu: Path) -> None:
    wanted, without = job(release(30_000_000), "onnx/npu-int4"), runner("own/x", memory=64)
    laptop = replace(runner("own/laptop", memory=64), accelerator="npu", accelerator_memory=16 * GB)
    (found,) = placed(wanted, without, laptop).jobs
    assert found.placement is not None
    assert found.placement.runner == "own/laptop"
    (failure,) = placed(wanted, without).failures
    assert is_refusal(failure)
    assert "needs Linux x86_64, an NPU of " in failure.message


def test_the_machine_at_hand_builds_for_it_where_it_has_one(npu: Path) -> None:
    here = replace(runner("local", memory=64), accelerator="npu", accelerator_memory=16 * GB)
    wanted = job(release(30_000_000), "onnx/npu-int4")
    assert placed(wanted, here).failures
    npu.touch()
    assert placed(wanted, here).failures == ()


def test_settings_and_flavors_name_it(npu: Path, tmp_path: Path) -> None:
    file = tmp_path / "phi-bot.toml"
    file.write_text(OWN)
    (own,) = (r for r in known_runners(config.load(file, environ={})) if r.name == "own/laptop")
    assert (own.accelerator, own.accelerator_memory) == ("npu", 16 * GB)
    file.write_text(OWN.replace("'npu'", "'tpu'"))
    with pytest.raises(ConfigError, match="accelerator") as caught:
        config.load(file, environ={})
    assert '"none", "nvidia", "apple" or "npu"' in f"{caught.value.message} {caught.value.hint}"
    chip = {"type": "npu", "model": "N1", "quantity": "1", "vram": "16 GB", "manufacturer": "Npus & Sons"}
    flavor = listed(accelerator=chip)
    assert flavor is not None
    assert (flavor.accelerator, flavor.accelerator_memory) == ("npu", 16 * GB)


def test_a_card_speaks_of_it_as_people_do(npu: Path) -> None:
    proven = GGUF.builds[0]
    for_npu = replace(proven, build=replace(proven.build, variant=catalogue.all_variants()["onnx/npu-int4"]))
    found = figures.choices(figures.rows([for_npu, proven], RELEASE))
    assert [c.called for c in found] == ["any processor", "laptops with an NPU"]
