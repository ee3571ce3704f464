"""Files of an OpenVINO artifact: what is missing, too much or cut off is told by its name, before anything loads it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.formats.openvino.worker.files import MODELS, inspect
from bot.records.tasks import VerifyTask

MODEL = """<?xml version="1.0"?>
<net name="Model0" version="11">
  <layers>
    <layer id="0" name="input_ids" type="Parameter" version="opset1"><data shape="?,?" element_type="i64" /></layer>
    <layer id="1" name="rows" type="Const" version="opset1">
      <data element_type="u4" shape="3, 5" offset="0" size="8" />
    </layer>
    <layer id="2" name="scale" type="Const" version="opset1">
      <data element_type="f16" shape="3, 1" offset="8" size="6" />
    </layer>
    <layer id="3" name="the same scale" type="Const" version="opset1">
      <data element_type="f16" shape="3, 1" offset="8" size="6" />
    </layer>
    <layer id="4" name="axis" type="Const" version="opset1">
      <data element_type="i64" shape="" offset="14" size="8" />
    </layer>
    <layer id="5" name="nothing" type="Const" version="opset1">
      <data element_type="u8" shape="0" offset="22" size="1" />
    </layer>
  </layers>
</net>
"""
SIZE = 23


@pytest.fixture
def task(tmp_path: Path) -> VerifyTask:
    artifact, source = tmp_path / "artifact", tmp_path / "source"
    artifact.mkdir()
    source.mkdir()
    for name in MODELS:
        (artifact / f"{name}.xml").write_text(MODEL)
        (artifact / f"{name}.bin").write_bytes(bytes(SIZE))
    for name in ("config.json", "generation_config.json", "openvino_config.json"):
        (artifact / name).write_text("{}")
    for folder in (artifact, source):
        (folder / "tokenizer.json").write_text("{}")
    (source / "model.safetensors").write_bytes(b"")
    return VerifyTask(
        artifact=str(artifact),
        variant=catalogue.all_variants()["openvino/int4"],
        source=str(source),
        reference=str(tmp_path),
        threads=1,
    )


def test_whole_files_are_described(task: VerifyTask) -> None:
    assert inspect(task) == "10 files; a model of 5 constants, with its tokenizer and detokenizer"


def test_weights_that_are_not_compressed_come_without_a_word_on_how(task: VerifyTask) -> None:
    (Path(task.artifact) / "openvino_config.json").unlink()
    assert inspect(task).startswith("9 files; ")


@pytest.mark.parametrize("name", ["openvino_model.bin", "openvino_detokenizer.xml", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(task: VerifyTask, name: str) -> None:
    (Path(task.artifact) / name).unlink()
    with pytest.raises(ValueError, match=rf"^{name} is missing$"):
        inspect(task)


@pytest.mark.parametrize("name", ["modeling_phi3.py", "pytorch_model.bin", "merges.txt"])
def test_a_file_that_the_format_does_not_need_is_named(task: VerifyTask, name: str) -> None:
    (Path(task.artifact) / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"^{name} is not part of an OpenVINO model$"):
        inspect(task)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("size", "how"), [(SIZE - 1, "shorter"), (0, "shorter"), (SIZE + 1, "longer")])
def test_data_of_another_size_than_the_model_says_is_told(task: VerifyTask, name: str, size: int, how: str) -> None:
    (Path(task.artifact) / f"{name}.bin").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=rf"^{name}\.bin is {how} than {name}\.xml says: {size} bytes, not {SIZE}$"):
        inspect(task)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], r"no element found|unclosed token"),
        (lambda text: "", r"no element found"),
        (lambda text: text.replace('shape="3, 5"', 'shape="3, 7"'), r"a constant of shape \[3, 7\] has 8 bytes$"),
        (lambda text: text.replace('offset="14" ', ""), r"a constant without offset$"),
    ],
    ids=["cut off", "empty", "another shape", "no offset"],
)
def test_a_damaged_header_is_told(task: VerifyTask, damage: Callable[[str], str], message: str) -> None:
    (Path(task.artifact) / "openvino_model.xml").write_text(damage(MODEL))
    with pytest.raises(ValueError, match=rf"^openvino_model\.xml is damaged: .*({message})"):
        inspect(task)


@pytest.mark.parametrize("text", ['{"eos_token_id": ', json.dumps([2000])])
def test_a_damaged_config_is_told(task: VerifyTask, text: str) -> None:
    (Path(task.artifact) / "generation_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^generation_config\.json is damaged: "):
        inspect(task)
