"""Running OpenVINO: its answers are the runtime's own, and a change inside the artifact is seen."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker import hostile
from tests.worker.running import Built, failures, measure, run_python

pytestmark = pytest.mark.toolchain

INT8 = catalogue.all_variants()["openvino/int8"]


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("openvino", Silent())


@pytest.fixture(scope="module")
def artifact(openvino_files: Built) -> Path:
    return openvino_files.folders[INT8.name]


@pytest.fixture
def changed(artifact: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, to be changed."""
    return Path(shutil.copytree(artifact, tmp_path / "artifact"))


def ask(toolchain: Toolchain, artifact: Path, code: str) -> Json:
    """Run code that finds the artifact's ``runtime``, and leaves in ``said`` what is to be returned."""
    start = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(Path(bot.__file__).parent.parent)!r})
from bot.formats.openvino.worker.runtime import Runtime
runtime = Runtime(Path(sys.argv[1]), threads=2)
"""
    end = "\nprint(json.dumps(said))"
    return json.loads(run_python(toolchain, start + code + end, artifact).splitlines()[-1])


def test_logits_of_some_positions_are_those_of_all_positions(toolchain: Toolchain, artifact: Path) -> None:
    """On both sides of the LongRoPE switch, whichever is asked first."""
    code = """
import numpy as np
said = []
for length, positions in ((600, range(590, 600)), (100, range(100)), (100, [99]), (600, [4, 11, 512, 598])):
    ids = [7 + 13 * i % 1900 for i in range(length)]
    some = runtime.logits(ids, positions).copy()
    every = runtime.logits(ids, range(length))
    shapes = [some.shape == (len(positions), every.shape[1]), len(every) == length]
    said.append([shapes, float(np.abs(some - every[list(positions)]).max())])
"""
    for shaped, difference in ask(toolchain, artifact, code):
        assert shaped == [True, True]
        assert difference < 1e-4


def test_a_context_begins_empty_and_generating_between_does_not_change_it(toolchain: Toolchain, artifact: Path) -> None:
    code = """
import numpy as np
ids = runtime.encode("What is 12 plus 7?")
before = runtime.logits(ids, range(len(ids))).copy()
runtime.logits(ids[::-1], range(len(ids)))
runtime.generate(ids, 4)
said = float(np.abs(before - runtime.logits(ids, range(len(ids)))).max())
"""
    assert ask(toolchain, artifact, code) == 0


def test_a_prompt_that_was_read_before_is_read_again(toolchain: Toolchain, artifact: Path) -> None:
    """Otherwise the second time says nothing about the first: a prompt of 2000 tokens would take no time at all."""
    code = """
import time
prompts = [[start + 13 * i % 1900 for i in range(2000)] for start in (7, 8)]
said = []
for prompt in (prompts[0], prompts[1], prompts[1], prompts[1]):
    started = time.monotonic()
    runtime.generate(prompt, 1)
    said.append(time.monotonic() - started)
"""
    _, first, *again = ask(toolchain, artifact, code)
    assert max(again) > first / 4


def test_a_conversation_is_rendered_answered_and_ended(toolchain: Toolchain, artifact: Path) -> None:
    code = """
messages = [{"role": "user", "content": "What is the opposite of hot?"}]
(text,) = runtime.render([{"messages": messages, "tools": None, "add_generation_prompt": True}])
ids = runtime.generate(runtime.encode(text), 32)
said = [text, runtime.decode(ids), len(ids)]
"""
    text, answer, tokens = ask(toolchain, artifact, code)
    assert text == "<|user|>\nWhat is the opposite of hot?<|end|>\n<|assistant|>\n"
    assert answer.startswith("The opposite of ")
    assert answer.endswith(".")
    assert tokens < 32


def test_the_template_is_the_one_that_the_tokenizer_model_holds(
    toolchain: Toolchain, changed: Path, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    model = changed / "openvino_tokenizer.xml"
    text = model.read_text()
    assert "'&lt;|end|>&#10;'" in text
    model.write_text(text.replace("'&lt;|end|>&#10;'", "'&lt;|end|>'"))
    said = failures(measure(toolchain, changed, INT8, sample, few_windows, tmp_path / "log"))
    assert list(said) == ["chat template"]
    assert "<|end|>" in said["chat template"]


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_template_that_means_harm_is_stopped(toolchain: Toolchain, changed: Path, kind: str) -> None:
    model = changed / "openvino_tokenizer.xml"
    template = html.escape(hostile.TEMPLATES[kind]).replace("\n", "&#10;")
    text, times = re.subn(r'(<chat_template value=)"[^"]*"', lambda m: f'{m[1]}"{template}"', model.read_text())
    assert times == 1
    model.write_text(text)
    assert hostile.stopped(ask(toolchain, changed, hostile.CODE))


def test_a_stop_token_that_is_not_named_is_missed(
    toolchain: Toolchain, changed: Path, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    file = changed / "generation_config.json"
    config = json.loads(file.read_text())
    end = json.loads((sample / "added_tokens.json").read_text())["<|end|>"]
    config["eos_token_id"].remove(end)
    file.write_text(json.dumps(config))
    said = failures(measure(toolchain, changed, INT8, sample, few_windows, tmp_path / "log"))
    assert said == {
        "stop tokens": "generating does not end at '<|end|>'",
        "generation": "wrote '<|end|>' in an answer and went on",
    }


def test_a_model_that_ends_in_something_else_than_a_product_is_not_measured(
    toolchain: Toolchain, changed: Path
) -> None:
    code = """
import openvino
from openvino import opset13 as ops
file = Path(sys.argv[1]) / "openvino_model.xml"
core = openvino.Core()
model = core.read_model(file)
made = model.output("logits").get_node().input_value(0)
capped = ops.tanh(made)
model.output("logits").get_node().input(0).replace_source_output(capped.output(0))
openvino.save_model(model, str(file.with_name("other.xml")), compress_to_fp16=False)
del model
for kind in ("xml", "bin"):
    file.with_name(f"other.{kind}").replace(file.with_suffix(f".{kind}"))
try:
    runtime.logits([1, 2, 3], [2])
except ValueError as error:
    said = str(error)
"""
    assert ask(toolchain, changed, code) == "the logits are made by Tanh, not by a product with a matrix"
