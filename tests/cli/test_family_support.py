"""The support matrix is what the documentation says it is: every cell is built and verified again, or refused."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bot.building.sample import make_sample
from bot.catalogue.families import FAMILIES
from bot.cli.family_support import first_defaults, matrix
from bot.config import Config
from bot.context import Context
from bot.hub import client
from bot.pages import markdown
from bot.progress import Silent
from bot.records.evidence import Distance
from bot.workspace import Workspace
from tests import page_reader

PAGE = page_reader.ROOT / "docs" / "families.md"
VARIANTS = first_defaults()


@cache
def documented() -> dict[str, list[str]]:
    """The overview: what it says of each family, by its title, in the order of the variants."""
    overview, _ = page_reader.tables(PAGE.read_text(encoding="utf-8"))
    return {row[0]: row[1:] for row in overview}


@cache
def reasons() -> list[str]:
    """The numbered reasons under it."""
    return [text for _, text in re.findall(r"^(\d+)\. (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]


# One for each architecture with every `make test`; the others, and large vocabularies, with `make sweep`.
_ALWAYS = ("phi-2", "phi-3.5-mini", "phi-3.5-moe")
_SWEPT = [pytest.param(name, marks=[] if name in _ALWAYS else pytest.mark.sweep) for name in FAMILIES]


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
@pytest.mark.parametrize("family", _SWEPT)
def test_a_family_has_the_results_of_the_page(family: str, sample_of: Callable[[str], Path], tmp_path: Path) -> None:
    _assert_documented(family, sample_of, tmp_path)


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
@pytest.mark.sweep
def test_shards_and_newer_keys_change_no_figure(tmp_path: Path) -> None:
    def checkpoint(family: str) -> Path:
        make_sample(tmp_path / "sharded", Silent(), family=family, shards=3, keys="newer")
        return tmp_path / "sharded"

    _assert_documented("phi-3-mini-128k", checkpoint, tmp_path)


def _assert_documented(family: str, checkpoint: Callable[[str], Path], folder: Path) -> None:
    context = Context(
        config=Config(),
        workspace=Workspace(root=folder / "work"),
        hub=client.connect("http://127.0.0.1:9", None),  # nothing of this asks a Hub
        display=Silent(),
    )
    cells = list(matrix([family], VARIANTS, checkpoint, context))
    said = documented().get(FAMILIES[family].title)
    if said is None:  # a family that is newer than the page
        assert {cell.variant: cell.status for cell in cells} == {v.name: "verified" for v in VARIANTS}
        return
    for cell, words in zip(cells, said, strict=True):
        if cell.figures is None:
            number = re.fullmatch(r"refused \((\d+)\)", words)
            assert (cell.status, number is not None) == ("refused", True), f"{cell}: the page says {words}"
            assert number is not None
            assert reasons()[int(number[1]) - 1] == markdown.escape(cell.reason)
        else:
            found = [d for d in cell.figures.distances if not d.setting]
            for distance, word in zip(found, words.split(" / "), strict=True):
                assert _is_near(distance, float(word)), f"{cell.variant}: {distance}, the page says {word}"


def _is_near(found: Distance, documented: float) -> bool:
    """Say whether a figure is that of the page, where another processor may have rounded.

    It moves few positions by much where experts are chosen, and three standard errors tell how much that may be.
    """
    allowed = max(0.3 * documented, 2e-4, 3 * found.standard_errors.mean_kl)
    return abs(found.figures.mean_kl - documented) <= allowed


def test_the_page_has_families_in_their_order_and_the_first_default_of_every_format() -> None:
    titles = [f.title for f in FAMILIES.values()]
    assert list(documented()) == [title for title in titles if title in documented()]
    assert set(documented()) <= set(titles)
    assert {len(row) for row in documented().values()} == {len(VARIANTS)}
    assert [v.name for v in VARIANTS] == ["gguf/q4_k_m", "onnx/cpu-int4", "openvino/int4", "mlx/4bit"]
