"""The benchmark of the real model says what it measured."""

import json
from pathlib import Path

import pytest

from benchmarks import smollm2
from benchmarks.apart import Taken
from benchmarks.smollm2 import RESULTS, Results, Row
from bot import catalogue
from bot.records.evidence import RoundingCost

TAKEN = Taken(cpu_seconds=61.4, peak_memory=1_540_000_000)
ROW = Row(
    variant="gguf/q8_0",
    size=203_000_000,
    bits_per_weight=8.5,
    mean_kl=0.0057,
    error=0.0002,
    top1_agreement=0.961,
    rounding=RoundingCost(tokens=140, mean_kl=0.009, error=0.001, plain_kl=0.01, plain_error=0.001, ratio_error=0.06),
    failed={"cost of rounding": "mean KL 0.009 ± 0.001 nats over 140 tokens, at most 0.007 allowed"},
    build=TAKEN,
    verify=TAKEN,
)


def test_a_table_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "before\n<!-- smollm2: begin, written by make bench-smollm2 -->\nold\n<!-- smollm2: end -->\nafter\n"
    )
    monkeypatch.setattr(smollm2, "PAGE", page)
    unmeasured = {
        "mean_kl": None,
        "error": None,
        "top1_agreement": None,
        "rounding": None,
        "failed": {"loading": "it does not load"},
    }
    rows = (ROW, Row.from_json(ROW.to_json() | {"variant": "mlx/4bit"} | unmeasured))
    smollm2.write_page(Results(machine="Linux", reference=TAKEN, rows=rows))
    said = page.read_text()
    assert said.startswith("before\n<!--")
    assert said.endswith("-->\nafter\n")
    assert "old" not in said
    assert "Machine: Linux; 61 seconds of processor and 1.5 GB for the reference." in said
    measured = "0.0057 ± 0.0002 | 96.1 | 0.90 ± 0.06 | cost of rounding"
    assert f"| `gguf/q8_0` | 203 | 8.50 | {measured} | 61, 1.5 | 61, 1.5 |" in said
    assert "| `mlx/4bit` | 203 | 8.50 | not measured | |  | loading | 61, 1.5 | 61, 1.5 |" in said


def test_the_page_has_the_rows_that_were_measured_in_the_order_of_the_catalogue() -> None:
    results = Results.from_json(json.loads(RESULTS.read_text()))
    named = [row.variant for row in results.rows]
    assert named == [name for name in catalogue.all_variants() if name in named]
    page = smollm2.PAGE.read_text()
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == named
