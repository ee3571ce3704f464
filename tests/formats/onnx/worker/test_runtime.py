"""onnxruntime-genai, asked what verifying asks: text, templates, stop tokens and rows of logits."""

import json
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bot
from benchmarks.checkpoints import SHAPES, make
from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Json, Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker import hostile
from tests.worker.running import Built, build, copy_of, failures, measure, run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parent.parent
INT4, INT8, FP32 = (catalogue.all_variants()[f"onnx/cpu-{p}"] for p in ("int4", "int8", "fp32"))


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


IMPORTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from bot.formats.onnx.worker.runtime import Runtime
"""
RUNTIME = (
    IMPORTS
    + """
runtime = Runtime(Path(sys.argv[2]), 2, 512)  # the sample's switch
"""
)


def asked(toolchain: Toolchain, folder: Path, code: str) -> Any:
    """What some code prints as JSON that has a folder's ``runtime``."""
    return json.loads(run_python(toolchain, RUNTIME + code, ROOT, folder))


@pytest.mark.parametrize(
    ("length", "positions"),
    [
        (100, [0, 4, 50, 99]),
        (100, range(100)),
        (512, range(4, 512, 3)),
        (513, [400, 512]),
        (1300, range(512, 1300)),
        (1300, [512, 513, 1000]),
    ],
)
def test_logits_are_those_that_the_runtime_says_of_all_ids_at_once(
    onnx_files: Built, toolchain: Toolchain, length: int, positions: Sequence[int]
) -> None:
    """On both sides of the LongRoPE switch, and of the number of ids that are run together."""
    code = f"""
ids = [int(i) for i in np.random.default_rng(0).integers(3, 2000, {length})]
every = runtime._generator(ids, len(ids) + 1, scored=False).get_output("logits")[0]
rows = runtime.logits(ids, {positions})
print(json.dumps([rows.shape, str(rows.dtype), float(np.abs(rows - every[list({positions})]).max())]))
"""
    shape, kind, difference = asked(toolchain, onnx_files.folders[FP32.name], code)
    assert shape == [len(positions), 2048]
    assert kind == "float32"
    assert difference < 1e-4


def test_quantized_output_matrices_give_rows(onnx_files: Built, toolchain: Toolchain) -> None:
    code = """
ids = [int(i) for i in np.random.default_rng(0).integers(3, 2000, 300)]
every = runtime._generator(ids, len(ids) + 1, scored=False).get_output("logits")[0].astype(np.float32)
print(float(np.abs(runtime.logits(ids, range(300)) - every).max()))
"""
    for variant in (INT4, INT8):
        assert asked(toolchain, onnx_files.folders[variant.name], code) < 0.05  # pieces are rounded otherwise


def test_positions_that_pass_the_switch_at_once_have_no_logits(onnx_files: Built, toolchain: Toolchain) -> None:
    code = """
try:
    runtime.logits([5] * 600, [100, 599])
except ValueError as error:
    print(json.dumps(str(error)))
"""
    said = asked(toolchain, onnx_files.folders[INT4.name], code)
    assert said == "of 513 ids at once, 128 have logits: not the one at 100"


AT_ONCE = """
ids = [int(i) for i in np.random.default_rng(0).integers(3, 2000, 700)]
little = Runtime(Path(sys.argv[2]), 2, 512, memory=10**8)
before, answer = little.generate(ids[:20], 4), runtime.generate(ids[:20], 4)
ends = range(640, 700)  # those that onnxruntime-genai has of a text that passes the switch
differences = [float(np.abs(little.logits(ids, ends) - runtime.logits(ids, ends)).max())]
ids, ends = ids[:500], [4, 300, 499]
differences += [float(np.abs(little.logits(ids, ends) - runtime.logits(ids, ends)).max())]
print(json.dumps([differences, little.remarks, runtime.remarks, before == answer == little.generate(ids[:20], 4)]))
"""


