"""What commands share: records in."""

import json

import pytest
from click.testing import CliRunner

from bot.cli import cli
from bot.errors import RecordError
from bot.records import Report


def test_what_a_step_before_printed_can_come_by_standard_input() -> None:
    given = json.dumps(Report().to_json())
    done = CliRunner().invoke(cli, ["announce", "-", "--json"], input=given, catch_exceptions=False)
    assert (done.exit_code, list(json.loads(done.output))) == (0, ["markdown"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "standard input is no JSON: "),
        ("[]", "standard input is no Report: "),
        ('{"failures": "many"}', "standard input is no Report: "),
        (b"\xff", "standard input is no JSON: "),
    ],
)
def test_standard_input_that_is_not_a_record_is_named(given: str | bytes, words: str) -> None:
    with pytest.raises(RecordError) as refused:
        CliRunner().invoke(cli, ["announce", "-"], input=given, catch_exceptions=False)
    assert refused.value.message.startswith(words)
