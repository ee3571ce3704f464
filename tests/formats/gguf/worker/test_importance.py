"""Importance matrices: what they are sums of, as llama.cpp's own file, and in what is quantized by them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bot
from bot import catalogue, texts
from bot.errors import BuildError
from bot.progress import Silent
from bot.records.tasks import BuildTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import Supervision, run_worker
from bot.toolchains.install import ensure
from tests.worker.running import Built, build, measure_importance, run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parent.parent
IQ2_M, Q2_K, F32 = (catalogue.all_variants()[f"gguf/{n}"] for n in ("iq2_m", "q2_k", "f32"))
TOKENS = 1024  # of the tests' text: two chunks


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def model(toolchain: Toolchain, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's own weights as a GGUF file."""
    return f32(toolchain, sample, tmp_path_factory.mktemp("model"))


def f32(toolchain: Toolchain, source: Path, folder: Path) -> Path:
    return next(build(toolchain, source, [F32], folder / "job", log=folder / "log").folders[F32.name].iterdir())


# Prints the ids of the chunks that a text is read in.
IDS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.formats.gguf.worker.importance import _tokens
from bot.formats.gguf.worker.llama import LlamaModel
print(json.dumps(_tokens(LlamaModel(Path(sys.argv[2])), Path(sys.argv[3]).read_text())))
"""

# Prints what is in the file of a matrix: its header, and each tensor's shape and numbers.
READ = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import gguf
from bot.formats.gguf.worker.importance import read
reader = gguf.GGUFReader(sys.argv[2])
matrix = read(Path(sys.argv[2]))
print(json.dumps({
    "header": {f.name: f.contents() for f in reader.fields.values() if not f.name.startswith("GGUF.")},
    "shapes": {t.name: t.shape.tolist() for t in reader.tensors},
    "counts": {t.name: t.data.ravel().tolist() for t in reader.tensors if t.name.endswith(".counts")},
    "sums": {t.name: t.data.ravel().tolist() for t in reader.tensors if t.name.endswith(".in_sum2")},
    "entries": {name: entry.tolist() for name, entry in matrix.entries.items()},
    "said": list(matrix.metadata()),
}))
"""

# Prints the sums of squares of what comes into the matrices of a Phi-3, in transformers.
ORIGINAL = """
import json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids, sums = json.loads(sys.argv[2]), {}
names = {"qkv_proj": "attn_qkv", "o_proj": "attn_output", "gate_up_proj": "ffn_up", "down_proj": "ffn_down"}

def follow(name):
    def hook(module, inputs):
        squares = inputs[0].double().square().sum((0, 1))
        sums[name] = squares + sums[name] if name in sums else squares
    return hook

for path, module in model.named_modules():
    parts = path.split(".")
    if parts[-1] in names:
        module.register_forward_pre_hook(follow(f"blk.{parts[2]}.{names[parts[-1]]}.weight.in_sum2"))
with torch.inference_mode():
    for start in range(0, len(ids), 512):
        model(torch.tensor([ids[start : start + 512]]))
print(json.dumps({name: values.tolist() for name, values in sums.items()}))
"""


def text_of(toolchain: Toolchain, model: Path, folder: Path) -> tuple[str, list[int]]:
    """Return a text of two chunks and a little more, and the ids of the two."""
    folder.mkdir()
    text = "\n\n".join(texts.training())[:4500]
    (folder / "text").write_text(text)
    ids = json.loads(run_python(toolchain, IDS, ROOT, model, folder / "text"))
    assert TOKENS <= len(ids) < TOKENS + 512
    return text, ids[:TOKENS]


def contents(toolchain: Toolchain, file: Path) -> Any:
    return json.loads(run_python(toolchain, READ, ROOT, file))


def test_sums_are_those_of_the_original(toolchain: Toolchain, sample: Path, model: Path, tmp_path: Path) -> None:
    text, ids = text_of(toolchain, model, tmp_path / "text")
    found = contents(toolchain, measure_importance(toolchain, model, tmp_path / "out", text))
    expected = json.loads(run_python(ensure("reference", Silent()), ORIGINAL, sample, json.dumps(ids)))
    assert found["sums"].keys() == expected.keys()
    for name, sums in expected.items():
        differences = [abs(a - b) / (b + 1e-3 * max(sums)) for a, b in zip(found["sums"][name], sums, strict=True)]
        assert max(differences) < 0.01, name  # llama.cpp keeps keys and values in 16 bits


