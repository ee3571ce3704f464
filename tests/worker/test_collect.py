"""Moments that are collected layer by layer are those of the whole model, and the number of threads changes none."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bot
from bot.errors import NotFiniteError
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import collect_moments, run_python

pytestmark = pytest.mark.toolchain

# Prints the largest relative difference to what the matrices of a model that is loaded whole are multiplied with. Of
# experts there is nothing.
_COMPARE = """
import json, sys
from pathlib import Path
import numpy as np, torch
from transformers import AutoModelForCausalLM
sys.path.insert(0, sys.argv[1])
from bot.worker.conversations import encode
from bot.worker.tokens import read_tokenizer

source, text, folder = Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
index = json.loads((folder / "moments.json").read_text())
ids = encode(read_tokenizer(source), text.read_text())
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
length = int(sys.argv[5])
sums = {}
def note(matrix):
    def take(_, given):
        rows = given[0].reshape(-1, given[0].shape[-1]).double()
        sums[matrix] = sums.get(matrix, 0) + rows.T @ rows
    return take
for name, module in model.named_modules():
    if type(module) is torch.nn.Linear:
        module.register_forward_pre_hook(note(name + ".weight"))
read = 0
with torch.inference_mode():
    for start in range(0, len(ids) - length + 1, length):
        model(torch.tensor([ids[start:start + length]]))
        read += length
if "lm_head.weight" not in index["inputs"]:
    sums["model.embed_tokens.weight"] = sums.pop("lm_head.weight")
assert read == index["tokens"], (read, index["tokens"])
assert set(sums) == set(index["inputs"]), set(sums) ^ set(index["inputs"])
worst = 0
for matrix, want in sums.items():
    (file,) = index["inputs"][matrix]
    got = torch.from_numpy(np.load(folder / file)).double()
    worst = max(worst, float((got - want).abs().max() / want.abs().max()))
print(worst)
"""


@pytest.mark.parametrize("kind", ["sample", "phi-2", "phi-3.5-moe"])
def test_they_are_those_of_the_whole_model(
    kind: str, sample_or_kind: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    source, _ = sample_or_kind(kind)
    _, told = collect_moments(source, tmp_path)
    config = json.loads((source / "config.json").read_text())
    switch = config.get("original_max_position_embeddings") or 512
    toolchain, code = ensure("reference", Silent()), Path(bot.__file__).parents[1]
    length = min(512, switch, told["tokens"])
    worst = run_python(toolchain, _COMPARE, code, source, tmp_path / "text", tmp_path / "moments", length)
    assert float(worst) < 1e-4


@pytest.fixture
def one_processor() -> Iterator[None]:
    """Let this process, and what it starts, have one processor: BLAS then has one thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("cold_toolchains")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux says how many processors there are")
def test_the_number_of_threads_changes_none(sample: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    _, several = collect_moments(sample, tmp_path / "several")
    request.getfixturevalue("one_processor")
    _, one = collect_moments(sample, tmp_path / "one", threads=1)
    assert one["sha256"] == several["sha256"]


def test_weights_that_are_not_finite_are_refused(sample: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(sample, tmp_path / "damaged"))
    weights = damaged / "model.safetensors"
    weights.chmod(0o644)
    content = bytearray(weights.read_bytes())
    size = 8 + int.from_bytes(content[:8], "little")
    place = json.loads(content[8:size])["model.layers.1.mlp.down_proj.weight"]["data_offsets"][0]
    content[size + place : size + place + 2] = b"\xc0\x7f"  # NaN in bfloat16
    weights.write_bytes(content)
    with pytest.raises(NotFiniteError, match=r"model.layers.1.mlp.down_proj.weight holds NaN"):
        collect_moments(damaged, tmp_path)
