"""Who may know whom: the rooms of CONTRIBUTING.md, held against the imports that the code has."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bot

BOT = Path(bot.__file__).parent
RUNTIMES = {
    "torch",
    "numpy",
    "transformers",
    "llama_cpp",
    "onnxruntime_genai",
    "onnxruntime",
    "openvino",
    "mlx",
    "mlx_lm",
    "matplotlib",
    "PIL",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)


def room(path: Path) -> str:
    return path.relative_to(BOT).parts[0].removesuffix(".py")


FILES = sorted(BOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(BOT)))
def test_a_module_imports_what_its_room_may(path: Path) -> None:
    found = set(imports(path))
    tops = {name.split(".")[0] for name in found}
    ours = {name.split(".")[1] for name in found if name.startswith("bot.")}
    if room(path) != "workers":
        assert not tops & RUNTIMES
        assert "workers" not in ours
    else:
        assert ours <= {"evidence", "records", "rendering", "tasks", "texts", "workers"}
    if room(path) != "hub":
        assert "huggingface_hub" not in tops
    if room(path) != "github":
        assert "github" not in tops
    if room(path) in ("records", "evidence", "record"):
        assert ours <= {"evidence", "record"}
    if room(path) == "formats":
        assert ours <= {"evidence", "records", "formats", "toolchains"}
