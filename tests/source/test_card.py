from pathlib import Path

import pytest

from bot.source.card import read_card


def card(folder: Path, text: str) -> dict[str, object]:
    (folder / "README.md").write_text(text, encoding="utf-8")
    return read_card(folder)


def test_the_head_is_read_as_text(tmp_path: Path) -> None:
    head = "---\nlicense: mit\nlanguage: [en, no]\ndate: 2026-11-22\ngated: yes\n---\n# Title\n---\n"
    assert card(tmp_path, head) == {"license": "mit", "language": ["en", "no"], "date": "2026-11-22", "gated": "yes"}


def test_line_ends_of_other_systems_are_fine(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\r\nlicense: mit\r\n---\r\n# Title\r\n")
    assert read_card(tmp_path) == {"license": "mit"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Title\n",
        "---\nlicense: mit\n",
        "---\n- a\n- list\n---\n",
        "---\na: &x [1]\nb: [*x, *x]\n---\n",
        "---\n!!python/object/apply:os.getcwd []\n---\n",
        "---\nkey: [unclosed\n---\n",
        "---\n" + "[" * 50_000 + "\n---\n",
        "---\n? [a, b]\n: c\n---\n",
    ],
)
def test_a_head_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    assert card(tmp_path, text) == {}


def test_no_card_is_none(tmp_path: Path) -> None:
    assert read_card(tmp_path) == {}
