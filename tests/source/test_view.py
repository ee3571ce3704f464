"""The staged view against transformers itself: what it makes of a checkpoint is what the view says plainly."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import source
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.source import read_header
from bot.toolchains.install import ensure
from tests.source.models import framed
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

LOGITS = """
import json, sys, torch
from transformers import AutoModelForCausalLM
ids = torch.arange(3, 40)[None]
found = []
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    with torch.no_grad():
        found.append(model(ids).logits[0])
print(json.dumps([[(found[0] - other).abs().max().item() for other in found], [f.std().item() for f in found]]))
"""

KINDS = """
import json, sys
from transformers import AutoConfig
found = []
for folder in sys.argv[1:]:
    c = AutoConfig.from_pretrained(folder, local_files_only=True)
    r = c.rope_parameters
    found.append([type(c).__name__, r["rope_type"], r.get("original_max_position_embeddings")])
print(json.dumps(found))
"""


def changed(sample: Path, folder: Path, change: Callable[[dict[str, Json]], dict[str, Json]]) -> Path:
    """Copy a model with another config.json."""
    shutil.copytree(sample, folder, copy_function=shutil.copyfile)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(change(config)))
    return folder


def staged(folder: Path) -> Path:
    source.check(folder)
    out = folder.with_name(f"{folder.name}-staged")
    source.stage(folder, out)
    return out


def equal_head(folder: Path) -> None:
    """Make the stored head of a model equal to its embedding."""
    path = folder / "model.safetensors"
    data, tensors = bytearray(path.read_bytes()), read_header(path)
    start = 8 + int.from_bytes(data[:8], "little")
    head, embedding = tensors["lm_head.weight"], tensors["model.embed_tokens.weight"]
    data[start + head.begin : start + head.end] = data[start + embedding.begin : start + embedding.end]
    path.write_bytes(bytes(data))


def without_head(folder: Path) -> None:
    """Store no head, as a model does whose head is its embedding."""
    path = folder / "model.safetensors"
    data, tensors = path.read_bytes(), read_header(path)
    start = 8 + int.from_bytes(data[:8], "little")
    kept, body = {}, b""
    for name, t in sorted(tensors.items(), key=lambda item: item[1].begin):
        if name != "lm_head.weight":
            kept[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [len(body), len(body) + t.end - t.begin]}
            body += data[start + t.begin : start + t.end]
    path.write_bytes(framed(json.dumps(kept | {"__metadata__": {"format": "pt"}}).encode(), body))


def test_the_view_predicts_the_same_as_transformers_from_the_original(sample: Path, tmp_path: Path) -> None:
    """Tied by its config, and stored all the same: differing, equal, or not at all; and the base's shards beside."""
    apart = changed(sample, tmp_path / "apart", lambda c: c | {"tie_word_embeddings": True})
    equal = changed(sample, tmp_path / "equal", lambda c: c | {"tie_word_embeddings": True})
    equal_head(equal)
    none = changed(sample, tmp_path / "none", lambda c: c | {"tie_word_embeddings": True})
    without_head(none)
    stale = changed(sample, tmp_path / "stale", lambda c: c)
    shutil.copyfile(equal / "model.safetensors", stale / "model-00001-of-00001.safetensors")
    index = dict.fromkeys(read_header(equal / "model.safetensors"), "model-00001-of-00001.safetensors")
    (stale / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    python = ensure("reference", Silent())
    folders = [sample, *(f for model in (apart, equal, none, stale) for f in (model, staged(model)))]
    away, spread = json.loads(run_python(python, LOGITS, *folders))
    (whole, *pairs), noise = away, 1e-4 * min(spread)
    apart_, equal_, none_, stale_ = (pairs[i : i + 2] for i in range(0, 8, 2))
    assert whole == 0
    assert max(apart_) < noise, "its own head"
    assert max(stale_) < noise, "the single file"
    assert min(equal_) > 100 * noise, "the embedding is its head"
    assert abs(equal_[0] - equal_[1]) < noise
    assert abs(none_[0] - none_[1]) < noise
    assert abs(none_[0] - equal_[0]) < noise


def test_transformers_reads_the_view_of_every_spelling(sample: Path, tmp_path: Path) -> None:
    def spelled(**changes: Json) -> Callable[[dict[str, Json]], dict[str, Json]]:
        return lambda config: config | {"rope_scaling": config["rope_scaling"] | changes}

    def inside(config: dict[str, Json]) -> dict[str, Json]:
        switch = config.pop("original_max_position_embeddings")
        return spelled(original_max_position_embeddings=switch)(config)

    def nameless(config: dict[str, Json]) -> dict[str, Json]:
        return config | {"architectures": None}

    def plain(config: dict[str, Json]) -> dict[str, Json]:
        del config["original_max_position_embeddings"]
        return config | {"rope_scaling": None}

    given = json.loads((sample / "config.json").read_text())
    changes = (spelled(type="su"), spelled(type="yarn"), inside, nameless, plain)
    views = [staged(changed(sample, tmp_path / str(n), change)) for n, change in enumerate(changes)]
    (*long, short) = json.loads(run_python(ensure("reference", Silent()), KINDS, *views))
    assert long == [["Phi3Config", "longrope", given["original_max_position_embeddings"]]] * 4
    assert short[:2] == ["Phi3Config", "default"]
    plain_view = json.loads((views[-1] / "config.json").read_text())
    assert plain_view["original_max_position_embeddings"] == given["max_position_embeddings"]
