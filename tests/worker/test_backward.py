"""One backward pass says what rounding each matrix costs: near to what it does cost, and the same by any number of
threads, and of a source that streams."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import find_sensitivities, run_python

pytestmark = pytest.mark.toolchain

# Prints of some matrices what the probe costs by the sensitivities, and the KL of a model with it in their place.
_COMPARE = """
import json, sys
from pathlib import Path
import numpy as np, torch
from transformers import AutoModelForCausalLM
sys.path.insert(0, sys.argv[1])
from bot.worker.backward import _windows
from bot.worker.conversations import encode
from bot.worker.sensitivities import probe
from bot.worker.tokens import read_tokenizer

source, text, folder = Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
index = json.loads((folder / "sensitivities.json").read_text())
ids = torch.from_numpy(_windows(encode(read_tokenizer(source), text.read_text()), 128))
assert ids.numel() == index["tokens"], (ids.numel(), index["tokens"])
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
weights = dict(model.named_parameters())
chosen = [n for n in index["matrices"] if ".layers.1." in n or ".layers." not in n]
with torch.inference_mode():
    before = torch.log_softmax(model(ids).logits, -1)
    for name in chosen:
        was = weights[name].clone()
        weights[name] += torch.from_numpy(probe(was.numpy()))
        after = torch.log_softmax(model(ids).logits, -1)
        weights[name].copy_(was)
        kl = float((before.exp() * (before - after)).sum(-1).mean())
        print(json.dumps([name, float(sum(np.mean(u["nats"]) for u in index["matrices"][name]["uses"])), kl]))
"""


def test_they_say_what_rounding_a_matrix_costs(sample: Path, tmp_path: Path) -> None:
    """Tokens are drawn, and there are few: so a half more or less is near, over costs that differ a hundredfold."""
    folder, told = find_sensitivities(sample, tmp_path)
    said = run_python(
        ensure("reference", Silent()), _COMPARE, Path(bot.__file__).parents[1], sample, tmp_path / "text", folder
    )
    found = [json.loads(line) for line in said.splitlines()]
    assert len(found) >= 5
    for name, predicted, kl in found:
        assert kl / 2 < predicted < 2 * kl, (name, predicted, kl)
    assert sum(p for _, p, _ in found) == pytest.approx(sum(kl for *_, kl in found), rel=0.35)
    assert told["tokens"] == json.loads((folder / "sensitivities.json").read_text())["tokens"]


def test_the_number_of_threads_changes_none(sample: Path, tmp_path: Path) -> None:
    several, one = (find_sensitivities(sample, tmp_path / str(n), threads=n)[1] for n in (2, 1))
    assert one["sha256"] == several["sha256"]


def test_a_source_that_streams_is_read_forth_and_back(sample: Path, tmp_path: Path) -> None:
    _, whole = find_sensitivities(sample, tmp_path / "whole")
    _, streamed = find_sensitivities(sample, tmp_path / "streamed", streamed=True)
    assert streamed["sha256"] == whole["sha256"]


def test_of_a_mixture_nothing_is_known(sample_or_kind: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    source, _ = sample_or_kind("phi-3.5-moe")
    folder, _ = find_sensitivities(source, tmp_path)
    assert json.loads((folder / "sensitivities.json").read_text())["matrices"] == {}
