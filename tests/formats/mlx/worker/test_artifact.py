"""What verifying finds in an MLX folder without running it: files that are not as they should be, other weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.tasks import VerifyTask
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.running import Built, copy_of, damage_last_shard, run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parent.parent
FOUR_BITS = catalogue.all_variants()["mlx/4bit"]

# Calls a function of the worker as verifying does; prints what it found, or the error.
ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.records.tasks import VerifyTask
from bot.worker import weights
from bot.formats.mlx.worker import artifact as mlx_artifact
from bot.worker.tensors import Tensors

task = VerifyTask.from_json(json.loads(sys.argv[2]))
try:
    if sys.argv[3] == "inspect":
        print(mlx_artifact.inspect(task))
    else:
        print(weights.compare(mlx_artifact.stored(task), Tensors(Path(task.source)), tied=False).tensors)
except ValueError as error:
    print(error)
"""

# Changes the arrays `w` of a folder.
CHANGE = """
import sys, mlx.core as mx
file = sys.argv[1] + "/model.safetensors"
w = dict(mx.load(file))
mx.eval(w)
def both(name):
    return [n for n in w if n.rsplit(".", 1)[0] == name]
HALVES_INTERLEAVED = mx.arange(64).reshape(2, 32).T.flatten()
{change}
mx.save_safetensors(file, w)
"""

# Unpacks quantized matrices as verifying does; prints for each how far it is from what MLX makes of it.
UNPACK = """
import sys
sys.path.insert(0, sys.argv[1])
import mlx.core as mx, numpy as np
from mlx import nn
from bot.worker import packed
from bot.formats.mlx.worker import artifact

packed._IN_CACHE = 1 << 12  # so that there are several parts
for bits in (2, 3, 4, 5, 6, 8):
    for size in (32, 64, 128):
        linear = nn.Linear(384, 100)
        linear.set_dtype(mx.bfloat16)
        module = nn.QuantizedLinear.from_linear(linear, size, bits)
        arrays = module.weight, module.scales, module.biases
        shape, parts = artifact._rows(module, *arrays)
        expected = mx.dequantize(arrays[0], *(a.astype(mx.float32) for a in arrays[1:]), size, bits)
        unpacked = np.concatenate([part.copy() for part in parts()])
        assert unpacked.shape == shape
        print(np.abs(unpacked - np.asarray(expected)).max() / np.abs(unpacked).max())
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("mlx", Silent())


@pytest.fixture(scope="module")
def built(mlx_files: Built) -> Path:
    return mlx_files.folders[FOUR_BITS.name]


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return copy_of(built, tmp_path / "artifact")


def ask(toolchain: Toolchain, artifact: Path, sample: Path, what: str) -> str:
    task = VerifyTask(artifact=str(artifact), variant=FOUR_BITS, source=str(sample), reference="", threads=2)
    return run_python(toolchain, ASK, ROOT, json.dumps(task.to_json()), what).strip()


def test_a_whole_folder_is_told_in_a_few_words(toolchain: Toolchain, built: Path, sample: Path) -> None:
    files = len(list(built.iterdir()))
    said = ask(toolchain, built, sample, "inspect")
    assert said == f"1 safetensors file of 63 arrays, and {files - 1} files beside"


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: _write(folder / name, text)


def _write(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    file.write_text(text)


def halve(name: str) -> Callable[[Path], None]:
    return lambda folder: _write(folder / name, (folder / name).read_text()[: (folder / name).stat().st_size // 2])


def forget_an_array(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    del index["weight_map"]["model.norm.weight"]
    _write(folder / "model.safetensors.index.json", json.dumps(index))


def name_a_file_elsewhere(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = "../model.safetensors"
    _write(folder / "model.safetensors.index.json", json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("model.safetensors"), "model.safetensors is missing"),
        (remove("model.safetensors.index.json"), "model.safetensors.index.json is missing"),
        (remove("config.json"), "config.json is missing"),
        (remove("tokenizer.json"), "tokenizer.json is missing"),
        (remove("generation_config.json"), "generation_config.json is missing"),
        (write("model-00002-of-00002.safetensors", ""), "model-00002-of-00002.safetensors is not part of an MLX model"),
        (write("modeling_phi3.py", "print()"), "modeling_phi3.py is not part of an MLX model"),
        (damage_last_shard, "model.safetensors is damaged: "),
        (write("model.safetensors", "tiny"), "model.safetensors is damaged: "),
        (halve("tokenizer.json"), "tokenizer.json is damaged: "),
        (write("config.json", "[]"), "config.json is damaged: it holds no object"),
        (write("model.safetensors.index.json", "{}"), "model.safetensors.index.json is damaged: it names no files"),
        (forget_an_array, "model.safetensors.index.json and model.safetensors do not agree on model.norm.weight"),
        (name_a_file_elsewhere, "../model.safetensors is missing"),
    ],
)
def test_files_that_are_missing_damaged_or_too_many_are_named(
    toolchain: Toolchain, artifact: Path, sample: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(artifact)
    said = ask(toolchain, artifact, sample, "inspect")
    assert said.startswith(message)
    assert "\n" not in said


def test_matrices_are_unpacked_as_mlx_does_it(toolchain: Toolchain) -> None:
    off = [float(line) for line in run_python(toolchain, UNPACK, ROOT).split()]
    assert len(off) == 18
    assert max(off) < 1e-6


def test_all_weights_are_the_sources(toolchain: Toolchain, built: Path, sample: Path) -> None:
    assert ask(toolchain, built, sample, "weights") == "27"


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        ("for n in both('model.embed_tokens'): w[n][7] = w[n][8]", "model.embed_tokens.weight: row 7, "),
        ("s = w['lm_head.scales']; s[3, 1] = s[3, 1] * 2", "lm_head.weight: row 3, "),
        (
            "s = w['model.layers.1.mlp.down_proj.scales']; s[200, 5] = s[200, 5] * 2",
            "model.layers.1.mlp.down_proj.weight: row 200, ",
        ),
        (
            "w = {n.translate(str.maketrans('12', '21')) if '.layers.' in n else n: a for n, a in w.items()}",
            "model.layers.1.",
        ),
        (
            "for n in both('model.layers.0.self_attn.qkv_proj'): w[n][:64] = w[n][HALVES_INTERLEAVED]",
            "model.layers.0.self_attn.qkv_proj.weight: row 1, ",
        ),
        ("w['model.norm.weight'] = mx.ones_like(w['model.norm.weight'])", "model.norm.weight is "),
        (
            "for n in both('lm_head'): w[n] = w[n.replace('lm_head', 'model.embed_tokens')]",
            "lm_head.weight: row ",
        ),
    ],
    ids=["shifted row", "doubled scale", "another", "swapped layers", "permuted rows", "dropped norm", "tied output"],
)
def test_weights_that_are_not_the_sources_are_named(
    toolchain: Toolchain, artifact: Path, sample: Path, change: str, tensor: str
) -> None:
    run_python(toolchain, CHANGE.format(change=change), artifact)
    assert ask(toolchain, artifact, sample, "weights").startswith(tensor)


def test_a_config_that_reads_matrices_with_other_bits_is_found(
    toolchain: Toolchain, artifact: Path, sample: Path
) -> None:
    config = json.loads((artifact / "config.json").read_text())
    config["quantization"]["model.layers.2.self_attn.o_proj"] = {"group_size": 32, "bits": 8}
    _write(artifact / "config.json", json.dumps(config))
    assert "model.layers.2.self_attn.o_proj" in ask(toolchain, artifact, sample, "weights")
