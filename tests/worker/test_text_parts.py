"""The text part of a Phi with pictures and speech computes what transformers' own class for the whole model does."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bot import source
from bot.progress import Silent
from bot.source import read_header
from bot.toolchains.install import ensure
from tests.source.models import framed, header
from tests.source.test_joined import bytes_of
from tests.source.text_parts import PHI4MM, TOWERS, stored_name
from tests.toolchain_fixtures import compute_reference
from tests.worker.running import assert_built_as, run_python

pytestmark = pytest.mark.toolchain

KindOf = Callable[[str], tuple[Path, Path]]

# The classes of two models, the shape of the logits, their largest difference, and how far they spread. The second is
# made of the checkpoint as it is stored, with small towers of its own that a text does not reach.
LOGITS = """
import json, sys, torch
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM, Phi4MultimodalConfig, Phi4MultimodalForCausalLM
torch.set_num_threads(1)
ids = torch.randint(3, 2000, (1, 512), generator=torch.Generator().manual_seed(0))
view = Phi3ForCausalLM.from_pretrained(sys.argv[1], local_files_only=True, dtype=torch.float32).eval()
stored = json.load(open(sys.argv[2] + "/config.json"))
small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
of_towers = ("architectures", "audio_processor", "auto_map", "embd_layer", "img_processor", "model_type")
config = Phi4MultimodalConfig(
    **{k: v for k, v in stored.items() if k not in of_towers and not k.endswith("_lora")},
    vision_config=small | {"num_hidden_layers": 2},
    audio_config=small | {"num_blocks": 1, "nemo_conv_channels": 8, "ext_pw_out_channel": 32,
                          "depthwise_separable_out_channel": 32},
)
whole = Phi4MultimodalForCausalLM(config).float().eval()
weights = load_file(sys.argv[2] + "/model.safetensors")
mine = {k.replace(".base_layer.", "."): v.float() for k, v in weights.items() if ".lora_" not in k}
found = whole.load_state_dict({k: v for k, v in mine.items() if "embed_tokens_extend" not in k}, strict=False)
assert not found.unexpected_keys, found.unexpected_keys
assert all("embed_tokens_extend" in k or k == "lm_head.weight" for k in found.missing_keys), found.missing_keys
whole.tie_weights()
with torch.no_grad():
    one, other = view(ids).logits[0], whole(ids).logits[0]
classes = [type(m).__name__ for m in (view, whole)]
print(json.dumps([classes, list(one.shape), (one - other).abs().max().item(), one.std().item()]))
"""


def multimodal(phi: Path, out: Path) -> Path:
    """Save a Phi-4-mini as the text part of a Phi-4-multimodal, whose adapters would change much were they applied."""
    out.mkdir()
    for path in phi.iterdir():
        if path.name.startswith("tokenizer"):
            (out / path.name).write_bytes(path.read_bytes())
    config = json.loads((phi / "config.json").read_text())
    towers = {k: v for k, v in PHI4MM.items() if k not in config or k in ("architectures", "model_type")}
    (out / "config.json").write_text(json.dumps(config | towers))
    text, data = read_header(phi / "model.safetensors"), bytes_of(phi)
    of = {stored_name("phi4mm", name): (t.dtype, list(t.shape)) for name, t in text.items()}
    content = {stored_name("phi4mm", name): data[name] for name in text}
    random = np.random.default_rng(0)
    for name, (dtype, shape) in _beside(of).items():
        of[name] = (dtype, shape)
        half = random.standard_normal(int(np.prod(shape))).astype(np.float32).view(np.uint32) >> 16
        content[name] = half.astype(np.uint16).tobytes()
    head = json.dumps(header(of)).encode()
    (out / "model.safetensors").write_bytes(framed(head, b"".join(content[name] for name in of)))
    return out


def _beside(of: dict[str, tuple[str, list[int]]]) -> dict[str, tuple[str, list[int]]]:
    found = {name: t for name, t in TOWERS["phi4mm"].items() if ".lora_" not in name}
    for name, (dtype, shape) in of.items():
        if name.endswith(".base_layer.weight"):
            matrix = name.removesuffix(".base_layer.weight")
            for given in ("speech", "vision"):
                found[f"{matrix}.lora_A.{given}.weight"] = (dtype, [4, shape[1]])
                found[f"{matrix}.lora_B.{given}.weight"] = (dtype, [shape[0], 4])
    return found


@pytest.fixture
def view(kind_of_phi: KindOf, tmp_path: Path) -> Path:
    folder = multimodal(kind_of_phi("phi-4-mini")[0], tmp_path / "model")
    source.check(folder)
    source.stage(folder, tmp_path / "view")
    return tmp_path / "view"


def test_it_is_what_transformers_own_class_computes_of_a_text(view: Path) -> None:
    printed = run_python(ensure("reference", Silent()), LOGITS, view, view.with_name("model"))
    classes, shape, difference, spread = json.loads(printed)
    assert classes == ["Phi3ForCausalLM", "Phi4MultimodalForCausalLM"]
    assert shape == [512, 2048]  # past LongRoPE's switch
    assert spread > 0.1
    assert difference == 0


@pytest.mark.parametrize(
    "variant",
    [
        "gguf/q8_0",
        *(pytest.param(v, marks=pytest.mark.sweep) for v in ("onnx/cpu-int8", "openvino/int8", "mlx/8bit")),
    ],
)
def test_a_format_is_proven_against_it(view: Path, tmp_path: Path, variant: str) -> None:
    compute_reference(view, tmp_path / "reference")
    assert_built_as(view, tmp_path / "reference", variant, tmp_path)
