"""Stop tokens and answers: what of them is the runtime's fault, and what is a likeliest token that changed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bot.records.artifacts import Json
from bot.records.evidence import Generation
from bot.worker import parity

np = pytest.importorskip("numpy")

END, FIN, WORD = 1, 2, 3


@dataclass(frozen=True)
class Runtime:
    """A runtime of four tokens: ``rows`` are its logits after the last id, and it stops at ``stops``.

    What it generates is the likeliest token, or whatever else it always ``generates``.
    """

    rows: dict[int, list[float]]
    stops: set[int] = field(default_factory=lambda: {END, FIN})
    generates: int | None = None

    def stop_ids(self) -> set[int]:
        return {END, FIN}

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Any:
        return np.array([self.rows[ids[p]] for p in positions], dtype=np.float32)

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        if self.generates is not None:
            return [self.generates] * max_new_tokens
        new: list[int] = []
        last = ids[-1]
        while len(new) < max_new_tokens and (last := int(np.argmax(self.rows[last]))) not in self.stops:
            new.append(last)
        return new


ENDS, GOES_ON, TIE = [0.0, 5.0, 0.0, 1.0], [0.0, 1.0, 0.0, 5.0], [0.0, 4.9, 0.0, 5.0]
REFERENCE: Json = {
    "stop_ids": [END, FIN],
    "endings": [[0], [0, 0]],
    "prompts": [{"ids": [0], "silent": False}, {"ids": [3], "silent": False}],
}


def generations(runtime: Runtime) -> list[Generation]:
    return [
        parity.generation(runtime, {"text": "?", "max_new_tokens": 8} | prompt)  # type: ignore[arg-type]
        for prompt in REFERENCE["prompts"]
    ]


@pytest.mark.parametrize("row", [GOES_ON, TIE])
def test_another_likeliest_token_where_the_original_ends_is_not_the_runtimes_fault(row: list[float]) -> None:
    passed, said = parity.stop_tokens(Runtime({0: row, WORD: GOES_ON}), REFERENCE)  # type: ignore[arg-type]
    assert passed
    assert said == (
        "ends at 2 tokens, and ended 0 of 2 answers where the original does; in the others an end ranks 2 at worst"
    )


def test_a_runtime_may_go_on_where_an_end_is_likeliest_by_less_than_its_arithmetic_changes() -> None:
    nearly = Runtime({0: [0.0, 5.0, 0.0, 4.9]}, generates=WORD)
    assert parity.stop_tokens(nearly, REFERENCE)[0]  # type: ignore[arg-type]


def test_a_runtime_that_goes_on_where_an_end_is_clearly_likeliest_has_failed() -> None:
    passed, said = parity.stop_tokens(Runtime({0: ENDS}, generates=WORD), REFERENCE)  # type: ignore[arg-type]
    assert (passed, said) == (
        False,
        "ends at 2 tokens, but went on where an end is the likeliest token by 4.0 nats",
    )


def test_a_runtime_that_writes_an_end_and_does_not_stop_has_failed() -> None:
    runtime = Runtime({0: ENDS, END: ENDS, WORD: GOES_ON}, stops=set())
    passed, said = parity.stop_tokens(runtime, REFERENCE)  # type: ignore[arg-type]
    assert (passed, said) == (False, "ends at 2 tokens, but wrote '1' and did not end")


def test_an_answer_that_goes_on_past_an_end_is_a_fault() -> None:
    runtime = Runtime({0: GOES_ON, WORD: ENDS, END: ENDS}, stops=set())
    passed, said = parity.said_something(runtime, generations(runtime), REFERENCE)  # type: ignore[arg-type]
    assert (passed, said) == (False, "wrote '1' in an answer and went on")


def test_answers_that_end_are_counted() -> None:
    passed, said = parity.stop_tokens(Runtime({0: ENDS}), REFERENCE)  # type: ignore[arg-type]
    assert (passed, said) == (True, "ends at 2 tokens, and ended 2 of 2 answers where the original does")


def test_silence_is_a_fault_unless_the_original_is_silent_or_an_end_is_likeliest() -> None:
    def checked(runtime: Runtime, *silent: bool) -> tuple[bool, str]:
        prompts = [p | {"silent": s} for p, s in zip(REFERENCE["prompts"], silent, strict=True)]
        return parity.said_something(runtime, generations(runtime), REFERENCE | {"prompts": prompts})  # type: ignore[arg-type]

    one = Runtime({0: ENDS, WORD: GOES_ON})
    both = Runtime({0: ENDS, WORD: ENDS})
    deaf = Runtime({0: GOES_ON, WORD: GOES_ON}, stops={END, FIN, WORD})
    assert checked(one, True, False) == (True, "8 tokens from 2 prompts; the original itself says nothing to 1")
    assert checked(one, False, False) == (True, "8 tokens from 2 prompts")
    assert checked(both, True, True) == (True, "0 tokens from 2 prompts; the original itself says nothing to 2")
    assert checked(both, False, False) == (False, "nothing was generated for '?'")
    assert checked(deaf, False, False) == (False, "nothing was generated for '?'")
    assert checked(deaf, True, False) == (False, "nothing was generated for '?'")
