"""Muon: steps as its authors describe them, in float32."""

import json
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import run_python

_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from bot.worker.sample.muon import Muon, orthogonal

torch.manual_seed(0)
singular = {}
for shape in ((64, 96), (96, 64), (64, 64)):
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))
    singular[str(shape)] = torch.linalg.svdvals(orthogonal(matrix))[[0, -1]].tolist()

target, matrix = torch.randn(32, 48), torch.nn.Parameter(torch.zeros(32, 48))
stock = torch.nn.Parameter(torch.zeros(32, 48))
optimizers = {
    "ours": (Muon([matrix], lr=0.2), matrix),
    "stock": (torch.optim.Muon([stock], lr=0.2, weight_decay=0.0), stock),
}
for _ in range(40):
    for optimizer, moved in optimizers.values():
        optimizer.zero_grad()
        (moved - target).square().sum().backward()
        optimizer.step()
apart = ((matrix - stock).norm() / stock.norm()).item()
print(json.dumps({"singular": singular, "apart": apart, "left": ((matrix - target).norm() / target.norm()).item()}))
"""


@pytest.mark.toolchain
def test_a_step_has_orthogonal_rows_or_columns_and_goes_where_that_of_pytorch_goes() -> None:
    found = json.loads(run_python(ensure("reference", Silent()), _PROGRAM, Path(bot.__file__).parents[1]))
    for least_and_most in found["singular"].values():
        assert all(0.6 < value < 1.3 for value in least_and_most)
    assert found["left"] < 0.5
    assert found["apart"] < 0.02  # PyTorch's rounds to bfloat16 on the way
