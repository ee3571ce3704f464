"""What a side is, in well under a second: digests of its files, read here, and what its own code says of itself.

Code is digested here, without running it, so a stranger's cannot hide that it changed. Comments, docstrings and layout
of Python do not count: they change no file that is published.
"""

import ast
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot.compare import child
from bot.compare.child import ChildError, Code
from bot.compare.records import Fingerprint, FormatPrint, RecipePrint
from bot.config import FILE_NAME
from bot.record import Json, MalformedRecordError, Record, Sha256
from bot.records import digest_of

_SCRIPT = Path(__file__).with_name("fingerprint.py")
_SECONDS = 60.0  # a fresh checkout on a slow disk is compiled first
_FILE_BYTES = 2 << 20  # the largest source file of ours has 30 kB
_MOST_FORMATS, _MOST_VARIANTS = 50, 1000

# What every build goes through, whatever its format; what computes references; what makes sample checkpoints.
_STEPS = (
    "steps/build.py",
    "steps/trial.py",
    "steps/verify.py",
    "fetch.py",
    "source/*.py",
    "toolchains/enter.py",
    "toolchains/install.py",
    "toolchains/build.py",
    "toolchains/pip.py",
    "workers/launch.py",
)
_MEASURING = ("workers/reference.py", "reference.py")
_TEXTS = ("texts/*.txt", "texts/*.json")
_SAMPLE = ("workers/sample/*.py",)


@dataclass(frozen=True, kw_only=True)
class _Said(Record):
    """What bot/compare/fingerprint.py prints."""

    variants: tuple[RecipePrint, ...]
    locks: dict[str, Sha256]
    formats: tuple[str, ...]
    gates: dict[str, float]


def fingerprints(base: Code, head: Code) -> tuple[Fingerprint, Fingerprint]:
    """Return what both sides are. Raises ChildError, naming the side, where the code of one does not answer."""
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(_asked, side, name) for side, name in ((base, "base"), (head, "head"))]
        trees = [_Tree(root=side.root) for side in (base, head)]  # meanwhile, here
        configs = [_config(side.folder) for side in (base, head)]
        one, other = (_fingerprint(a.result(), t, c) for a, t, c in zip(asked, trees, configs, strict=True))
    return one, other


def identical(base: Code, head: Code) -> bool:
    """Say whether two sides are the same byte for byte, in all that fingerprints look at. Runs nothing."""
    if base.root == head.root:
        return _facts(base.folder / FILE_NAME) == _facts(head.folder / FILE_NAME)
    one, other = ({p.relative_to(side.root): p for p in _shipped(side)} for side in (base, head))
    return one.keys() == other.keys() and all(_facts(path) == _facts(other[name]) for name, path in one.items())


def _shipped(side: Code) -> Iterator[Path]:
    """Yield the files of a side's code, templates and configuration."""
    for folder in (side.root / "bot", side.root / "templates"):
        yield from (p for p in folder.rglob("*") if "__pycache__" not in p.parts and (p.is_symlink() or not p.is_dir()))
    if side.folder == side.root:
        yield side.root / FILE_NAME


def _facts(path: Path) -> tuple[bool, int, bytes]:
    """Return whether a file is a link, its size, and how it begins."""
    return path.is_symlink(), path.stat().st_size if path.is_file() else -1, _read(path)


def _asked(side: Code, name: str) -> _Said:
    try:
        done = child.run(side, [str(_SCRIPT)], seconds=_SECONDS)
        if done.returncode != 0:
            raise ChildError(child.said(done))
        value = json.loads(done.stdout)
        if isinstance(value, dict) and isinstance(value.get("problem"), str):
            raise ChildError(value["problem"])
        found = _Said.from_json(value)
        if len(found.formats) > _MOST_FORMATS or len(found.variants) > _MOST_VARIANTS:
            raise ChildError("it has too many variants")
        if not set(found.formats) <= found.locks.keys():
            raise ChildError("a format has no lock")
    except (ChildError, MalformedRecordError, ValueError, RecursionError) as error:
        raise ChildError(f"the {name} cannot be read: {error}") from error
    return found


