"""Twin tests: a fast path gives the files of the stock one, also where its worker is changed, or killed in between."""

import json
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import bot
from bot.catalogue.families import FAMILIES
from bot.records.artifacts import Json, Variant
from bot.toolchains import Toolchain
from bot.toolchains.enter import child_environment
from tests.warm import warm
from tests.worker.running import Built, build, prepare, task_of
from tests.worker.stock import assert_as_stock, assert_same

ROOT = Path(bot.__file__).parent.parent


def families(*, always: Collection[str], covered: Callable[[str], bool] = lambda _: True) -> list[object]:
    """The families that are ``covered`` and need no code of their own, for a test: all but ``always`` are swept.

    A copy is not among them: what workers get of it is a Phi-3.
    """
    return [
        pytest.param(name, marks=[] if name in always else pytest.mark.sweep)
        for name, family in FAMILIES.items()
        if not (family.text_part or family.copied) and covered(name)
    ]


def assert_twins(
    toolchain: Toolchain, source: Path, variants: Sequence[Variant], folder: Path, *, in_order: bool = True
) -> None:
    """The fast path was taken, and left the bytes of the stock one. ``in_order``: and finished one after the other."""
    folder.mkdir(exist_ok=True)
    fast = build(toolchain, source, variants, folder / "fast", log=folder / "log")
    assert [n for n in fast.notes if n.startswith("Stock path")] == []
    _assert_names(fast, variants, in_order=in_order)

    def check(stock: Built, built: Sequence[Variant]) -> None:
        asked = "Stock path: as asked for"
        assert stock.notes in ([asked], [asked] * len(built))  # each worker says so; OpenVINO has one a variant
        _assert_names(stock, built, in_order=in_order)

    assert_as_stock(fast, toolchain, source, variants, folder / "stock", check=check)


def assert_streams(
    toolchain: Toolchain, source: Path, variants: Sequence[Variant], folder: Path, *, in_order: bool = True
) -> None:
    """A source that comes tensor by tensor gives the bytes of one that is there."""
    whole = build(toolchain, source, variants, folder / "whole", log=folder / "log")
    streamed = build(toolchain, source, variants, folder / "job", log=folder / "log", streamed=True)
    _assert_names(streamed, variants, in_order=in_order)
    assert_same(streamed, whole)


def assert_goes_stock(
    change: str, toolchain: Toolchain, source: Path, variant: Variant, folder: Path, reason: str, *, threads: int = 2
) -> None:
    """A changed worker takes the stock path, says why, and leaves what it leaves."""
    ran = run_with(change, toolchain, source, [variant], prepare(folder / "job", [variant]), threads=threads)
    assert ran.notes == [f"Stock path: {reason}"]
    assert ran.names == [variant.name]
    assert_as_stock(ran, toolchain, source, [variant], folder / "stock")


def _assert_names(built: Built, variants: Sequence[Variant], *, in_order: bool) -> None:
    names = [v.name for v in variants]
    assert (built.names if in_order else sorted(built.names)) == (names if in_order else sorted(names))


@dataclass(frozen=True, kw_only=True)
class Ran(Built):
    """What a changed worker left and said, and whether it was killed."""

    killed: bool
    printed: str


# The change comes before the worker's own modules, so that what they import from others is changed too.
_WORKER = """
import os, sys
from importlib import import_module
del os.environ["PHI_BOT_HOLDS_STDIN"]  # it is ours
sys.path.insert(0, sys.argv.pop(1))
package = f"bot.formats.{sys.argv.pop(1)}.worker"
exec(sys.argv.pop(1))
from bot.worker.harness import main
main({"build": import_module(package + ".build").build})
"""


def run_with(
    change: str,
    toolchain: Toolchain,
    source: Path,
    variants: Sequence[Variant],
    built: Built,
    *,
    threads: int = 2,
    stock: bool = False,
    fails: bool = False,
) -> Ran:
    """Run a worker in which some code was run first, as ``run_build`` runs others; ``built.events`` stay as they are.

    One that ``fails`` ends with an error, as its last event says, or goes on with other variants.

    Nothing is measured for variants that are built with an importance matrix: the change has to give them one.
    """
    task = task_of(source, variants, built, threads=threads, stock=stock)
    if any(v.options.get("imatrix") for v in variants):
        task = replace(task, importance="imatrix.gguf")
    folder = Path(task.scratch).parent
    (folder / "task.json").write_text(json.dumps(task.to_json()))
    done = subprocess.run(
        [warm(toolchain).python, "-I", "-c", _WORKER, ROOT, toolchain.name, change, "build", folder / "task.json"],
        capture_output=True,
        text=True,
        env=child_environment(str(folder)),
    )
    events: list[Json] = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode in ((0, 1) if fails else (0, -9)), done.stderr
    return Ran(folders=built.folders, events=events, killed=done.returncode == -9, printed=done.stderr)


_KILLING = """
import os
from pkgutil import resolve_name
resolve_name("bot.worker.journal")._MARK_BYTES = 0
owner, left = resolve_name("bot.{owner}"), [{after}]
call = owner.{name}
def counted(*args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return call(*args)
owner.{name} = counted
"""


def killing(owner: str, name: str, *, after: int) -> str:
    """Code for ``run_with`` that kills the worker when a function was called so many times.

    ``owner`` has the function: a module below ``bot``, or ``module:Class``, as ``pkgutil.resolve_name`` takes it. Each
    piece of these small files is worth a mark.
    """
    return _KILLING.format(owner=owner, name=name, after=after)


def empty(built: Built) -> None:
    """Empty the folders of variants, as the bot does before it gives them to a worker again."""
    for folder in built.folders.values():
        for file in folder.iterdir():
            file.unlink()
