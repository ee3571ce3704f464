"""What the bot keeps in mind: attempts and their pauses, refusals, and what became of sources."""

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import catalogue
from bot.errors import BuildError, HubUnreachableError, PhiBotError
from bot.records.artifacts import MalformedRecordError
from bot.records.failures import failure
from bot.records.plans import PlannedVariant
from bot.state.memory import Memory, SeenSource, ToolchainRefusal, changes

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
RELEASE = "microsoft/Phi-9@0123456789ab"
MOST = 3


def planned(name: str = "gguf/q4_k_m", key: str = "a" * 64) -> PlannedVariant:
    return PlannedVariant(
        variant=catalogue.all_variants()[name], build_key=key, repo_id="me/Phi-9-GGUF", path_in_repo=""
    )


def attempt(memory: Memory, error: PhiBotError | None, now: dt.datetime = NOW) -> Memory:
    begun = memory.begun(RELEASE, [planned()], now=now, most=MOST)
    failures = [failure(RELEASE, "gguf/q4_k_m", "build", error)] if error else []
    return begun.ended([planned()], failures, now=now, most=MOST)


REFUSED = ToolchainRefusal(repo_id="microsoft/Phi-9", reason="no such rope")
BROKEN = BuildError("it broke", hint="Look at it.")
KEY = planned().build_key


def test_a_success_leaves_nothing() -> None:
    assert attempt(Memory(), None) == Memory()
    assert attempt(attempt(Memory(), BROKEN), None, NOW + 2 * HOUR) == Memory()


def test_a_failure_is_tried_again_after_growing_pauses_and_the_third_waits_for_a_person() -> None:
    memory = attempt(Memory(), BROKEN)
    assert "failed once and is tried again after 2026-11-22T13:00:00+00:00: it broke" in str(memory.waits(KEY, NOW))
    assert memory.waits(KEY, NOW + HOUR) is None
    memory = attempt(memory, BROKEN, NOW + HOUR)
    assert memory.waits(KEY, NOW + 20 * HOUR) is not None
    assert memory.waits(KEY, NOW + 25 * HOUR) is None
    memory = attempt(memory, BROKEN, NOW + 25 * HOUR)
    assert "failed 3 times and waits for `phi-bot retry`" in str(memory.waits(KEY, NOW + 10_000 * HOUR))
    assert memory.forget([KEY]).waits(KEY, NOW) is None


def test_a_failure_because_of_the_hub_does_not_count() -> None:
    unreachable = HubUnreachableError("no answer", hint="Later.")
    assert attempt(Memory(), unreachable) == Memory()
    once = attempt(Memory(), BROKEN)
    assert attempt(once, unreachable, NOW + HOUR).attempts[KEY].attempts == 1


def test_a_process_that_ends_without_a_word_has_made_an_attempt_and_may_make_another_at_once() -> None:
    memory = Memory()
    for _ in range(MOST - 1):
        memory = memory.begun(RELEASE, [planned()], now=NOW, most=MOST)
        assert memory.waits(KEY, NOW) is None
    memory = memory.begun(RELEASE, [planned()], now=NOW, most=MOST)
    assert "ended without a word" in str(memory.waits(KEY, NOW))


def test_an_interrupted_attempt_does_not_count() -> None:
    assert Memory().begun(RELEASE, [planned()], now=NOW, most=MOST).interrupted([planned()]) == Memory()
    once = attempt(Memory(), BROKEN)
    again = once.begun(RELEASE, [planned()], now=NOW + HOUR, most=MOST).interrupted([planned()])
    assert again.attempts[KEY].attempts == 1
    assert again.waits(KEY, NOW + HOUR) is None