@pytest.mark.parametrize("variant", [INT4, INT8, FP32], ids=lambda v: v.name)
def test_without_memory_for_its_cache_onnxruntime_says_the_same_logits_of_a_text_at_once(
    onnx_files: Built, toolchain: Toolchain, variant: Variant
) -> None:
    """On both sides of the LongRoPE switch. What people run still generates, before and after."""
    differences, said, of_enough, same = asked(toolchain, onnx_files.folders[variant.name], AT_ONCE)
    assert max(differences) < 1e-4
    assert [remark.split(", for")[0] for remark in said] == [
        f"{count} tokens were run at once by onnxruntime itself" for count in (700, 500)
    ]
    assert said[0].endswith("and 0.1 GB may be taken here")
    assert of_enough == []
    assert same


MANY_LAYERS = replace(
    SHAPES["phi-3.5-mini"], hidden=256, layers=32, heads=4, key_value_heads=4, intermediate=256, vocabulary=2048
)
PEAK = """
from bot.worker.harness import peak_memory
ids = [int(i) for i in np.random.default_rng(0).integers(3, 2000, 4352)]
runtime = Runtime(Path(sys.argv[2]), 2, 4096, memory=MEMORY)
runtime.logits(ids, range(4224, 4352))
print(json.dumps([peak_memory(), len(runtime.remarks)]))
"""


@pytest.mark.sweep
def test_without_its_cache_a_long_text_takes_that_much_less_memory(
    sample_of: Callable[[str], Path], toolchain: Toolchain, tmp_path: Path
) -> None:
    source = make(MANY_LAYERS, sample_of("phi-3.5-mini"), tmp_path / "source")
    built = build(toolchain, source, [INT4], tmp_path / "job", log=tmp_path / "log")

    def peak(memory: int) -> tuple[int, int]:
        code = IMPORTS + PEAK.replace("MEMORY", str(memory))
        most, remarks = json.loads(run_python(toolchain, code, ROOT, built.folders[INT4.name]))
        return most, remarks

    with_cache, nothing = peak(10**10)
    without, said = peak(10**8)
    cache = 2 * 32 * 4352 * 256 * 4  # keys and values of all layers, in float32: 285 MB
    assert (nothing, said) == (0, 1)
    assert with_cache - without > 0.7 * cache


def test_generating_between_does_not_change_logits(onnx_files: Built, toolchain: Toolchain) -> None:
    code = """
ids = runtime.encode("What is 12 plus 7?")
before, answer = runtime.logits(ids, [0, 3]), runtime.generate(ids, 4)
print(json.dumps([bool((before == runtime.logits(ids, [0, 3])).all()), answer == runtime.generate(ids, 4)]))
"""
    assert asked(toolchain, onnx_files.folders[INT4.name], code) == [True, True]


GLIBC = platform.libc_ver()[0] == "glibc"
HELD = "Runtime(Path(sys.argv[2]), 2, 512).logits([5] * 10, [9])"
NOT_HELD = """
import onnxruntime_genai as og
from bot.formats.onnx.worker.last_logits import with_rows
config = og.Config(sys.argv[2])
config.add_model_data("model.onnx", with_rows(Path(sys.argv[2]), 128))
og.Model(config)
"""


@pytest.mark.skipif(not GLIBC, reason="asks glibc to overwrite what is freed")
@pytest.mark.parametrize(("code", "loads"), [(HELD, True), (NOT_HELD, False)], ids=["held", "not held"])
def test_a_changed_graph_is_kept_until_it_is_loaded(
    onnx_files: Built, toolchain: Toolchain, code: str, loads: bool
) -> None:
    """The runtime keeps no copy of it: one that is let go is not read, or ends the process."""
    done = subprocess.run(
        [toolchain.python, "-I", "-c", IMPORTS + code, ROOT, onnx_files.folders[INT4.name]],
        capture_output=True,
        env={"MALLOC_PERTURB_": "165"},  # freed memory is filled with a byte, and not with what was there
    )
    assert (done.returncode == 0) == loads, done.stderr


