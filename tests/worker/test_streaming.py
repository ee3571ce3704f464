"""A model that is read layer by layer says what it says when it is loaded whole."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.kinds import COPIES, KINDS
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

# Prints, for each window, by how much the log-probabilities differ most. PhiMoE's rotary embedding is replaced by what
# the code in Microsoft's own repo computes: one set of factors, and one scale, by whether the text passes the switch.
_COMPARE = """
import json, sys
from pathlib import Path
import numpy as np, torch
from transformers import AutoModelForCausalLM
sys.path.insert(0, sys.argv[1])
from bot.worker.head import Head

source, folder = Path(sys.argv[2]), Path(sys.argv[3])
reference = json.loads((folder / "reference.json").read_text())
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
config = json.loads((source / "config.json").read_text())

def rotary(states, position_ids):
    scaling = config["rope_scaling"]
    side = "long" if position_ids.shape[-1] > scaling["original_max_position_embeddings"] else "short"
    size = config["hidden_size"] // config["num_attention_heads"]
    speed = 1 / (torch.tensor(scaling[side + "_factor"]) * config["rope_theta"] ** (torch.arange(0, size, 2) / size))
    angles = (position_ids[0, :, None] * speed).repeat(1, 2)[None]
    return angles.cos() * scaling[side + "_mscale"], angles.sin() * scaling[side + "_mscale"]

if config["model_type"] == "phimoe":
    model.model.rotary_emb.forward = rotary
for window in reference["windows"]:
    with torch.inference_mode():
        logits = model(torch.tensor([window["ids"]])).logits[0, window["scored"]]
    streamed = torch.tensor(Head(source, reference["head"]).logits(np.load(folder / window["file"])))
    want, got = (torch.log_softmax(x.double(), dim=-1) for x in (logits, streamed))
    print(window["file"], float((got - want).abs().max()))
"""


@pytest.mark.parametrize("kind", ["sample", *KINDS, *COPIES])
def test_streamed_weights_give_the_same_as_the_whole_model(
    kind: str, sample_or_kind: Callable[[str], tuple[Path, Path]]
) -> None:
    source, reference = sample_or_kind(kind)
    printed = run_python(
        ensure("reference", Silent()), _COMPARE, Path(bot.__file__).parents[1], source, reference
    ).splitlines()
    differences = {name: float(value) for name, value in map(str.split, printed)}
    assert set(differences) == {w["file"] for w in json.loads((reference / "reference.json").read_text())["windows"]}
    assert max(differences.values()) < 1e-4, differences


@pytest.mark.parametrize(
    ("kind", "weight", "bias"),
    [
        ("phi-3-mini-4k", "lm_head.weight", None),
        ("phi-4-mini", "model.embed_tokens.weight", None),
        ("phi-2", "lm_head.weight", "lm_head.bias"),
    ],
)
def test_the_output_matrix_is_named_as_the_checkpoint_names_it(
    kind: str, weight: str, bias: str | None, kind_of_phi: Callable[[str], tuple[Path, Path]]
) -> None:
    _, reference = kind_of_phi(kind)
    assert json.loads((reference / "reference.json").read_text())["head"] == {"weight": weight, "bias": bias}