@given(st.lists(st.sampled_from(["failed", "success", "no answer", "interrupted", "killed", "elsewhere"]), max_size=8))
def test_only_a_real_end_rewrites_the_known_failure(events: list[str]) -> None:
    """Whatever came of later attempts, the last real error is still told, and counted, until a success."""
    memory, real, count, at = Memory(), None, 0, NOW
    for number, event in enumerate(events):
        at += 200 * HOUR
        broken = BuildError(f"it broke for the {number}. time", hint="Look at it.")
        memory = memory.begun(RELEASE, [planned()], now=at, most=MOST)
        before = count
        count += event in ("failed", "elsewhere", "killed")
        match event:
            case "failed" | "elsewhere":
                real = broken.message
                failures = [failure(RELEASE, "gguf/q4_k_m", "verify", broken)]
                if event == "failed":
                    memory = memory.ended([planned()], failures, now=at, most=MOST)
                else:
                    memory = memory.failed(failures, now=at, most=MOST)
            case "success":
                memory, real, count = memory.ended([planned()], [], now=at, most=MOST), None, 0
            case "no answer":
                error = failure(RELEASE, "gguf/q4_k_m", "build", HubUnreachableError("no answer", hint="Later."))
                memory = memory.ended([planned()], [error], now=at, most=MOST)
            case "interrupted":
                memory = memory.interrupted([planned()])
        known = memory.attempts.get(KEY)
        assert (known.attempts if known else 0) == count, (event, before)
        if known is not None and real is not None:
            assert real in known.words
            assert ("without a word" in known.words) == (known.step == "begun")
            assert "no answer" not in known.words
        assert Memory.from_json(json.loads(json.dumps(memory.to_json()))) == memory


def test_fields_that_an_older_bot_cannot_read_are_written_only_while_they_apply() -> None:
    once = attempt(Memory(), BROKEN)
    assert "former" not in once.to_json()["attempts"][KEY]
    begun = once.begun(RELEASE, [planned()], now=NOW + HOUR, most=MOST)
    assert begun.to_json()["attempts"][KEY]["former"]["message"] == "it broke"
    assert "former" not in begun.interrupted([planned()]).to_json()["attempts"][KEY]


def test_another_build_key_is_another_build() -> None:
    memory = attempt(Memory(), BROKEN).with_refusals({"b" * 64: REFUSED}, bot_version="1")
    other = "c" * 64
    assert memory.waits(other, NOW) is None
    assert memory.only([other], of=["microsoft/Phi-9"]) == Memory(bot_version="1")
    assert memory.only([KEY, "b" * 64], of=["microsoft/Phi-9"]) == memory
    assert memory.only([other], of=["microsoft/Phi-8"]) == memory


def test_a_refusal_is_that_of_a_version_of_the_bot() -> None:
    memory = Memory().with_refusals({KEY: REFUSED}, bot_version="1")
    assert memory.refusal(KEY, bot_version="1") == "no such rope"
    assert memory.refusal(KEY, bot_version="2") is None
    assert memory.with_refusals({}, bot_version="2").refusals == {}


def test_a_written_memory_is_read_again_and_another_version_refused() -> None:
    memory = attempt(Memory(), BROKEN).with_sources(
        {"a/b": SeenSource(commit="0" * 40, content_digest=None, problem="bad")}
    )
    assert Memory.from_json(json.loads(json.dumps(memory.to_json()))) == memory
    with pytest.raises(MalformedRecordError, match=r"^\$\.version is 99, not 1: a newer phi-bot wrote this$"):
        Memory.from_json({"version": 99})


SOURCES = st.dictionaries(
    st.sampled_from(["a/1", "a/2", "a/3", "a/4"]),
    st.builds(
        SeenSource,
        commit=st.sampled_from(["0" * 40, "1" * 40]),
        content_digest=st.sampled_from(["2" * 64, "3" * 64]),
    ),
)


@given(SOURCES, SOURCES)
def test_every_change_of_a_source_is_said_once_and_nothing_else(
    before: dict[str, SeenSource], after: dict[str, SeenSource]
) -> None:
    said = changes(before, after)
    assert [n.repo_id for n in said] == sorted(
        r for r in after if r not in before or before[r].commit != after[r].commit
    )
    for notice in said:
        old, new = before.get(notice.repo_id), after[notice.repo_id]
        if old is None:
            gone = {s.content_digest for r, s in before.items() if r not in after}
            assert notice.what == ("renamed" if new.content_digest in gone else "new")
        else:
            assert notice.what == ("edited" if old.content_digest == new.content_digest else "changed")
    assert changes(after, after) == ()
