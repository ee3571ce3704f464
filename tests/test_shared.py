"""What tests share is made once, and whole."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.shared import make_once


def test_it_is_made_by_the_first_who_needs_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("whole")

    tmp_path_factory.getbasetemp()  # which is not made for threads
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: make_once(tmp_path_factory, "made once", make), range(4)))
    assert folders == made * 4
    assert (folders[0] / "file").read_text() == "whole"


def test_half_made_data_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise InterruptedError

    with pytest.raises(InterruptedError):
        make_once(tmp_path_factory, "half made", fail)
    folder = make_once(tmp_path_factory, "half made", lambda folder: (folder / "file").touch())
    assert [p.name for p in folder.iterdir()] == ["file"]
