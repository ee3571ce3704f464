"""An adapter's whole journey: it is merged as its base is read, proven, and published with the commits of both."""

import json
from pathlib import Path

import numpy as np
import pytest

from bot.hub import client
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.source import read_header
from bot.toolchains.install import ensure
from tests.e2e.world import MODEL, make_world
from tests.source.adapters import LORA, stored
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

REPO = "someone/phi-3.5-sample-lora"
RANK, ALPHA = 8, 16

# What peft documents, by torch: the base and the scaled product in float32, rounded once, and rounded twice, as peft
# does in place in a base of 16 bits. Prints, of all changed tensors, the share of numbers that differ from the first,
# and the largest distances from both, in parts of the larger of what was summed.
FORMULA = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import load_file
torch.set_num_threads(1)
base, adapter, merged = (
    {k: v for file in Path(folder).glob("*.safetensors") for k, v in load_file(file).items()}
    for folder in sys.argv[1:4]
)
unequal, count, apart = 0, 0, [0.0, 0.0]
assert merged.keys() == base.keys()
for name, was in base.items():
    start = "base_model.model." + name.removesuffix(".weight")
    low, high = (adapter.get(f"{start}.lora_{x}.weight") for x in "AB")
    if low is None:
        assert torch.equal(was, merged[name]), name
        continue
    delta = (high @ low) * float(sys.argv[4])
    once, twice = (was.float() + delta).to(was.dtype), was + delta.to(was.dtype)
    unequal += (once != merged[name]).sum().item()
    count += was.numel()
    scale = torch.maximum(was.float().abs(), delta.abs())
    for i, wanted in enumerate((once, twice)):
        apart[i] = max(apart[i], ((wanted.float() - merged[name].float()).abs() / scale).max().item())
    assert not torch.equal(was, merged[name])
print(json.dumps([unequal / count, *apart]))
"""


def adapter_of(sample: Path) -> dict[str, bytes]:
    """Return the files of an adapter that changes what the sample says."""
    drawn, tensors = np.random.default_rng(0), {}
    names = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    for name, tensor in read_header(sample / "model.safetensors").items():
        module = name.removesuffix(".weight")
        if module.endswith(names):
            rows, inputs = tensor.shape
            start = f"base_model.model.{module}"
            tensors[f"{start}.lora_A.weight"] = drawn.standard_normal((RANK, inputs)).astype("<f4") / inputs**0.5
            tensors[f"{start}.lora_B.weight"] = drawn.standard_normal((rows, RANK)).astype("<f4") * 0.02
    config = LORA | {"base_model_name_or_path": MODEL, "r": RANK, "lora_alpha": ALPHA, "target_modules": list(names)}
    return {
        "README.md": f"---\nbase_model: {MODEL}\nlibrary_name: peft\n---\n".encode(),
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": stored(tensors),
    }


def test_an_adapter_is_merged_proven_and_published(released: RunningHub, sample: Path, tmp_path: Path) -> None:
    world, files = make_world(released, tmp_path / "world"), adapter_of(sample)
    hub = client.connect(released.url, released.token)
    with Silent().task("adapter") as task:
        own = hub.commit(REPO, files=files, parent=None, message="Adapter", task=task)
    base = hub.release(MODEL).commit
    assert base is not None

    report = world.run(REPO, "--variants", "gguf/q8_0")
    assert report.failures == ()
    [publication] = report.publications
    [proven] = publication.builds
    assert proven.evidence.passed
    assert (proven.build.source.repo_id, proven.build.source.commit) == (REPO, own)
    assert proven.build.base is not None
    assert (proven.build.base.repo_id, proven.build.base.commit) == (MODEL, base)
    found = hub.read_files(publication.repo_id, ["README.md", "phi-bot.json"])
    assert found is not None
    card, record = found[0]["README.md"].decode(), json.loads(found[0]["phi-bot.json"])
    assert f"{MODEL}/tree/{base}" in card
    assert f"{REPO}/tree/{own}" in card
    assert record["builds"][0]["build"]["base"]["commit"] == base

    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(files["adapter_model.safetensors"])
    [merged] = (world.folder / "work" / "staged").iterdir()
    python = ensure("reference", Silent())
    printed = run_python(python, FORMULA, sample, tmp_path / "lora", merged, ALPHA / RANK)
    unequal, once, twice = json.loads(printed)
    assert unequal < 1e-4  # torch sums in float32
    assert once <= 2 * 2.0**-8  # one rounding of a sum, which may be twice as large as what was summed
    assert twice <= 5 * 2.0**-8  # one more of what is added, and the sum's again
