"""What the action writes for GitHub: outputs, summaries and annotations, whatever text is in them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.action import outputs
from bot.pages.summary import LARGEST
from bot.records.artifacts import Failure
from tests.action.log import Command, commands
from tests.action.runner import read_pairs
from tests.markdown_reader import headings, hostile_text

FAILURE = Failure(
    release="microsoft/Phi-4@0123456789ab",
    variant="gguf/q4_k_m",
    step="verify",
    message="mean KL 0.31 nats, at most 0.2 allowed",
    hint="It is not published. The evidence is in evidence.json.",
    exit_code=44,
)
COMMANDS = st.sampled_from(
    ["::error::x", "##[error]x", "x ##[add-mask]secret", "\n::set-env name=a::b", "\r::error::y", "%0A::error::z", "::"]
)


def annotations(capsys: pytest.CaptureFixture[str]) -> list[Command]:
    return commands(capsys.readouterr().out)


def test_an_output_may_have_lines_and_is_read_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "output"
    outputs.set_outputs(file, {"a": "one\ntwo=three\nfour<<five", "b": ["x", "y"], "c": Path("/w/site")})
    assert read_pairs(file.read_text()) == {"a": "one\ntwo=three\nfour<<five", "b": '["x", "y"]', "c": "/w/site"}


def test_an_output_cannot_end_itself(tmp_path: Path) -> None:
    file = tmp_path / "output"
    outputs.set_outputs(file, {"a": "x\nEOF\nb=injected"})
    assert set(read_pairs(file.read_text())) == {"a"}


def test_an_error_is_its_line_and_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    outputs.error("100% wrong", "Do: this, or that.")
    (found,) = annotations(capsys)
    assert (found.name, found.properties) == ("error", {"title": "phi-bot"})
    assert found.data == "100% wrong\nDo: this, or that."


def test_each_failure_is_an_error_with_its_variant(capsys: pytest.CaptureFixture[str]) -> None:
    outputs.failures([FAILURE])
    (found,) = annotations(capsys)
    assert found.properties == {"title": "gguf/q4_k_m of microsoft/Phi-4@0123456789ab, verify"}
    assert found.data == f"{FAILURE.message}\n{FAILURE.hint}"


@pytest.mark.parametrize(("count", "shown", "last"), [(10, 10, FAILURE.message), (11, 10, "2 more failed")])
def test_more_failures_than_github_shows_are_counted(
    capsys: pytest.CaptureFixture[str], count: int, shown: int, last: str
) -> None:
    outputs.failures([FAILURE] * count)
    found = annotations(capsys)
    assert len(found) == shown
    assert found[-1].data.startswith(last)


def test_output_in_a_group_is_not_taken_for_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with outputs.folded("phi-bot run"):
        print("::error::not one\nfoo ##[add-mask]no\n::endgroup::")
    assert [(c.name, c.data) for c in annotations(capsys)] == [("group", "phi-bot run"), ("endgroup", "")]


def test_commands_are_read_again_after_a_block_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), outputs.as_text():
        raise KeyError
    outputs.error("after", "it")
    assert [c.data for c in annotations(capsys)] == ["after\nit"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(*[st.lists(hostile_text | COMMANDS, max_size=3).map("".join)] * 4)
def test_no_text_makes_another_annotation(
    capsys: pytest.CaptureFixture[str], message: str, hint: str, variant: str, title: str
) -> None:
    outputs.failures([replace(FAILURE, message=message, hint=hint, variant=variant)])
    outputs.warning(message, hint)
    with outputs.folded(title):
        outputs.say(message)
    found = annotations(capsys)
    assert [c.name for c in found] == ["error", "warning", "group", "endgroup"]
    assert found[0].data.count("\n") == 1


def test_a_summary_that_github_would_refuse_is_named_in_place(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    outputs.add_summary(file, "# Before\n")
    outputs.add_summary(file, "x" * LARGEST)
    assert file.read_text().startswith("# Before\nThe summary is larger than GitHub shows.")


@given(hostile_text, hostile_text)
def test_no_error_changes_the_structure_of_a_summary(message: str, hint: str) -> None:
    assert headings(outputs.failed(message, hint)) == ["Nothing was done"]


def test_a_matrix_is_a_table() -> None:
    entry = {"name": "Phi-4 (gguf)", "runs_on": '["ubuntu-24.04"]', "release": "a/b@c", "variants": "gguf/q4_k_m"}
    said = outputs.matrix([entry | {"timeout_minutes": "30"}])
    assert '| Phi-4 (gguf) | `["ubuntu-24.04"]` | `a/b@c` | `gguf/q4_k_m` | 30 |' in said
    assert outputs.matrix([]) == "There is nothing to build.\n"
