"""Which files differ: what was moved is the same one, unless something that it uses is not."""

from pathlib import Path

import pytest

from bot.reconvert.files import Tree, changed
from tests.reconvert.trees import change, checkout, extend, move

FILES = {
    "bot/__init__.py": "",
    "bot/a.py": "from bot import b, c\n\n\ndef f():\n    return b.g(c.h())\n",
    "bot/b.py": "def g(x):\n    return x\n",
    "bot/c.py": "def h():\n    return 1\n",
    "bot/texts/one.txt": "One\n",
    "bot/texts/two.txt": "Two\n",
    "templates/card.md.j2": "# Card\n",
}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for side in ("base", "head"):
        for name, text in FILES.items():
            write(tmp_path / side, name, text)
    return tmp_path / "base", tmp_path / "head"


def write(side: Path, name: str, text: str) -> None:
    (side / name).parent.mkdir(parents=True, exist_ok=True)
    (side / name).write_text(text)


def differing(sides: tuple[Path, Path]) -> list[tuple[str, ...]]:
    return list(changed(*(Tree(root=side) for side in sides)))


def test_a_file_is_compared_with_itself(sides: tuple[Path, Path]) -> None:
    assert differing(sides) == []
    extend(sides[1], "bot/b.py", "\nMORE = 1\n")
    write(sides[1], "bot/new.py", "MORE = 1\n")
    (sides[1] / "templates/card.md.j2").unlink()
    assert differing(sides) == [("bot/b.py",), ("bot/new.py",), ("templates/card.md.j2",)]


def test_a_moved_file_is_the_same_file(sides: tuple[Path, Path]) -> None:
    move(sides[1], "bot/b.py", "bot/rooms/deep/renamed.py")
    (sides[1] / "bot/texts/one.txt").rename(sides[1] / "bot/rooms/one.txt")
    write(sides[1], "bot/rooms/__init__.py", '"""A room."""\n')
    assert differing(sides) == []
    assert "from bot.rooms.deep import renamed as b" in (sides[1] / "bot/a.py").read_text()


def test_a_moved_and_altered_file_is_another_one(sides: tuple[Path, Path]) -> None:
    move(sides[1], "bot/b.py", "bot/rooms/b.py")
    extend(sides[1], "bot/rooms/b.py", "\nMORE = 1\n")
    assert differing(sides) == [("bot/a.py",), ("bot/b.py",), ("bot/rooms/b.py",)]


def test_a_package_may_reexport_a_module_that_moved_into_it(sides: tuple[Path, Path]) -> None:
    for side in sides:
        write(side, "bot/d.py", "from bot.c import h\n\nprint(h())\n")
    move(sides[1], "bot/b.py", "bot/rooms/b.py")
    (sides[1] / "bot/c.py").rename(sides[1] / "bot/rooms/c.py")
    write(sides[1], "bot/c/__init__.py", "from bot.rooms.c import h\n")
    change(sides[1], "bot/a.py", "from bot import c", "from bot.rooms import c")
    assert differing(sides) == []
    write(sides[1], "bot/c/__init__.py", "from bot.rooms.b import g as h\n")  # another thing by the old name
    assert differing(sides) == [("bot/d.py",)]


def test_two_files_that_changed_places_are_both_other_ones(sides: tuple[Path, Path]) -> None:
    for one, other in (("bot/b.py", "bot/c.py"), ("bot/texts/one.txt", "bot/texts/two.txt")):
        write(sides[1], one, FILES[other])
        write(sides[1], other, FILES[one])
    assert differing(sides) == [("bot/b.py",), ("bot/c.py",), ("bot/texts/one.txt",), ("bot/texts/two.txt",)]


def test_importing_something_else_by_the_same_name_is_a_change(sides: tuple[Path, Path]) -> None:
    change(sides[1], "bot/a.py", "from bot import b, c", "from bot import b as c, c as b")
    assert differing(sides) == [("bot/a.py",)]


def test_of_files_that_say_the_same_the_nearest_is_meant(sides: tuple[Path, Path]) -> None:
    for name, other in (("one", "b"), ("two", "c")):
        main = f"from bot import {other}\n\nprint({other})\n"
        write(sides[0], f"bot/worker/{name}/__main__.py", main)
        write(sides[1], f"bot/formats/{name}/worker/__main__.py", main)
    assert differing(sides) == []
    mains = [sides[1] / f"bot/formats/{name}/worker/__main__.py" for name in ("one", "two")]
    first, second = (main.read_text() for main in mains)
    mains[0].write_text(second)
    mains[1].write_text(first)
    assert len(differing(sides)) == 2


def test_a_module_that_only_imports_equals_its_imports(sides: tuple[Path, Path]) -> None:
    write(sides[1], "bot/handing.py", '"""Words."""\nfrom bot.b import g\n')
    assert differing(sides) == []


def test_a_whole_room_can_be_moved(tmp_path: Path) -> None:
    base, head = checkout(tmp_path / "base"), checkout(tmp_path / "head")
    for path in sorted((base / "bot" / "source").glob("[a-h]*.py")):
        move(head, f"bot/source/{path.name}", f"bot/reading/of/{path.name}")
    (head / "bot/reading/of/__init__.py").write_text("")
    assert len(list((head / "bot/reading/of").glob("*.py"))) > 5
    assert differing((base, head)) == []