def test_text_is_given_back_with_its_special_tokens_and_without_a_space_before_it(
    onnx_files: Built, toolchain: Toolchain
) -> None:
    texts = ["", "Hello", " Hello", "a  b\n", "naïve 😀 ไทย", "a</s> b", "<|user|> Hi there<|end|> and<|assistant|>"]
    code = f"print(json.dumps([runtime.decode(runtime.encode(text)) for text in {texts!r}]))"
    assert asked(toolchain, onnx_files.folders[INT4.name], code) == texts


def test_a_list_of_tools_reaches_the_template(onnx_files: Built, toolchain: Toolchain, tmp_path: Path) -> None:
    folder = copy_of(onnx_files.folders[INT4.name], tmp_path / "tools")
    (folder / "chat_template.jinja").write_text("{{ tools | tojson }}")
    tools = [{"type": "function", "function": {"name": name}} for name in ("weather", "news")]
    chat = {"messages": [{"role": "user", "content": "Hi"}], "tools": tools, "add_generation_prompt": True}
    code = f"print(runtime.render([{chat!r}])[0])"
    assert asked(toolchain, folder, code) == tools


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_template_that_means_harm_is_stopped(
    onnx_files: Built, toolchain: Toolchain, tmp_path: Path, kind: str
) -> None:
    folder = copy_of(onnx_files.folders[INT4.name], tmp_path / "hostile")
    (folder / "chat_template.jinja").write_text(hostile.TEMPLATES[kind])
    assert hostile.stopped(asked(toolchain, folder, f"{hostile.CODE}\nprint(json.dumps(said))"))


TOOLS = """
from bot.texts import WITH_TOOLS
from bot.worker import parity
tool = {"type": "function", "function": {"name": "weather_at", "description": "Look", "parameters": {}}}
said = {"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": True}
chats = [
    said | {"name": "a tool", "tools": [tool], "text": json.dumps(tool) + "Hi"},
    said | {"name": "a question", "tools": None, "text": "Hi"},
]
known = parity.known_differences(runtime, {"unusual": {}, "chats": chats}, [WITH_TOOLS])
print(json.dumps([parity.chats(runtime, chats), parity.chats(runtime, chats, [WITH_TOOLS]), known]))
"""


def test_a_tool_is_passed_to_the_template_without_its_function_wrapper_and_counted(
    onnx_files: Built, toolchain: Toolchain, tmp_path: Path
) -> None:
    folder = copy_of(onnx_files.folders[INT4.name], tmp_path / "tools")
    template = "{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    held, known, counted = asked(toolchain, folder, TOOLS)
    assert held[0] is False
    assert held[1].startswith("a tool: ")
    assert known == [True, "1 conversations are written as the source's template writes them"]
    assert counted == [{"kind": "tools in a conversation", "differing": 1, "texts": 1}]


# ---- faults --------------------------------------------------------------------------------------------------


def one_line_break_less(folder: Path) -> None:
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|end|>\n", "<|end|>", 1))


def forget_the_end(folder: Path) -> None:
    change(folder / "genai_config.json", lambda config: config["model"].update(eos_token_id=[2000, 2001]))


def swap_two_tokens(folder: Path) -> None:
    def swap(tokenizer: Json) -> None:
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["▁the"], vocabulary["▁and"] = vocabulary["▁and"], vocabulary["▁the"]

    change(folder / "tokenizer.json", swap)


def change(path: Path, how: Callable[[Json], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    how(value)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize(
    ("fault", "checks", "said"),
    [
        (one_line_break_less, ["chat template"], "where the source's template writes"),
        (forget_the_end, ["stop tokens", "generation"], "generating does not end at '<|end|>'"),
        (swap_two_tokens, ["tokenizer"], "texts are read differently"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_change_inside_the_folder_is_seen(
    onnx_files: Built,
    toolchain: Toolchain,
    sample: Path,
    few_windows: Path,
    tmp_path: Path,
    fault: Callable[[Path], None],
    checks: list[str],
    said: str,
) -> None:
    folder = copy_of(onnx_files.folders[INT4.name], tmp_path / "faulty")
    fault(folder)
    measured = measure(toolchain, folder, INT4, sample, few_windows, tmp_path / "log")
    assert list(failures(measured)) == checks
    assert said in failures(measured)[checks[0]]
