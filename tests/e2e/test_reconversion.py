"""Reconversion by pull request: what a change does, built and measured on both sides."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.catalogue.families import DEFAULT
from bot.reconvert.child import code_of
from bot.reconvert.compare import kept_sample
from bot.reconvert.records import Comparison
from bot.reconvert.render import render
from bot.reconvert.sides import describe_sides
from bot.workspace import Workspace
from tests import markdown_reader
from tests.e2e.world import MODEL, World
from tests.page_reader import ROOT
from tests.reconvert.trees import Q4_K_M, change, checkout, extend
from tests.warm import warm_cache

pytestmark = pytest.mark.toolchain


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """The checkout of a pull request that changes nothing yet."""
    return checkout(tmp_path / "head")


@pytest.fixture
def work(sample: Path, tmp_path: Path) -> Path:
    """A working folder in which the sample is made already."""
    base = code_of(ROOT)
    folder = kept_sample(Workspace(root=tmp_path / "work"), describe_sides(base, base).base, DEFAULT)
    folder.parent.mkdir(parents=True)
    shutil.copytree(sample, folder)
    return tmp_path / "work"


def compare(base: Path, head: Path, work: Path, *arguments: str, **environment: str) -> Comparison:
    """Compare two sides as a workflow does, from an empty folder."""
    empty = work.parent / "empty"
    empty.mkdir(exist_ok=True)
    sides = ("--base", str(base), "--head", str(head), "--work", str(work))
    done = subprocess.run(
        [sys.executable, "-m", "bot.cli", "compare", *sides, "--json", *arguments],
        cwd=empty,
        env={k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        | {"PHI_BOT_CACHE": str(warm_cache())}
        | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return Comparison.from_json(json.loads(done.stdout))


def test_a_recipe_is_measured_on_both_sides_and_its_publications_are_planned(
    head: Path, work: Path, new_world: Callable[[str], World]
) -> None:
    world = new_world("reconverted")
    world.run(MODEL, "--variants", "gguf/q4_k_m")
    change(head, "bot/formats/gguf/variants.toml", Q4_K_M, 'options = { ftype = "Q4_0" }')
    found = compare(ROOT, head, work, "--family", DEFAULT, "--namespace", "reconverted", HF_ENDPOINT=world.hub.url)
    (row,) = found.rows
    assert row.before is not None
    assert row.after is not None
    assert (row.variant, row.verdict) == ("gguf/q4_k_m", "worse")
    for measured in (row.before, row.after):
        assert measured.status == "verified"
        assert [f.side for f in measured.figures] == ["short", "long"]
        assert all(0 < f.mean_kl_error < f.mean_kl for f in measured.figures)
        assert measured.build_seconds > 0
        assert measured.peak_memory > 10**7
    assert row.after.size < row.before.size
    assert found.rebuilds is not None
    assert found.rebuilds.problem == ""
    jobs = [(j.release.partition("@")[0], j.variants, j.reason) for j in found.rebuilds.jobs]
    assert jobs == [(MODEL, ("gguf/q4_k_m",), "outdated")]

    text = render(found)
    assert text.splitlines()[2].startswith("**1 worse.** Merging builds 1 variants of 1 models for reconverted")
    shown = markdown_reader.tables(text)[0][1][4].replace("&nbsp;", " ")
    assert re.fullmatch(r"0\.\d+ ± 0\.\d+ → 0\.\d+ ± 0\.\d+", shown)


def test_documentation_affects_nothing_and_says_so_in_a_second(head: Path, work: Path) -> None:
    (head / "docs").mkdir()
    (head / "docs" / "limits.md").write_text("# There are none\n")
    took = []
    for _ in range(3):  # the machine may be busy with something else
        started = time.monotonic()
        found = compare(ROOT, head, work)
        took.append(time.monotonic() - started)
        assert found.nothing
        assert "Affects nothing" in render(found)
    assert min(took) < 2, took


@pytest.mark.sweep
def test_a_template_is_shown_as_a_diff_of_a_real_card_and_builds_nothing_anew(head: Path, work: Path) -> None:
    change(head, "templates/gguf.md.j2", "{% block run %}", "{% block run %}\nA line that is new.\n")
    found = compare(ROOT, head, work)
    assert {c.what for c in found.changes} == {"cards"}
    assert found.rows == ()
    (card,) = found.cards
    changed = [line for line in card.diff.splitlines()[2:] if line[0] in "+-" and line[1:]]
    assert (card.format, changed) == ("gguf", ["+A line that is new."])
    assert card.diff in "\n".join(markdown_reader.fences(render(found), "diff"))
    assert "No publication is built anew." in render(found)


def test_code_that_writes_other_bytes_under_the_same_build_key_is_told(head: Path, work: Path) -> None:
    first = "            _name_stop_tokens(source, tokenizer, model.gguf_writer)"
    another = '            model.gguf_writer.add_description("Another one")'
    change(head, "bot/formats/gguf/worker/convert.py", first, f"{another}\n{first}")
    found = compare(ROOT, head, work, "--family", DEFAULT, "--variants", "gguf/q8_0")
    (row,) = found.rows
    assert row.verdict == "same"
    assert any("writes other bytes" in note and "bot/formats/gguf/format.py" in note for note in found.notes)
    assert "No publication is built anew." in render(found)


@pytest.mark.sweep
def test_code_that_writes_the_same_bytes_ends_the_question(head: Path, work: Path) -> None:
    extend(head, "bot/formats/gguf/worker/rotary.py", "\nUNUSED = 1\n")
    families = ("--family", DEFAULT, "--family", "phi-3.5-vision")
    found = compare(ROOT, head, work, *families, "--variants", "gguf/q8_0")
    assert found.notes[0] == "Refused by its toolchain, before and after: gguf/q8_0 of Phi-3.5-vision"
    assert [(c.what, c.name) for c in found.changes] == [("code", "gguf")]
    assert [r.verdict for r in found.rows] == ["same bytes"]


@pytest.mark.sweep
def test_a_gate_of_the_head_has_its_verdict_and_a_dry_run_builds_the_canary_all_the_same(
    head: Path, work: Path
) -> None:
    (head / "phi-bot.toml").write_text("[run]\ndry_run = true\n[verify.cost]\nint4 = 1e-9\n")
    found = compare(ROOT, head, work, "--family", DEFAULT, "--variants", "gguf/q4_k_m")
    assert [(r.variant, r.verdict) for r in found.rows] == [("gguf/q4_k_m", "fails the gate")]
    after = found.rows[0].after
    assert after is not None
    assert "of poor quality for its bits" in after.reason
    assert after.figures == found.rows[0].before.figures  # type: ignore[union-attr]


def tune(weights: Path) -> None:
    """Change every weight of a file in bfloat16 a little: the last bit of each."""
    content = bytearray(weights.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    content[begin::2] = bytes(b ^ 1 for b in content[begin::2])
    weights.write_bytes(content)


def test_a_fine_tune_is_measured_against_its_own_original(work: Path, sample: Path, tmp_path: Path) -> None:
    for side in ("before", "after"):
        shutil.copytree(sample, tmp_path / side / "model")
    (tmp_path / "before" / "phi-bot.toml").write_text("[verify.cost]\nint4 = 1e-9\n")
    (tmp_path / "after" / "phi-bot.toml").write_text("[verify.cost]\nint4 = 1\n")  # of the head: nobody asked it
    tune(tmp_path / "after" / "model" / "model.safetensors")
    found = compare(
        tmp_path / "before", tmp_path / "after", work, "--model", "model", "--variants", "gguf/q8_0,gguf/q4_k_m"
    )
    assert [c.what for c in found.changes] == ["model"]
    assert [(r.variant, r.after.status if r.after else "") for r in found.rows] == [
        ("gguf/q4_k_m", "outside the gate"),
        ("gguf/q8_0", "verified"),
    ]
    alone = compare(tmp_path, tmp_path / "after", work, "--model", "model", "--variants", "gguf/q8_0")
    assert [r.verdict for r in alone.rows] == ["new"]
