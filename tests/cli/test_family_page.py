"""The page of families: what it prints of results, and that it takes up what it printed before."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot.cli import cli, family_page
from bot.cli.family_support import FamilyFigures, FamilyResult
from bot.errors import ConfigError
from bot.pages import markdown
from bot.records.evidence import Distance, Figures
from tests import page_reader

PAGE = page_reader.ROOT / "docs" / "families.md"
FIGURES = Figures(mean_kl=0.01, p99_kl=0.1, max_kl=0.5, top1_agreement=0.9, perplexity_ratio=1.0)
DISTANCE = Distance(side="short", tokens=9, figures=FIGURES, standard_errors=FIGURES, by_kind={})
VERIFIED = FamilyFigures(
    size=1, bits_per_weight=4.5, distances=(DISTANCE,), known_behaviours=("it <does>",), build_seconds=1,
    verify_seconds=2,
)  # fmt: skip


def result(family: str, variant: str, reason: str = "", *, broken: bool = False) -> FamilyResult:
    return FamilyResult(
        family=family,
        format=variant.split("/")[0],
        variant=variant,
        status="failed" if broken else "refused" if reason else "verified",
        reason=reason,
        figures=None if reason else VERIFIED,
    )


CELLS = (
    result("phi-2", "gguf/a"),
    result("phi-2", "onnx/b", "no <b>"),
    result("phi-4", "gguf/a", "no <b>"),
    result("phi-4", "onnx/b", "broken", broken=True),
)


def written(folder: Path, *cells: FamilyResult) -> Path:
    """A page of results."""
    page = folder / "families.md"
    page.write_text(family_page.render(family_page.page_of(cells)), encoding="utf-8")
    return page


def test_a_reason_is_printed_once_and_escaped() -> None:
    page = family_page.render(family_page.page_of(CELLS))
    overview, details = page_reader.tables(page)
    assert overview == [["Phi-2", "0.0100", "refused (1)"], ["Phi-4", "refused (1)", "failed (2)"]]
    assert len(details) == 1
    assert page.count(markdown.escape("no <b>")) == 1


@pytest.mark.parametrize("given", ["the documentation's", "one with every kind of cell"])
def test_what_is_taken_up_comes_out_as_it_was(given: str, tmp_path: Path) -> None:
    page = PAGE if given == "the documentation's" else written(tmp_path, *CELLS)
    assert family_page.render(family_page.read_page(page)) == page.read_text(encoding="utf-8")


def test_a_family_that_is_tried_takes_its_place_among_the_rows_of_the_others(tmp_path: Path) -> None:
    old = family_page.read_page(written(tmp_path, *CELLS))
    other = replace(VERIFIED, bits_per_weight=8.25, known_behaviours=("another",))
    tried = family_page.page_of(
        [
            result("phi-3.5-mini", "gguf/a", "too large"),
            replace(result("phi-3.5-mini", "onnx/b"), figures=other),
            result("phi-4", "gguf/a"),
            result("phi-4", "onnx/b", "no <b>"),
        ]
    )
    page = family_page.render(family_page.joined(tried, old))
    overview, details = page_reader.tables(page)
    assert overview == [
        ["Phi-2", "0.0100", "refused (1)"],
        ["Phi-3.5-mini", "refused (2)", "0.0100"],
        ["Phi-4", "0.0100", "refused (1)"],
    ]
    assert [(row[0], row[3]) for row in details] == [("Phi-2", "4.5"), ("Phi-3.5-mini", "8.25"), ("Phi-4", "4.5")]
    assert re.findall(r"^\d\. (.*)$", page, re.MULTILINE) == [markdown.escape("no <b>"), "too large"]
    assert re.findall(r"^- (.*)$", page, re.MULTILINE) == [markdown.escape("it <does>"), "another"]


def test_a_page_says_which_families_were_not_tried() -> None:
    page = family_page.render(family_page.page_of(CELLS))
    [said] = re.findall(r"Not tried yet: (.*)\.$", page, re.MULTILINE)
    assert "Phi-4-mini" in said.split(", ")
    assert "Phi-2" not in said.split(", ")


def test_figures_of_other_variants_are_not_put_together(tmp_path: Path) -> None:
    old = family_page.read_page(written(tmp_path, *CELLS))
    with pytest.raises(ConfigError, match="the page has gguf/a, onnx/b, and what was tried is mlx/c"):
        family_page.joined(family_page.page_of([result("phi-4", "mlx/c")]), old)


@pytest.mark.parametrize("content", [b"# Another page\n\n| A | B |\n|:--|:--|\n| 1 | 2 |\n", b"\xff", None])
def test_what_is_not_such_a_page_is_refused_before_anything_is_built(content: bytes | None, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    if content is not None:
        page.write_bytes(content)
    done = CliRunner().invoke(cli, ["families", "--family", "phi-4", "--markdown", "--onto", str(page)])
    assert isinstance(done.exception, ConfigError)
    assert "page.md" in done.exception.message


def test_a_page_is_taken_up_for_a_page_alone() -> None:
    done = CliRunner().invoke(cli, ["families", "--onto", str(PAGE)])
    assert done.exit_code == 2
    assert "--markdown" in done.output
