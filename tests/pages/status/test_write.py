"""A site is written whole, or not at all, and never over something else."""

from pathlib import Path

import pytest

from bot.errors import ConfigError, RecordError
from bot.pages.status.pages import render
from bot.pages.status.write import previous, write
from tests.pages.status import examples

SITE = render(examples.status())


def test_a_site_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "site"
    write({"status.json": b"{}", "gone.html": b""}, out)
    write(SITE, out)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == set(SITE)
    assert [p.name for p in out.parent.iterdir()] == ["site"], "nothing is left beside it"


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="something else"):
        write(SITE, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_write_leaves_the_old_site(tmp_path: Path) -> None:
    out = tmp_path / "site"
    write(SITE, out)
    with pytest.raises(OSError, match="name too long"):
        write({"status.json": b"", "x" * 300: b""}, out)
    assert (out / "index.html").read_bytes() == SITE["index.html"]
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_an_earlier_page_is_found_in_the_folder_or_by_its_name(tmp_path: Path) -> None:
    out = tmp_path / "site"
    assert previous(out, None) is None
    write(SITE, out)
    assert previous(out, None) == examples.status()
    assert previous(tmp_path / "other", out / "status.json") == examples.status()
    (out / "status.json").write_text('{"version": 99}')
    assert previous(out, None) is None
    with pytest.raises(RecordError, match="a newer phi-bot wrote this"):
        previous(tmp_path, out / "status.json")
