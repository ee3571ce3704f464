"""Which machines are known."""

from pathlib import Path

import pytest

from bot import config, devices
from bot.config import Config
from bot.errors import ConfigError
from bot.machines.runners import GB, KINDS, Runner, built_in, chosen, known_runners

ROWS = built_in()


def own(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "phi-bot.toml"
    file.write_text(text)
    return config.load(file, environ={})


def test_names_of_rows_are_their_own() -> None:
    assert len({r.name for r in ROWS}) == len(ROWS)
    assert {r.kind for r in ROWS} == {"github", "hf-jobs"}
    assert all(r.name == f"{r.kind}/{r.short_name}" for r in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_a_row_makes_sense(row: Runner) -> None:
    assert row.cores >= 2
    assert 2 * GB <= row.memory < 10**13
    assert 10 * GB <= row.disk < 10**14
    assert (row.accelerator_memory > 0) == (row.accelerator != "none")
    assert (row.price == 0) == (row.kind == "github" and row.standing)  # GitHub's standing ones are free in public
    assert row.labels == ((row.short_name,) if row.kind == "github" else ())


def test_a_larger_machine_of_a_kind_costs_more() -> None:
    for kind in ("github", "hf-jobs"):
        rows = [r for r in ROWS if r.kind == kind and r.accelerator == "none" and r.system == "linux" and r.price]
        assert [r.name for r in sorted(rows, key=lambda r: r.memory)] == [
            r.name for r in sorted(rows, key=lambda r: r.price)
        ]


def test_the_machine_at_hand_is_local(tmp_path: Path) -> None:
    here = known_runners(own(tmp_path, "[build]\nthreads = 2\nwork = 'not/there/yet'"))[0]
    assert (here.name, here.kind, here.cores, here.price) == ("local", "local", 2, 0)
    assert here.memory > 10**8
    assert here.disk > 0


def test_runners_of_ones_own_are_known_by_their_names(tmp_path: Path) -> None:
    settings = own(tmp_path, "[runner.big]\nsystem = 'linux'\ncores = 16\nmemory = 64\ndisk = 500.5\nprice = 0.5")
    found = {r.name: r for r in known_runners(settings)}
    big = found["own/big"]
    assert (big.memory, big.disk, big.price) == (64 * GB, round(500.5 * GB), 0.5)
    assert big.labels == ("self-hosted", "big")


def test_flavors_that_are_listed_today_take_the_place_of_those_built_in() -> None:
    [basic] = [r for r in ROWS if r.name == "hf-jobs/cpu-basic"]
    found = known_runners(Config(), flavors=(basic,))
    assert [r.name for r in found if r.kind == "hf-jobs"] == ["hf-jobs/cpu-basic"]
    assert {r.name for r in found if r.kind == "github"} == {r.name for r in ROWS if r.kind == "github"}


def test_a_kind_names_those_that_are_there_without_anybody_making_them() -> None:
    found = {r.name for r in chosen(ROWS, ["github"])}
    assert "github/ubuntu-24.04" in found
    assert "github/ubuntu-24.04-8-cores" not in found
    assert {r.name for r in chosen(ROWS, ["any"])} == {r.name for r in ROWS if r.standing}


def test_one_that_an_organisation_makes_is_taken_when_it_is_named() -> None:
    assert [r.name for r in chosen(ROWS, ["github/ubuntu-24.04-8-cores"])] == ["github/ubuntu-24.04-8-cores"]


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="there is no runner 'hf'") as caught:
        chosen(ROWS, ["hf"])
    assert all(kind in caught.value.hint for kind in (*KINDS, "github/macos-15"))


def test_the_documentation_shows_every_row() -> None:
    text = (Path(__file__).parents[2] / "docs" / "planning.md").read_text(encoding="utf-8")
    names = {"linux": "Linux", "macos": "macOS", "windows": "Windows", "x86_64": "x86-64", "arm64": "arm64"}
    for row in ROWS:
        gpu = ""
        if row.accelerator != devices.NONE:
            shared = row.system == "macos"  # it has the memory of the machine
            memory = "" if shared else f", {row.accelerator_memory // GB} GB"
            gpu = f"{devices.of_accelerator(row.accelerator).short}{memory}"
        cells = [
            f"`{row.name}`",
            f"{names[row.system]} {names[row.architecture]}",
            str(row.cores),
            f"{row.memory // GB} GB",
            f"{row.disk // GB} GB",
            gpu,
            f"${row.price:.2f}" if row.price else "free",
        ]
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in text