def test_the_file_is_as_llama_cpp_has_it(toolchain: Toolchain, model: Path, tmp_path: Path) -> None:
    text, _ = text_of(toolchain, model, tmp_path / "text")
    found = contents(toolchain, measure_importance(toolchain, model, tmp_path / "out", text))
    assert found["header"] == {
        "general.type": "imatrix",
        "imatrix.datasets": ["text.txt"],
        "imatrix.chunk_count": 2,
        "imatrix.chunk_size": 512,
    }
    assert set(map(tuple, found["counts"].values())) == {(TOKENS,)}
    for name, entry in found["entries"].items():
        sums = found["sums"][f"{name}.in_sum2"]
        assert found["shapes"][f"{name}.in_sum2"] == [len(sums), 1]
        assert found["shapes"][f"{name}.counts"] == [1, 1]
        assert entry == pytest.approx([s / TOKENS for s in sums], rel=1e-6)
    assert dict(found["said"]) == {
        "quantize.imatrix.file": "imatrix.gguf",
        "quantize.imatrix.dataset": "text.txt",
        "quantize.imatrix.entries_count": len(found["entries"]),
        "quantize.imatrix.chunks_count": 2,
    }


def test_the_experts_of_a_mixture_are_measured_apart(
    toolchain: Toolchain, sample_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source = sample_of("phi-3.5-moe")
    config = json.loads((source / "config.json").read_text())
    model = f32(toolchain, source, tmp_path / "model")
    text, _ = text_of(toolchain, model, tmp_path / "text")
    found = contents(toolchain, measure_importance(toolchain, model, tmp_path / "out", text))
    of_experts = {n: c for n, c in found["counts"].items() if "_exps" in n}
    assert len(of_experts) == 3 * config["num_hidden_layers"]
    for name, counts in of_experts.items():
        assert len(counts) == config["num_local_experts"]
        assert sum(counts) == TOKENS * config["num_experts_per_tok"]
        assert len(found["sums"][name.replace("counts", "in_sum2")]) % len(counts) == 0


def test_a_text_shorter_than_a_chunk_is_refused(toolchain: Toolchain, model: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"the text has \d+ tokens; an importance matrix takes 512 at least"):
        measure_importance(toolchain, model, tmp_path / "out", "too short")


# Prints the metadata of a model that say what it was quantized by.
SAID = """
import json, sys, gguf
fields = gguf.GGUFReader(sys.argv[1]).fields.values()
print(json.dumps({f.name: f.contents() for f in fields if f.name.startswith("quantize.")}))
"""


def test_a_file_names_its_importance_matrix(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    built = build(toolchain, sample, [Q2_K, IQ2_M], tmp_path / "job", log=tmp_path / "log")
    assert built.failures == {}
    for variant in (Q2_K, IQ2_M):
        said = json.loads(run_python(toolchain, SAID, next(built.folders[variant.name].iterdir())))
        assert said.pop("quantize.imatrix.entries_count") == 16
        assert said.pop("quantize.imatrix.chunks_count") > 10
        assert said == {"quantize.imatrix.file": "imatrix.gguf", "quantize.imatrix.dataset": "text.txt"}


def test_without_a_matrix_only_the_variants_that_need_one_fail(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    plain = replace(Q2_K, name="gguf/plain", options={"ftype": "Q2_K"})
    built = Built(folders={v.name: tmp_path / v.short_name for v in (Q2_K, plain)})
    for folder in (*built.folders.values(), tmp_path / "scratch"):
        folder.mkdir()
    targets = tuple(Target(variant=v, out=str(built.folders[v.name])) for v in (Q2_K, plain))
    task = BuildTask(
        source=str(sample), model_name="Phi", targets=targets, scratch=str(tmp_path / "scratch"), threads=2
    )
    run_worker(
        toolchain,
        "bot.formats.gguf.worker",
        "build",
        task,
        Supervision(log=tmp_path / "log", on_event=built.events.append),
    )
    assert built.failures == {Q2_K.name: "it takes an importance matrix, and none is given"}
    assert built.names == [plain.name]
    assert not list(built.folders[Q2_K.name].iterdir())
