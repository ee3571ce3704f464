"""Running PyTorch: it generates greedily whatever a folder asks for, and a template that means harm is stopped."""

import json
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker import hostile
from tests.worker.running import Built, copy_of, run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parents[1]
W8A8 = catalogue.all_variants()["torch/w8a8"]

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.formats.torch.worker import runtime
runtime = runtime.Runtime(Path(sys.argv[2]), 2)
{code}
print(json.dumps(said))
"""

ANSWER = """
chat = {"messages": [{"role": "user", "content": "Write one sentence about the sea."}], "tools": None}
(text,) = runtime.render([chat | {"add_generation_prompt": True}])
said = {"ids": runtime.generate(runtime.encode(text), 48), "stop": sorted(runtime.stop_ids())}
"""

#: What a stranger may have put into generation_config.json: each changes what is generated, or what is returned.
OTHER_WAYS = {
    "num_beams": 3,
    "num_return_sequences": 2,
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 40,
    "return_dict_in_generate": True,
    "output_scores": True,
}


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("torch", Silent())


@pytest.fixture(scope="module")
def built(torch_files: Built) -> Path:
    return torch_files.folders[W8A8.name]


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return copy_of(built, tmp_path / "artifact")


def ask(toolchain: Toolchain, folder: Path, code: str) -> Json:
    return json.loads(run_python(toolchain, ASK.replace("{code}", code), ROOT, folder).splitlines()[-1])


def test_it_generates_greedily_whatever_the_folder_asks_for(toolchain: Toolchain, built: Path, artifact: Path) -> None:
    file = artifact / "generation_config.json"
    given = json.loads(file.read_text())
    file.unlink()
    file.write_text(json.dumps(given | OTHER_WAYS))
    said = ask(toolchain, artifact, ANSWER)
    assert said == ask(toolchain, built, ANSWER)
    assert 0 < len(said["ids"]) < 48
    assert said["stop"] == sorted(given["eos_token_id"])
    assert not set(said["ids"]) & set(said["stop"])


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_template_that_means_harm_is_stopped(toolchain: Toolchain, artifact: Path, kind: str) -> None:
    (artifact / "chat_template.jinja").write_text(hostile.TEMPLATES[kind])
    assert hostile.stopped(ask(toolchain, artifact, hostile.CODE))
