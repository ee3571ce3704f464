"""ONNX folders that are not whole: each is found before onnxruntime sees it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import Built, copy_of, failures, measure

pytestmark = pytest.mark.toolchain

INT4 = catalogue.all_variants()["onnx/cpu-int4"]

Damage = Callable[[Path], object]


def cut(name: str) -> Damage:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate((folder / name).stat().st_size - 100)

    return damage


def lengthen(folder: Path) -> None:
    with (folder / "model.onnx.data").open("ab") as file:
        file.write(b"\0" * 64)


def name_another_model(folder: Path) -> None:
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["filename"] = "../model.onnx"
    (folder / "genai_config.json").write_text(json.dumps(config))


def read_another_file(folder: Path) -> None:
    """The name of the data file stands in the graph, once for each tensor."""
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph.replace(b"model.onnx.data", b"../../etc/hosts"))


def link(folder: Path) -> None:
    data = (folder / "tokenizer.json").rename(folder.parent / "elsewhere.json")
    (folder / "tokenizer.json").symlink_to(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: (folder / "model.onnx.data").unlink(), "model.onnx.data is missing"),
        (lambda folder: (folder / "run.py").write_text("print()"), "run.py is not a file of an ONNX model"),
        (lambda folder: (folder / "more").mkdir(), "more is not a file of an ONNX model"),
        (link, "tokenizer.json is not a file of an ONNX model"),
        (cut("model.onnx.data"), "model.onnx.data has 3908508 bytes, the graph's tensors take 3908608"),
        (lengthen, "model.onnx.data has 3908672 bytes, the graph's tensors take 3908608"),
        (cut("model.onnx"), "Error parsing message with type 'onnx.ModelProto'"),
        (cut("genai_config.json"), "genai_config.json is damaged: "),
        (cut("tokenizer.json"), "tokenizer.json is damaged: "),
        (name_another_model, "genai_config.json does not name model.onnx"),
        (read_another_file, "in '../../etc/hosts', not in model.onnx.data"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_folder_that_is_not_whole_is_not_loaded(
    onnx_files: Built, sample: Path, reference: Path, tmp_path: Path, damage: Damage, said: str
) -> None:
    folder = copy_of(onnx_files.folders[INT4.name], tmp_path / "damaged")
    damage(folder)
    measured = measure(ensure("onnx", Silent()), folder, INT4, sample, reference, tmp_path / "log")
    assert [c["name"] for c in measured["checks"]] == ["integrity"]
    assert said in failures(measured)["integrity"]
