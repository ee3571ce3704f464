"""A copy of a Phi, read as Phi-3, computes what its own class computes; and every format proves it so."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import source
from bot.progress import Silent
from bot.source.folder import WRITTEN
from bot.toolchains.install import ensure
from tests.toolchain_fixtures import compute_reference
from tests.worker.kinds import COPIES
from tests.worker.running import assert_built_as, run_python

pytestmark = pytest.mark.toolchain

# The classes that read two folders, the shape of the logits, their largest difference, and how far they spread.
LOGITS = """
import json, sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
ids = torch.randint(3, 2000, (1, int(sys.argv[3])), generator=torch.Generator().manual_seed(0))
classes, found = [], []
for folder in sys.argv[1:3]:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    classes.append(type(model).__name__)
    with torch.no_grad():
        found.append(model(ids).logits[0])
difference = (found[0] - found[1]).abs().max().item()
print(json.dumps([classes, list(found[0].shape), difference, found[0].std().item()]))
"""

KindOf = Callable[[str], tuple[Path, Path]]


def staged(folder: Path, out: Path) -> Path:
    source.check(folder)
    source.stage(folder, out)
    return out


@pytest.mark.parametrize(("kind", "tokens"), [*((kind, 256) for kind in COPIES), ("llama-longrope", 512)])
def test_the_joined_matrices_compute_what_the_copy_s_own_class_does(
    kind_of_phi: KindOf, tmp_path: Path, kind: str, tokens: int
) -> None:
    view = staged(kind_of_phi(kind)[0], tmp_path / "view")
    printed = run_python(ensure("reference", Silent()), LOGITS, view, view / WRITTEN, tokens)
    classes, shape, difference, spread = json.loads(printed)
    assert classes == ["Phi3ForCausalLM", COPIES[kind]["architectures"][0]]
    assert shape == [tokens, 2048]
    assert spread > 0.1
    assert difference == 0


def proven(kind: str, variant: str, *, sweep: bool = False) -> object:
    return pytest.param(kind, variant, marks=pytest.mark.sweep if sweep else ())


@pytest.mark.parametrize(
    ("kind", "variant"),
    [
        proven("llama-longrope", "gguf/q8_0"),
        proven("llama-longrope", "mlx/8bit", sweep=True),
        proven("mistral", "onnx/cpu-int8"),  # the others leave a sliding window out
        proven("mistral", "openvino/int8", sweep=True),
    ],
)
def test_a_format_is_proven_against_the_copy_s_own_class(
    kind_of_phi: KindOf, tmp_path: Path, kind: str, variant: str
) -> None:
    view = staged(kind_of_phi(kind)[0], tmp_path / "view")
    compute_reference(view / WRITTEN, tmp_path / "reference", tokenizer=view)
    assert_built_as(view, tmp_path / "reference", variant, tmp_path)
