"""The benchmark of a whole release: what it says of what it measured, and a release of a small model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import release
from benchmarks.real.watched import Taken
from benchmarks.release import Kill, Measured, Results

TAKEN = Taken(
    code=0,
    seconds=4_500.0,
    cpu_seconds=7_200.0,
    resident=6 * 10**9,
    anonymous=3_240_000_000,
    disk=21 * 10**9,
    read=0,
    written=0,
    from_disk=0,
    to_disk=0,
)
FREE = Measured(
    shape="phi-3.5-mini",
    layers=32,
    case="free",
    machine="2 cores",
    taken=TAKEN,
    read=7_700_000_000,
    weights=7_642_000_000,
    kills=(),
    files={"free/a-GGUF/a.gguf": "1" * 64, "free/b-ONNX/model.onnx": "2" * 64},
    failed={},
)
KILLED = replace(
    FREE,
    case="killed",
    kills=(Kill(seconds=700.0, published=1),),
    files={name.replace("free", "killed"): digest for name, digest in FREE.files.items()},
)


def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *measured: Measured) -> str:
    page = tmp_path / "README.md"
    page.write_text("<!-- release: begin, written by make bench-release -->\nold\n<!-- release: end -->\n")
    monkeypatch.setattr(release, "PAGE", page)
    release.write_page(Results(releases=measured))
    return page.read_text()


def test_a_line_says_what_a_release_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = written(tmp_path, monkeypatch, FREE)
    assert (
        "| phi-3.5-mini, 32 layers | as the machine is | 75 | 120 | 3.2 | 21.0 | 1.01 times the weights | 2 |  |"
        in said
    )


def test_files_are_held_against_those_of_the_undisturbed_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "killed 5 times | 75 | 120 | 3.2 | 21.0 | 1.01 times the weights | 2, the same |" in written(
        tmp_path, monkeypatch, FREE, KILLED
    )
    other = replace(KILLED, files=KILLED.files | {"killed/b-ONNX/model.onnx": "3" * 64})
    assert "2, OTHER ONES" in written(tmp_path, monkeypatch, FREE, other)


def test_the_page_is_of_the_results_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = release.PAGE.read_text(encoding="utf-8")
    known = json.loads(release.RESULTS.read_text(encoding="utf-8")) if release.RESULTS.exists() else {"releases": []}
    copy = tmp_path / "README.md"
    copy.write_text(page)
    monkeypatch.setattr(release, "PAGE", copy)
    release.write_page(Results.from_json(known))
    if known["releases"]:
        assert copy.read_text() == page
