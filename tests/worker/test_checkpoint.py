"""Before a checkpoint is read: its weights are whole, and nothing it brings can run."""

import json
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from bot.worker.checkpoint import shards
from bot.worker.harness import SourceProblem
from tests.worker.running import run_python

ROOT = Path(bot.__file__).parent.parent

# Loads a folder as converters do at their most trusting; prints what it raised.
LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from bot.worker.checkpoint import forbid_remote_code
if sys.argv[4] == "forbidden":
    forbid_remote_code()
import transformers
try:
    getattr(transformers, sys.argv[3]).from_pretrained(sys.argv[2], trust_remote_code=True)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module", params=["gguf", "mlx"])
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    return ensure(request.param, Silent())


def test_the_shards_are_those_that_the_index_names(tmp_path: Path) -> None:
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in names:
        (tmp_path / name).touch()
    index = {"weight_map": {"a": names[1], "b": names[0]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [p.name for p in shards(tmp_path)] == names


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceProblem, match=r"names model-00002-of-00002\.safetensors, which is not there"):
        shards(tmp_path)


def test_an_index_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for folder in (tmp_path, source):
        (folder / "model.safetensors").touch()
    (source / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}')
    with pytest.raises(SourceProblem, match=r"names \.\./model\.safetensors, which is not there"):
        shards(source)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": {}}}'])
def test_a_malformed_index_is_said_to_be_malformed(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(SourceProblem, match=r"^model\.safetensors\.index\.json is malformed: "):
        shards(tmp_path)


def test_pickles_are_not_read_as_weights(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(SourceProblem, match="there are no weights"):
        shards(tmp_path)


@pytest.mark.toolchain
@pytest.mark.parametrize("loader", ["AutoConfig", "AutoTokenizer"])
def test_no_code_of_a_model_runs_even_for_a_converter_that_trusts_it(
    toolchain: Toolchain, tmp_path: Path, loader: str
) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    asks = {"auto_map": {"AutoConfig": "own.Config", "AutoTokenizer": ["own.Tokenizer", None]}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own"} | asks))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(asks))

    said = run_python(toolchain, LOAD, ROOT, tmp_path, loader, "forbidden")
    assert said.startswith("NotTaken the model asks to run code of its own")
    assert not marker.exists()

    run_python(toolchain, LOAD, ROOT, tmp_path, loader, "trusted")
    assert marker.exists()  # so this test can fail
