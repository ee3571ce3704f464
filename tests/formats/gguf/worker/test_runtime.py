"""Verifying GGUF: which faults of a file are found, by which check, and how llama.cpp is run."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker import hostile, kinds
from tests.worker.running import MODEL, Built, build, distances, failures, measure, run_python
from tests.worker.stated import compared

pytestmark = pytest.mark.toolchain

Q8_0, F32 = (catalogue.all_variants()[f"gguf/{n}"] for n in ("q8_0", "f32"))
PAST_THE_SWITCH = "a context past the switch"

Verify = Callable[[Path], Json]


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture
def built(gguf_files: Built) -> Built:
    return gguf_files


@pytest.fixture
def artifact(built: Built, tmp_path: Path) -> Path:
    """A copy of the artifact of q8_0, to be damaged."""
    return Path(shutil.copytree(built.folders[Q8_0.name], tmp_path / "artifact"))


@pytest.fixture
def verify(toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path) -> Verify:
    """What is measured on an artifact of q8_0."""
    return lambda folder: measure(toolchain, folder, Q8_0, sample, few_windows, tmp_path / "log")


def the_file(folder: Path) -> Path:
    (file,) = folder.glob("*.gguf")
    file.chmod(0o644)
    return file


def replace(file: Path, old: bytes, new: bytes) -> None:
    """Write other bytes of the same length where they stand first."""
    content = file.read_bytes()
    assert old in content
    assert len(old) == len(new)
    file.write_bytes(content.replace(old, new, 1))


# ---- files ---------------------------------------------------------------------------------------------------


def test_a_whole_file_is_described_and_passes(built: Built, verify: Verify) -> None:
    measured = verify(built.folders[Q8_0.name])
    assert failures(measured) == {}
    assert {c["name"]: c["detail"] for c in measured["checks"]}["integrity"] == "1 GGUF file of 29 tensors, version 3"


def _remove(file: Path) -> None:
    file.unlink()


def _add_another(file: Path) -> None:
    shutil.copy(file, file.with_name("other.gguf"))


def _add_a_folder_with_a_file(file: Path) -> None:
    (file.parent / "code").mkdir()
    (file.parent / "code" / "model.py").write_text("")


def _cut(size: int) -> Callable[[Path], None]:
    def cut(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:size])

    return cut


def _lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + bytes(32))


def _rename_the_format(file: Path) -> None:
    replace(file, b"GGUF", b"GGJT")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove, "there are 0 GGUF files, where one is needed"),
        (_add_another, "there are 2 GGUF files, where one is needed"),
        (_add_a_folder_with_a_file, "code/model.py is not part of a GGUF file"),
        (_cut(-32), "is cut short: it has [0-9]+ bytes, by its header [0-9]+$"),
        (_cut(1000), "its header cannot be read"),
        (_cut(2), "its header cannot be read"),
        (_lengthen, "goes on behind its last tensor"),
        (_rename_the_format, "its header cannot be read .it does not begin with GGUF"),
    ],
    ids=lambda v: v.__name__.strip("_") if callable(v) else "",
)
def test_a_fault_of_the_files_is_found_before_anything_is_loaded(
    artifact: Path, verify: Verify, damage: Callable[[Path], None], said: str
) -> None:
    damage(the_file(artifact))
    measured = verify(artifact)
    assert list(failures(measured)) == ["integrity"]
    assert re.search(said, failures(measured)["integrity"])
    assert [c["name"] for c in measured["checks"]] == ["integrity"]


# ---- weights -------------------------------------------------------------------------------------------------

# Run with a file's tensors by name, as arrays of its own bytes: rows of blocks, each a scale in 16 bits and 32 weights.
DAMAGE = """
import sys, gguf, numpy as np
reader = gguf.GGUFReader(sys.argv[1], "r+")
t = {tensor.name: tensor.data for tensor in reader.tensors}
def swap(a, b):
    a[...], b[...] = b.copy(), a.copy()
