"""The content of a file, independent of its name and layout. It is read, and never run.

In Python, comments, docstrings, layout and the texts of errors do not count, and neither do the places that parts of
the bot are imported from: these parts are listed beside, for bot/reconvert/files.py to look up on each side. In TOML
and JSON, the value counts; in the lock of a toolchain, the packages that it installs.
"""

import ast
import hashlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache

from bot import toolchains

_LOCK = b"# /// toolchain"


@dataclass(frozen=True, kw_only=True, order=True)
class Use:
    """The use of another module: ``name`` of it ("" for all of it), under the name ``bound`` if that counts."""

    module: str
    name: str = ""
    bound: str = ""


@dataclass(frozen=True, kw_only=True)
class Normal:
    """The normal form of a file: the digest of its content, and of Python what it uses of the bot.

    ``used`` are in the order of first use, whatever they are called there; ``others`` are sorted. ``names`` are what
    imports bind. ``empty`` is a module that does nothing but import.
    """

    digest: str
    used: tuple[Use, ...] = ()
    others: tuple[Use, ...] = ()
    names: tuple[tuple[str, Use], ...] = ()
    empty: bool = False


@cache  # by content: most files are the same on both sides
def normal(suffix: str, content: bytes) -> Normal:
    """Return the content of a file of such a suffix: its bytes, if it cannot be read as what it should be."""
    try:
        if suffix == ".py":
            return _python(content)
        if suffix == ".toml":
            return Normal(digest=_digest(json.dumps(tomllib.loads(content.decode()), sort_keys=True, default=str)))
        if suffix == ".json":
            return Normal(digest=_digest(json.dumps(json.loads(content), sort_keys=True)))
        if suffix == ".txt" and _LOCK in content:
            return Normal(digest=_digest(toolchains.digest_of_lock(content.decode())))
    except (SyntaxError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError):
        pass
    return Normal(digest=hashlib.sha256(content).hexdigest())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _python(content: bytes) -> Normal:
    tree = ast.parse(content)
    nodes = list(ast.walk(tree))
    uses = [use for node in nodes for use in _imported(node)]
    bound: dict[str, Use] = {}
    taken = set(_taken(nodes))
    for name, use in uses:
        if name and bound.setdefault(name, use) != use:
            taken.add(name)  # two things by one name: which is meant is not looked for
    plain = _Plain(bound.keys() - taken)
    plain.visit(tree)
    others = {Use(module=use.module, name=use.name, bound=name) for name, use in uses if name not in plain.order}
    return Normal(
        digest=_digest(ast.dump(tree)),
        used=tuple(bound[name] for name in plain.order),
        others=tuple(sorted(others)),
        names=tuple(bound.items()),
        empty=all(isinstance(node, ast.Pass) for node in tree.body),
    )


def _imported(node: ast.AST) -> Iterator[tuple[str, Use]]:
    """Yield what a statement imports of the bot, each with the name that it binds ("" where that is ``bot``)."""
    match node:
        case ast.Import():
            for a in node.names:
                if a.name.split(".")[0] == "bot":
                    yield a.asname or "", Use(module=a.name)
        case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] == "bot":
            for a in node.names:
                yield "" if a.name == "*" else a.asname or a.name, Use(module=module, name=a.name)


def _taken(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names that mean something else somewhere in a module than what was imported by them."""
    for node in nodes:
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                yield node.id
            case ast.arg():
                yield node.arg
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case ast.Global() | ast.Nonlocal():
                yield from node.names
            case ast.Import() | ast.ImportFrom() if not _only_imports(node):
                yield from (a.asname or a.name.split(".")[0] for a in node.names)


def _only_imports(node: ast.AST) -> bool:
    """Say whether a statement imports of the bot, and nothing else."""
    imported = len(list(_imported(node)))
    return isinstance(node, (ast.Import, ast.ImportFrom)) and imported == len(node.names)


class _Plain(ast.NodeTransformer):
    """Takes out docstrings, imports of the bot, and the texts of errors; numbers what was imported, by first use."""

    def __init__(self, imported: AbstractSet[str]) -> None:
        self.imported = imported
        self.order: dict[str, int] = {}

    def visit(self, node: ast.AST) -> ast.AST:
        match node:
            case ast.Name() if node.id in self.imported:
                node.id = f"@{self.order.setdefault(node.id, len(self.order))}"
                return node
            case ast.Raise(exc=ast.Call() as call):
                _wordless(call)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name.endswith("Error"):
                _wordless(node)
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                kept = [s for s in statements if not _only_imports(s)]
                if field == "body" and isinstance(node, _DOCUMENTED) and kept and _is_text(kept[0]):
                    del kept[0]
                setattr(node, field, kept or ([ast.Pass()] if statements and field == "body" else []))
        return super().generic_visit(node)


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _wordless(call: ast.Call) -> None:
    """Take the texts out of the arguments of an error. Computed parts of a text stay: they run."""
    call.args = [_without_text(a) for a in call.args]
    for keyword in call.keywords:
        keyword.value = _without_text(keyword.value)


_SHOWN = (ast.Name, ast.Attribute, ast.Constant, ast.Load)


def _without_text(node: ast.expr) -> ast.expr:
    match node:
        case ast.Constant(value=str()):
            return ast.Constant(value="")
        case ast.JoinedStr():
            run = [
                v
                for v in node.values
                if not all(isinstance(n, (ast.FormattedValue, ast.JoinedStr, *_SHOWN)) for n in ast.walk(v))
            ]
            return ast.JoinedStr(values=run) if run else ast.Constant(value="")
        case ast.BinOp(op=ast.Add()):
            left, right = _without_text(node.left), _without_text(node.right)
            return left if isinstance(right, ast.Constant) and right.value == "" else ast.BinOp(left, node.op, right)
    return node
