"""The table of rooms: every file is in one row of it, and what a build runs is in rows that touch builds."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from bot.formats.registry import all_formats
from bot.reconvert.files import Tree
from bot.reconvert.records import Room
from bot.reconvert.rooms import find, own_rooms, touched_by
from tests.page_reader import ROOT

FORMATS = tuple(all_formats())
_PATTERN = Room(name="all", touches=("plan",), files=("bot/*.py",))
_NAMED = Room(name="one", touches=("publishing",), files=("bot/a.py",))
_FORMAT = Room(name="format", touches=("builds of {format}",), files=("bot/{format}/*.py", "bot/*/{format}.txt"))


def homeless(files: Iterable[str]) -> list[str]:
    """Return the files that are not in one row."""
    return [name for name in files if len(find(name, own_rooms(), FORMATS)) != 1]


def test_every_file_is_in_exactly_one_row() -> None:
    assert homeless(Tree(root=ROOT).files) == []
    assert homeless(["bot/new.py", "templates/new.md.j2", "bot/formats/gguf/worker/new.py"]) == [
        "bot/new.py",
        "templates/new.md.j2",
    ]


@pytest.mark.parametrize("room", own_rooms(), ids=lambda room: room.name[:30])
def test_every_pattern_is_of_some_file(room: Room) -> None:
    files = Tree(root=ROOT).files
    for pattern in room.files:
        alone = Room(name=room.name, touches=room.touches, files=(pattern,))
        assert any(find(name, (alone,), FORMATS) for name in files), pattern


def test_every_touch_is_one_that_compare_knows() -> None:
    for room in own_rooms():
        for path in ("bot/gguf/a.py", "bot/gguf.txt"):
            alone = Room(name=room.name, touches=room.touches, files=("bot/{format}/a.py", "bot/{format}.txt"))
            assert bool(touched_by([(path,)], [(alone,)], FORMATS)) == bool(room.touches)


def test_the_pattern_with_the_fewest_stars_counts_and_of_two_the_one_without_a_format() -> None:
    rooms = (_PATTERN, _NAMED, _FORMAT)
    assert find("bot/a.py", rooms, FORMATS) == [(_NAMED, "")]
    assert find("bot/b.py", rooms, FORMATS) == [(_PATTERN, "")]
    assert find("bot/mlx/b.py", rooms, FORMATS) == [(_FORMAT, "mlx")]
    assert find("bot/other/b.py", rooms, FORMATS) == []
    plain = Room(name="plain", touches=(), files=("bot/mlx/*.py",))
    assert find("bot/mlx/b.py", (*rooms, plain), FORMATS) == [(plain, "")]


def test_a_file_that_fits_two_rows_equally_is_in_both() -> None:
    twin = Room(name="twin", touches=("reports",), files=("bot/*.py",))
    assert find("bot/b.py", (_PATTERN, twin), FORMATS) == [(_PATTERN, ""), (twin, "")]


def test_a_file_is_looked_up_in_the_first_table_that_has_it() -> None:
    tables = [(_NAMED,), (_PATTERN, _FORMAT)]
    seen = touched_by([("bot/a.py",), ("bot/b.py",), ("bot/mlx/c.py",)], tables, FORMATS)
    assert [(c.what, c.name, c.files) for c in seen] == [
        ("code", "mlx", ("bot/mlx/c.py",)),
        ("plan", "every format", ("bot/b.py",)),
        ("publishing", "every format", ("bot/a.py",)),
    ]


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bot"):
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return {p for n in names for p in (f"{n.replace('.', '/')}.py", f"{n.replace('.', '/')}/__init__.py")}


@pytest.mark.parametrize("form", FORMATS)
def test_every_import_of_a_worker_is_in_a_row_that_touches_builds_or_their_measurement(form: str) -> None:
    files = Tree(root=ROOT).files
    mine = [n for n in files if any(f == form for _, f in find(n, own_rooms(), FORMATS))]
    todo = [n for n in mine if "worker" in n and n.endswith(".py")]
    seen = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [n for n in _imports(files[name]) if n in files]
    assert len(seen) > 20
    measured = {"every build", "builds of {format}", "references"}
    rows = {name: room for name in seen for room, _ in find(name, own_rooms(), FORMATS)}
    assert {name for name, room in rows.items() if not measured & set(room.touches)} == set()