exec(sys.argv[2])
reader.data.flush()
"""
FAULTS = {
    "an embedding row shifted": ("t['token_embd.weight'][700] = t['token_embd.weight'][701]", "row 700"),
    "a scale doubled": (
        "scale = t['blk.2.ffn_down.weight'][9, :2].view(np.float16); scale *= 2",
        r"model\.layers\.2\.mlp\.down_proj\.weight: row 9, columns 0 to 31",
    ),
    "two layers swapped": (
        "[swap(t[n], t[n.replace('blk.1', 'blk.3')]) for n in t if n.startswith('blk.1.')]",
        r"model\.layers\.1\.",
    ),
    "q rows permuted": (
        "t['blk.0.attn_qkv.weight'][:64] = t['blk.0.attn_qkv.weight'][:64][::-1].copy()",
        r"model\.layers\.0\.self_attn\.qkv_proj\.weight",
    ),
    "norm weights dropped": ("t['blk.0.attn_norm.weight'][:] = 1", r"model\.layers\.0\.input_layernorm\.weight"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_weights_is_found_and_the_tensor_named(
    artifact: Path, toolchain: Toolchain, verify: Verify, fault: str
) -> None:
    code, said = FAULTS[fault]
    run_python(toolchain, DAMAGE, the_file(artifact), code)
    assert re.search(said, failures(verify(artifact))["weights"])


def test_exchanged_short_and_long_factors_are_found(artifact: Path, toolchain: Toolchain, verify: Verify) -> None:
    run_python(
        toolchain,
        DAMAGE,
        the_file(artifact),
        "swap(t['rope_factors_short.weight'], t['rope_factors_long.weight'])",
    )
    assert list(failures(verify(artifact))) == ["rotary"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            b"attention.layer_norm_rms_epsilon" + struct.pack("<If", 6, 1e-5),
            b"attention.layer_norm_rms_epsilon" + struct.pack("<If", 6, 1e-4),
            "the epsilon of norms is 0.0001, the source's 1e-05",
        ),
        (
            b"attention.sliding_window" + struct.pack("<II", 4, 262144),
            b"attention.sliding_window" + struct.pack("<II", 4, 300),
            "the sliding window is 300, the source's 0",
        ),
        (
            b"attention.sliding_window" + struct.pack("<II", 4, 262144),
            b"attn_logit_softcapping__" + struct.pack("<If", 6, 50),
            "the metadata have phi3.attn_logit_softcapping__, which no Phi has",
        ),
    ],
)
def test_another_number_in_the_metadata_is_found(
    artifact: Path, sample: Path, toolchain: Toolchain, old: bytes, new: bytes, said: str
) -> None:
    assert "heads of keys and values: 2" in compared(toolchain, artifact, Q8_0, sample)
    replace(the_file(artifact), old, new)
    assert compared(toolchain, artifact, Q8_0, sample) == said


def test_a_tensor_under_another_name_is_found(artifact: Path, verify: Verify) -> None:
    replace(the_file(artifact), b"blk.3.ffn_norm.weight", b"blk.3.ffn_none.weight")
    found = failures(verify(artifact))
    assert "tensor 'blk.3.ffn_norm.weight' not found" in found["loading"]
    assert found["weights"].endswith("the artifact has a tensor blk.3.ffn_none.weight that the source does not have")


@pytest.mark.parametrize("kind", ["phi-3-mini-4k", "phi-4-mini", "phi-3.5-moe"])
def test_every_weight_of_other_kinds_is_found(
    toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path, kind: str
) -> None:
    """Random weights: fused, tied and stacked ones. The reference is another model's, so only the weights can pass."""
    source = kinds.make(kind, sample, toolchain, tmp_path / "source")
    result = build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")
    reference = Path(shutil.copytree(few_windows, tmp_path / "reference"))
    content = json.loads((reference / "reference.json").read_text())
    if kind == "phi-4-mini":
        content["head"]["weight"] = "model.embed_tokens.weight"
    (reference / "reference.json").write_text(json.dumps(content))
    measured = measure(toolchain, result.folders[Q8_0.name], Q8_0, source, reference, tmp_path / "log")
    (check,) = (c for c in measured["checks"] if c["name"] == "weights")
    assert (check["passed"], "the largest relative error is 0.5" in check["detail"]) == (True, True), check


