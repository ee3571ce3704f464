"""Running MLX: its answers are mlx-lm's own, and a change inside the folder is seen."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker import hostile
from tests.worker.running import Built, copy_of, failures, measure, run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parent.parent
FOUR_BITS, FP32 = (catalogue.all_variants()[f"mlx/{n}"] for n in ("4bit", "fp32"))

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from bot.formats.mlx.worker import runtime
runtime = runtime.Runtime(Path(sys.argv[2]))
{code}
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("mlx", Silent())


@pytest.fixture(scope="module")
def built(mlx_files: Built) -> Path:
    return mlx_files.folders[FP32.name]


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return copy_of(built, tmp_path / "artifact")


def ask(toolchain: Toolchain, folder: Path, code: str) -> Json:
    return json.loads(run_python(toolchain, ASK.replace("{code}", code), ROOT, folder))


def change(file: Path, key: str, how: Callable[[Json], Json]) -> None:
    """Change one value of a JSON file."""
    config = json.loads(file.read_text())
    changed = config | {key: how(config[key])}
    assert changed != config
    file.unlink()
    file.write_text(json.dumps(changed))


def test_rows_of_logits_are_the_same_whatever_is_left_out_and_in_steps_of_any_size(
    toolchain: Toolchain, built: Path
) -> None:
    code = """
from bot.formats.mlx.worker import runtime as module
ids = [1, *(5 + 7 * n % 1900 for n in range(599))]
every = runtime.logits(ids, range(600))
said = {"shape": every.shape, "different": []}
for step, rows, positions in (
    (2048, 256, range(590, 600)),
    (2048, 7, range(100, 600)),
    (64, 256, [599]),
    (64, 16, [0, 63, 64, 300]),
    (64, 16, range(4, 600, 7)),
):
    module._PREFILL_STEP, module._ROWS = step, rows
    some = runtime.logits(ids, positions)
    assert some.shape == (len(positions), 2048) and some.dtype == np.float32
    said["different"].append(float(np.abs(some - every[list(positions)]).max()))
"""
    said = ask(toolchain, built, code)
    assert said["shape"] == [600, 2048]
    assert max(said["different"]) < 1e-3  # of logits that go up to about 30


def test_texts_that_are_read_together_have_the_logits_of_each_alone(toolchain: Toolchain, built: Path) -> None:
    code = """
texts = [[1, *((5 + k * n) % 1900 for n in range(99))] for k in (3, 7, 11)]
alone = [runtime.logits(ids, range(4, 100)).copy() for ids in texts]
runs = []
steps = runtime._steps
runtime._steps = lambda batch: runs.append(len(batch)) or steps(batch)
runtime.expect(texts)
together = [runtime.logits(ids, range(4, 100)).copy() for ids in texts]
again = runtime.logits(texts[0], range(4, 100))
different = [float(np.abs(a - b).max()) for a, b in zip([*alone, alone[0]], [*together, again])]
said = {"runs": runs, "different": different}
"""
    said = ask(toolchain, built, code)
    assert said["runs"] == [3, 1]  # texts in a run
    assert max(said["different"]) < 1e-3  # of logits that go up to about 30


def test_texts_of_other_lengths_are_read_one_by_one(toolchain: Toolchain, built: Path) -> None:
    code = """
texts = [[5] * 40, [6] * 30]
runtime.expect(texts)
said = [len(runtime.logits(ids, [len(ids) - 1])) for ids in texts]
"""
    assert ask(toolchain, built, code) == [1, 1]


def test_a_conversation_is_rendered_answered_and_ended(toolchain: Toolchain, built: Path) -> None:
    code = """
messages = [{"role": "user", "content": "Write one sentence about the sea."}]
(text,) = runtime.render([{"messages": messages, "tools": None, "add_generation_prompt": True}])
ids = runtime.generate(runtime.encode(text), 48)
said = {"text": text, "tokens": len(ids), "stop": sorted(runtime.stop_ids()), "ends": ids[-1] in runtime.stop_ids()}
"""
    said = ask(toolchain, built, code)
    assert said["text"] == "<|user|>\nWrite one sentence about the sea.<|end|>\n<|assistant|>\n"
    assert 0 < said["tokens"] < 48
    assert not said["ends"]
    assert said["stop"] == sorted(json.loads((built / "generation_config.json").read_text())["eos_token_id"])


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_template_that_means_harm_is_stopped(toolchain: Toolchain, artifact: Path, kind: str) -> None:
    (artifact / "chat_template.jinja").write_text(hostile.TEMPLATES[kind])
    assert hostile.stopped(ask(toolchain, artifact, hostile.CODE))


def test_generating_goes_on_at_an_id_that_only_pads_the_vocabulary(toolchain: Toolchain, built: Path) -> None:
    """Only an untrained model says one. Here its row of the output matrix is made to fit best."""
    code = """
import mlx.core as mx
head = runtime._model.lm_head
head.weight[2040] = 100 * runtime._model.model(mx.array([[1, 5, 6]]), None)[0, -1]
said = runtime.generate([1, 5, 6], 3)
"""
    assert ask(toolchain, built, code)[0] == 2040


def test_a_changed_template_and_a_stop_token_that_is_not_named_are_seen(
    toolchain: Toolchain, artifact: Path, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    change(artifact / "tokenizer_config.json", "chat_template", lambda text: text.replace("<|end|>\n'", "<|end|>'"))
    end = json.loads((sample / "added_tokens.json").read_text())["<|end|>"]
    for name in ("generation_config.json", "config.json"):  # mlx-lm looks into the second if the first says nothing
        change(artifact / name, "eos_token_id", lambda ids: [i for i in ids if i != end])
    said = failures(measure(toolchain, artifact, FP32, sample, few_windows, tmp_path / "log"))
    assert set(said) == {"chat template", "stop tokens", "generation"}
    assert "where the source's template writes" in said["chat template"]
    assert said["stop tokens"] == "generating does not end at '<|end|>'"