def _fingerprint(found: _Said, tree: "_Tree", config: dict[str, str]) -> Fingerprint:
    return Fingerprint(
        variants=found.variants,
        formats=tuple(
            FormatPrint(name=name, lock=found.locks[name], code=tree.code(name), cards=tree.cards(name))
            for name in found.formats
        ),
        gates=found.gates,
        config=config,
        steps=tree.of(_STEPS, closed=False),
        measuring=digest_of([tree.of(_MEASURING, _TEXTS), found.locks.get("reference", "")]),
        sample=digest_of([tree.of(_SAMPLE, ("texts/training.txt",)), found.locks.get("reference", "")]),
    )


def _config(folder: Path) -> dict[str, str]:
    """Return the keys that a phi-bot.toml sets, values as JSON. A wrong one is told by what loads it."""
    content = _read(folder / FILE_NAME)
    try:
        given = tomllib.loads(content.decode()) if content else {}
        return {key: json.dumps(value, ensure_ascii=False, default=str) for key, value in _flat(given, "")}
    except (ValueError, RecursionError):
        return {}


def _flat(table: dict[str, Json], prefix: str) -> Iterator[tuple[str, Json]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """The files of a side's code, read and never run."""

    root: Path

    def code(self, name: str) -> str:
        """Return the digest of what builds and measures a format: its two modules, and all that they import."""
        return self.of((f"workers/{name}/*.py", f"formats/{name}.py"))

    def cards(self, name: str) -> str:
        """Return the digest of what makes a format's cards: code and templates."""
        packaged = self.root / "bot" / "templates"
        folder = packaged if packaged.is_dir() else self.root / "templates"
        templates = [folder / f"{name}.md.j2", *sorted(folder.glob("_*.md.j2"))]
        texts = [[t.name, hashlib.sha256(_read(t)).hexdigest()] for t in templates]
        return digest_of([texts, self.of(("cards/*.py", "templates.py", "markdown.py"))])

    def of(self, code: Iterable[str], data: Iterable[str] = (), *, closed: bool = True) -> str:
        """Return the digest of modules, by patterns below bot/; ``closed``: of all that they import of bot too."""
        todo = [p for pattern in code for p in sorted((self.root / "bot").glob(pattern))]
        seen: dict[str, str] = {}
        while todo:
            path = todo.pop()
            name = path.relative_to(self.root).as_posix()
            if name not in seen:
                seen[name], imported = _module(_read(path))
                todo += [self.root / p for i in imported for p in _files(i) if closed and (self.root / p).is_file()]
        for path in (p for pattern in data for p in (self.root / "bot").glob(pattern)):
            seen[path.relative_to(self.root).as_posix()] = hashlib.sha256(_read(path)).hexdigest()
        return digest_of(sorted(seen.items()))


def _files(module: str) -> tuple[Path, Path]:
    path = Path(*module.split("."))
    return path.with_suffix(".py"), path / "__init__.py"


@cache  # by content: most files are the same on both sides
def _module(content: bytes) -> tuple[str, tuple[str, ...]]:
    """Return a digest of what a module says, and what of bot it may import. What does not parse imports nothing."""
    try:
        tree = ast.parse(content)
        imported = {name for node in ast.walk(tree) for name in _looked_at(node)}
        said = ast.dump(tree).encode("utf-8", "surrogatepass")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return hashlib.sha256(content).hexdigest(), ()
    return hashlib.sha256(said).hexdigest(), tuple(sorted(imported))


def _looked_at(node: ast.AST) -> Iterator[str]:
    """Yield the modules of bot that a statement may import; take the docstring out of what has one."""
    match node:
        case ast.Import():
            yield from (a.name for a in node.names if a.name.startswith("bot."))
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "bot":
            yield module
            yield from (f"{module}.{a.name}" for a in node.names)
        case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            match node.body[:1]:
                case [ast.Expr(value=ast.Constant(value=str()))]:
                    del node.body[0]


def _read(path: Path) -> bytes:
    """Return the first 2 MiB of a regular file; nothing of anything else, as a device or a pipe."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_FILE_BYTES)
    except OSError:
        return b""