# ---- text ----------------------------------------------------------------------------------------------------


def test_another_template_is_found(artifact: Path, verify: Verify) -> None:
    replace(the_file(artifact), b"message['content'] + '<|end|>\n'", b"message['content'] + '<|end|>\t'")
    found = failures(verify(artifact))
    assert list(found) == ["chat template"]
    assert r"<|end|>\t" in found["chat template"]


def test_a_missing_template_is_found(artifact: Path, verify: Verify) -> None:
    replace(the_file(artifact), b"tokenizer.chat_template", b"tokenizer.chat_nothings")
    assert failures(verify(artifact)) == {"chat template": "ValueError: the file has no chat template"}


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_template_that_means_harm_is_stopped(toolchain: Toolchain, kind: str) -> None:
    code = f"""
import json, sys
sys.path.insert(0, sys.argv[1])
from bot.sandbox.rendering import texts
class runtime:
    def render(chats):
        given = {{"template": {hostile.TEMPLATES[kind]!r}, "bos": "", "eos": ""}}
        return texts("bot.formats.gguf.worker.rendering", given, chats)
{hostile.CODE}
print(json.dumps(said))
"""
    assert hostile.stopped(json.loads(run_python(toolchain, code, Path(bot.__file__).parents[1])))


def test_a_turn_that_does_not_end_is_found(artifact: Path, verify: Verify) -> None:
    token = (7).to_bytes(8, "little") + b"<|end|>"
    replace(the_file(artifact), token, token.replace(b"end", b"fin"))
    found = failures(verify(artifact))
    assert found["stop tokens"] == "generating does not end at '<|fin|>'"
    assert "tokenizer" in found


# ---- running -------------------------------------------------------------------------------------------------


def test_a_context_past_the_switch_changes_short_texts_unless_the_override_keeps_their_factors(
    built: Built, toolchain: Toolchain, sample: Path, reference: Path, tmp_path: Path
) -> None:
    """Measured: 0.050 nats per token for the same weights in float32, where the smallest context has 0.000."""
    measured = measure(toolchain, built.folders[F32.name], F32, sample, reference, tmp_path / "log")
    override = f"{PAST_THE_SWITCH} and --override-kv phi3.rope.scaling.original_context_length=int:4096"
    settings = {d["setting"] for d in measured["distances"]}
    assert settings == {"", PAST_THE_SWITCH, override}
    assert distances(measured, PAST_THE_SWITCH)["short"].figures.mean_kl > 0.01
    for setting in ("", override):
        assert abs(distances(measured, setting)["short"].figures.mean_kl) < 1e-5


# Prints by how much rows of logits differ that are asked for with and without the others.
ROWS = f"""
import sys
sys.path.insert(0, {str(Path(bot.__file__).parent.parent)!r})
from pathlib import Path
from bot.formats.gguf.worker.runtime import Runtime
runtime = Runtime(Path(sys.argv[1]), 2)
ids = [(7 * i) % 1900 + 3 for i in range(700)]
whole = runtime.logits(ids, range(700))
assert whole.shape == (700, 2048), whole.shape
for positions in (range(400, 700), range(4, 700, 3), [0], [255, 256, 699], [699]):
    some = runtime.logits(ids, positions)
    assert some.shape == (len(positions), 2048), some.shape
    print(abs(whole[list(positions)] - some).max())  # a product with few rows sums in another order
"""


def test_rows_of_logits_are_the_same_whether_or_not_others_are_asked_for(built: Built, toolchain: Toolchain) -> None:
    file = built.folders[F32.name] / f"{MODEL}-F32.gguf"
    differences = [float(d) for d in run_python(toolchain, ROWS, file).split()]
    assert len(differences) == 5
    assert max(differences) < 1e-4
