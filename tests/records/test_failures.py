"""What exit code a run ends with."""

import pytest

from bot.errors import BuildError, IncompleteError, TokenError, VerifyError
from bot.records.artifacts import Failure
from bot.records.failures import exit_code, failure

BUILD = failure("m/phi", "gguf/q2_k", "build", BuildError("no", hint="try"))
VERIFY = failure("m/phi", "gguf/q3_k_m", "verify", VerifyError("no", hint="try"))
TOKEN = failure("m/phi", "gguf/q4_k_m", "publish", TokenError("no", hint="try"))


def test_without_failures_it_is_zero() -> None:
    assert exit_code([], anything_done=True) == 0
    assert exit_code([], anything_done=False) == 0


def test_when_all_fails_for_one_reason_it_is_that_reasons_code() -> None:
    assert exit_code([TOKEN, TOKEN], anything_done=False) == TokenError.exit_code


@pytest.mark.parametrize(("failures", "anything_done"), [([TOKEN], True), ([BUILD, VERIFY], False)])
def test_any_mixture_is_incomplete(failures: list[Failure], anything_done: bool) -> None:
    assert exit_code(failures, anything_done=anything_done) == IncompleteError.exit_code
