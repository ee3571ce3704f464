"""action.yml itself: no text of a stranger reaches a script, every input reaches the code, all of it is described."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bot.action.inputs import Inputs
from tests import page_reader
from tests.action.runner import ACTION, ROOT

TEXT = ACTION.read_text(encoding="utf-8")
MANIFEST: dict[str, Any] = yaml.safe_load(TEXT)
STEPS: list[dict[str, Any]] = MANIFEST["runs"]["steps"]
OURS = [step for step in STEPS if "run" in step]
PAGE = page_reader.sections(ROOT / "docs" / "action.md")
EXAMPLES = [block for block in page_reader.blocks("yaml") if "phi-bot/phi-bot@" in block.text]


@pytest.mark.parametrize("step", OURS, ids=lambda step: str(step["name"]))
def test_no_expression_stands_in_a_script(step: dict[str, Any]) -> None:
    assert "${{" not in step["run"]
    assert step["shell"] == "bash"


def test_inputs_are_read_by_the_environment_alone() -> None:
    expected = {
        f"INPUT_{n.upper().replace('-', '_')}": f"${{{{ inputs.{n} }}}}" for n in MANIFEST["inputs"] if n != "python"
    }
    readers = [step for step in OURS if step["run"].endswith((" keys", " run"))]
    assert len(readers) == 2
    for step in readers:
        assert {name: value for name, value in step["env"].items() if name.startswith("INPUT_")} == expected


def test_every_input_is_one_that_the_code_reads() -> None:
    assert {name.replace("-", "_") for name in MANIFEST["inputs"]} - {"python"} == set(Inputs.__dataclass_fields__)


@pytest.mark.parametrize("step", STEPS[:-1], ids=lambda step: str(step["name"]))
def test_a_token_reaches_the_last_step_alone(step: dict[str, Any]) -> None:
    assert step["env"]["HF_TOKEN"] == step["env"]["GITHUB_TOKEN"] == step["env"]["PHI_BOT_SIGNING_KEY"] == ""


def test_toolchains_are_saved_before_a_model_is_read() -> None:
    names = [step["name"] for step in STEPS]
    assert names.index("Save toolchains") < names.index("Run phi-bot")


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if "uses:" in line], ids=str.strip)
def test_every_action_used_is_pinned_to_a_commit_and_says_its_version(line: str) -> None:
    assert re.fullmatch(r"\s+uses: actions/[a-z/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_each_is_described_in_the_documentation_as_in_the_file(kind: str) -> None:
    (rows,) = page_reader.tables(PAGE[kind.capitalize()])
    assert [row[0] for row in rows] == [f"`{name}`" for name in MANIFEST[kind]]
    for row in MANIFEST[kind].values():
        assert re.fullmatch(r"\S.*\.", row["description"], re.DOTALL)
    if kind == "inputs":
        assert [row[1] for row in rows] == [
            f"`{row['default']}`" if row["default"] else "" for row in MANIFEST[kind].values()
        ]


def uses(found: Any) -> Iterator[dict[str, Any]]:
    """Return the steps that use the action, wherever they stand in a piece of YAML."""
    if isinstance(found, dict):
        if str(found.get("uses", "")).startswith("phi-bot/phi-bot@"):
            yield found
        found = list(found.values())
    if isinstance(found, list):
        for inner in found:
            yield from uses(inner)


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: str(block.name))
def test_an_example_gives_inputs_that_are_there(block: page_reader.Block) -> None:
    steps = list(uses(yaml.safe_load(block.text)))
    assert steps
    for step in steps:
        assert set(step["with"]) <= set(MANIFEST["inputs"])


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
