"""Plain rounding: levels on paper, and a model that is rounded layer by layer says what it says when loaded whole."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

CODE = Path(bot.__file__).parents[1]
_BEGIN = """
import json, sys
import torch
sys.path.insert(0, sys.argv[1])
from bot.worker import plain

def rounded(precision, *rows):
    return plain.rounded(torch.tensor(rows), plain.ROUNDINGS[precision]).tolist()
"""

# The largest magnitude of the first block is -8, so its scale is 1; that of the second is 8, so its scale is -1. What
# is beyond the last level becomes that. The third block is shorter, and nothing but zeros.
_LEVELS = """
block = [-8.0, 7.6, 3.2, 2.5, 3.5, -0.4] + [0.0] * 26
(row,) = rounded("int4", [*block, *(-v for v in block), 0.0, 0.0])
(whole,) = rounded("int8", [-128.0, 1.4] + [0.0] * 30 + [0.6, 0.4])
print(json.dumps([row[:6], row[32:38], row[64:], whole[:2], whole[32:]]))
"""

# Root mean squares of errors of many normal values.
_ERRORS = """
values = torch.randn(256, 96, generator=torch.Generator().manual_seed(0))
errors = {p: (plain.rounded(values, r) - values).square().mean().sqrt().item() for p, r in plain.ROUNDINGS.items()}
print(json.dumps(errors))
"""

_PRODUCT = """
states, weight = torch.randn(5, 70), torch.randn(40, 70)
roundings = [plain.ROUNDINGS["int3"], plain.ROUNDINGS["fp16"], plain.ROUNDINGS["int8"]]
got = plain.product(states, weight, roundings, [2, 0, 3])
want = torch.cat([s @ plain.rounded(weight, r).T for s, r in zip(states.split([2, 0, 3]), roundings)])
print((got - want).abs().max().item())
"""

# Prints, by precision, the largest difference between the KL in a reference and that of a whole model with rounded
# weights. Its router of experts is not rounded; experts are, each by itself, and rows of one matrix are independent.
_WHOLE = """
from pathlib import Path
from transformers import AutoModelForCausalLM
source, folder = Path(sys.argv[2]), Path(sys.argv[3])
reference = json.loads((folder / "reference.json").read_text())
windows = {w["file"]: w for w in reference["windows"]}

def logits(precision):
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    for name, weights in model.named_parameters():
        if precision and weights.ndim > 1 and ".router." not in name:
            rows = weights.detach().flatten(0, -2)
            weights.data = plain.rounded(rows, plain.ROUNDINGS[precision]).view(weights.shape).clone()
    with torch.inference_mode():
        return [
            model(torch.tensor([windows[file]["ids"][:32]])).logits[0, 4:32].double().log_softmax(-1)
            for file in reference["plain_windows"]
        ]

want = logits(None)
for precision in ("int2", "int4", "int8"):
    kl = [(w.exp() * (w - g)).sum(-1) for w, g in zip(want, logits(precision))]
    difference = max(float((torch.tensor(r) - k).abs().max()) for r, k in zip(reference["plain"][precision], kl))
    print(precision, float(torch.cat(kl).mean()), difference)
"""


def run(code: str, *args: object) -> str:
    return run_python(ensure("reference", Silent()), _BEGIN + code, CODE, *args)


def test_a_value_becomes_the_nearest_level_of_its_block_and_of_its_row_in_8_bits() -> None:
    blocks = [[-8, 7, 3, 2, 4, 0], [8, -7, -3, -2, -4, 0], [0, 0]]
    assert json.loads(run(_LEVELS)) == [*blocks, [-128, 1], [1, 0]]


def test_each_bit_halves_the_error() -> None:
    errors = json.loads(run(_ERRORS))
    for fewer, more in (("int2", "int3"), ("int3", "int4"), ("int4", "int5"), ("int5", "int6")):
        assert 1.8 < errors[fewer] / errors[more] < 2.6
    assert 3 < errors["int6"] / errors["int8"] < 4  # whole rows share a scale
    assert errors["fp16"] < errors["bf16"] / 7 < errors["int8"]


def test_parts_of_the_states_meet_matrices_of_their_own() -> None:
    assert float(run(_PRODUCT)) < 1e-4


@pytest.mark.parametrize("kind", ["sample", "phi-2", "phi-3.5-moe"])
def test_a_reference_says_what_a_rounded_model_costs(
    kind: str, sample_or_kind: Callable[[str], tuple[Path, Path]]
) -> None:
    source, reference = sample_or_kind(kind)
    for line in run(_WHOLE, source, reference).splitlines():
        _, cost, difference = line.split()
        assert float(difference) < 1e-3 * float(cost) + 1e-6, line


def test_a_type_that_the_source_has_costs_nothing(reference: Path) -> None:
    plain = json.loads((reference / "reference.json").read_text())["plain"]
    assert not any(map(any, plain["fp32"] + plain["bf16"] + plain["fp16"]))
    assert all(map(all, plain["int8"]))
