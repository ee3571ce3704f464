"""The command lines that the action makes are ones that phi-bot takes, and no value of an input becomes an option."""

from dataclasses import replace
from pathlib import Path

import pytest

from bot.action.commands import arguments
from bot.action.inputs import COMMANDS, Inputs
from bot.cli import cli
from bot.errors import ConfigError

INPUTS = Inputs(
    command="run",
    models=("microsoft/Phi-4",),
    variants=("gguf/q4_k_m", "mlx"),
    config=Path("/w/phi-bot.toml"),
    namespace="someone",
    publish="no",
    dry_run=True,
    endpoint="https://huggingface.co",
    work=Path("/w/work"),
    cache=True,
    runner=("github", "own"),
    reports=None,
    base=Path("/w/base"),
    head=Path("/w/head"),
    model="model",
    pull_request="o/r#7",
    out=Path("/w/site"),
)


def parsed(words: list[str]) -> dict[str, object]:
    command = cli.commands[words[0]]
    return command.make_context(words[0], words[1:], resilient_parsing=False).params


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """A folder as artifacts are downloaded into it."""
    for name in ("b", "a"):
        (tmp_path / "candidate" / name / "files").mkdir(parents=True)
        (tmp_path / "candidate" / name / "build.json").touch()
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_line_is_one_of_phi_bots(command: str, reports: Path) -> None:
    found = parsed(arguments(replace(INPUTS, command=command, reports=reports)))  # type: ignore[arg-type]
    assert found["config"] == Path("/w/phi-bot.toml")
    assert found["namespace"] == "someone"
    assert found["endpoint"] == "https://huggingface.co"
    assert found["work"] == Path("/w/work")
    assert found["dry_run"] is True


@pytest.mark.parametrize(
    ("publish", "no_publish", "stage"), [("no", True, False), ("stage", False, True), ("yes", False, False)]
)
def test_a_run_publishes_as_the_input_says(publish: str, no_publish: bool, stage: bool) -> None:
    found = parsed(arguments(replace(INPUTS, publish=publish)))  # type: ignore[arg-type]
    assert (found["no_publish"], found["staged"]) == (no_publish, stage)
    assert found["models"] == ("microsoft/Phi-4",)
    assert found["wanted"] == ("gguf/q4_k_m,mlx",)


def test_a_plan_counts_attempts_only_where_something_is_to_be_published() -> None:
    plan = replace(INPUTS, command="plan")
    assert not parsed(arguments(plan))["begin"]
    assert parsed(arguments(replace(plan, publish="stage")))["begin"]
    assert parsed(arguments(plan))["where"] == ("github", "own")


def test_artifacts_to_propose_are_found_by_their_records(reports: Path) -> None:
    found = parsed(arguments(replace(INPUTS, command="propose", reports=reports, head="a" * 40)))
    assert found["sources"] == (str(reports / "candidate" / "a"), str(reports / "candidate" / "b"))


def test_without_artifacts_nothing_is_proposed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without an artifact"):
        arguments(replace(INPUTS, command="propose", reports=tmp_path, head="a" * 40))


def test_a_folder_that_looks_like_an_option_is_none(tmp_path: Path) -> None:
    """Nothing behind ``--`` is one, whatever it is called."""
    words = arguments(replace(INPUTS, models=("--no-dry-run", "-x")))
    assert parsed(words)["models"] == ("--no-dry-run", "-x")


def test_a_file_in_a_folder_of_reports_is_the_comparison(reports: Path) -> None:
    comment = replace(INPUTS, command="comment", reports=reports)
    assert parsed(arguments(comment))["comparison"] == str(reports / "comparison.json")
    assert parsed(arguments(replace(comment, reports=reports / "x.json")))["comparison"] == str(reports / "x.json")
