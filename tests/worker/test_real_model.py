"""The real model in every format: each row of the catalogue is a correct file of it, and passes.

With every `make test` two rows are held against a part of the reference, with `make sweep` all rows against all of it.
"""

import json
from pathlib import Path

import pytest

from benchmarks.smollm2 import RESULTS, Results
from bot import catalogue
from bot.config import Config
from bot.formats.needs import missing_to_prove
from bot.progress import Silent
from bot.records.artifacts import Json, Variant
from bot.records.evidence import CHECKS, EVIDENCE_VERSION, Evidence, judge
from bot.toolchains.install import ensure
from tests.shared import make_once
from tests.worker.running import Built, build, build_once, distances, failures, measure, rows

pytestmark = pytest.mark.toolchain

#: Such a name makes llama.cpp look for tokens that this vocabulary does not have: see the GGUF worker's naming.py.
MODEL = "phi3-smollm2"
PART = {"gguf/q8_0": 0.02, "openvino/int4": 1.0}  # nats that rounding may cost on one window: a broken file costs more
HERE = [v for v in catalogue.all_variants().values() if missing_to_prove(v) is None]
KNOWN = {row.variant: row for row in Results.from_json(json.loads(RESULTS.read_text())).rows}


def _of_row(variant: Variant) -> object:
    """Return a row, marked where the benchmark says that it is refused today, or has not measured it yet."""
    if variant.name not in KNOWN:
        unknown = pytest.mark.xfail(strict=False, reason="not measured yet: make bench-smollm2")
        return pytest.param(variant, id=variant.name, marks=unknown)
    why = "; ".join(f"{name}: {detail}" for name, detail in KNOWN[variant.name].failed.items())
    return pytest.param(variant, id=variant.name, marks=[pytest.mark.xfail(strict=True, reason=why)] if why else [])


@pytest.fixture(scope="session")
def part_of_reference(real_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One window, one answer and one ending of the reference: all checks, in a tenth of the time."""

    def cut(folder: Path) -> None:
        whole = json.loads((real_reference / "reference.json").read_text())
        few = {name: whole[name][:1] for name in ("windows", "prompts", "endings")}
        (folder / "reference.json").write_text(json.dumps(whole | few))
        for window in few["windows"]:
            (folder / window["file"]).symlink_to(real_reference / window["file"])

    return make_once(tmp_path_factory, "part of the real reference", cut)


@pytest.mark.parametrize("name", PART)
def test_a_row_passes_every_check(name: str, real_model: Path, part_of_reference: Path, tmp_path: Path) -> None:
    variant = catalogue.all_variants()[name]
    toolchain = ensure(variant.format, Silent())
    built = build(toolchain, real_model, [variant], tmp_path / "job", model=MODEL, log=tmp_path / "log")
    found = measure(toolchain, built.folders[name], variant, real_model, part_of_reference, tmp_path / "log")
    assert failures(found) == {}
    assert [c["name"] for c in found["checks"]] == list(CHECKS)
    assert distances(found)["short"].figures.mean_kl < PART[name]


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", [_of_row(v) for v in HERE])
def test_every_row_is_published(
    variant: Variant, real_model: Path, real_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    built = _files(variant.format, real_model, tmp_path_factory)
    assert variant.name in built.names, built.failures
    folder = tmp_path_factory.mktemp("verify")
    toolchain = ensure(variant.format, Silent())
    found = measure(toolchain, built.folders[variant.name], variant, real_model, real_reference, folder / "log")
    assert _refused(found, variant) == {}


def _files(format_name: str, source: Path, factory: pytest.TempPathFactory) -> Built:
    """Every row of a format that can be verified here, built once for all processes."""
    wanted = [v for v in rows(format_name) if v in HERE]
    return build_once(factory, ensure(format_name, Silent()), source, wanted, f"real {format_name}")


def _refused(measured: Json, variant: Variant) -> dict[str, str]:
    """Return the checks that fail, those of the policy among them, each with what was said."""
    unsaid = {"version": EVIDENCE_VERSION, "build_key": "0" * 64, "reference_digest": "", "gate": 0.0}
    known: Json = {"known_behaviours": [], "read_differently": []}  # it has no switch
    evidence = Evidence.from_json(measured | unsaid | known)
    return {c.name: c.detail for c in judge(evidence, Config().times(variant.precision)).checks if not c.passed}
