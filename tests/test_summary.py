from dataclasses import replace

from hypothesis import given

from bot.plans import Notice, Postponed
from bot.records import Failure, ProvenBuild, Publication
from bot.summary import LARGEST, render_summary
from tests.cards.examples import GGUF, MLX
from tests.markdown_reader import blocks, headings, hostile_text, inlines, plain, tables
from tests.status.examples import planned, release

URL = "https://huggingface.co/someone/Phi-3.5-mini-instruct-GGUF"
NEW = Publication(
    repo_id="someone/Phi-3.5-mini-instruct-GGUF", commit="a" * 40, url=URL, created=True, builds=GGUF.builds
)
FAILURE = Failure(
    release="microsoft/Phi-3.5-mini-instruct@2fe192450127",
    variant="onnx/cpu-int4",
    step="verify",
    message="onnx/cpu-int4 failed: distance, short windows: mean KL 0.31 nats, at most 0.2 allowed",
    hint="It is not published. The evidence is in evidence.json.",
    exit_code=44,
)


def test_what_was_published_is_listed_with_its_figures() -> None:
    said = render_summary([NEW], [])
    assert headings(said) == ["Published"]
    assert tables(said)[0][:3] == [
        ["Repo", "Variant", "Size", "Mean KL"],
        [f"[{NEW.repo_id}](<{URL}>)", "`gguf/f16`", "7.6&nbsp;GB", "0.00002"],
        [f"[{NEW.repo_id}](<{URL}>)", "`gguf/q2_k`", "1.4&nbsp;GB", "0.310"],
    ]


def test_what_failed_is_listed_with_what_to_do() -> None:
    said = render_summary([NEW], [FAILURE])
    assert headings(said) == ["Published", "Not published"]
    assert tables(said)[1][1] == [
        "`microsoft/Phi-3.5-mini-instruct@2fe192450127`",
        "`onnx/cpu-int4`",
        "verify",
        FAILURE.message,
        FAILURE.hint,
    ]


def test_what_was_there_already_is_nothing_new() -> None:
    said = render_summary([replace(NEW, created=False)], [])
    assert headings(said) == ["Already published"]
    assert "Nothing to do: all of it is published." in plain(said)


def test_nothing_at_all_is_said_plainly() -> None:
    assert render_summary([], []) == "Nothing to do: no release was found that asks for a conversion.\n"


def test_only_failures_are_not_nothing() -> None:
    assert headings(render_summary([], [FAILURE])) == ["Not published"]
    assert "Nothing to do" not in render_summary([], [FAILURE])


def test_a_build_without_a_gated_distance_says_so() -> None:
    first = MLX.builds[0]
    unmeasured = ProvenBuild(build=first.build, evidence=replace(first.evidence, distances=()))
    assert tables(render_summary([replace(NEW, builds=(unmeasured,))], []))[0][1][3] == "not measured"


POSTPONED = Postponed(
    release="microsoft/phi-4@0123456789ab",
    planned=planned(release("phi-4"), "gguf/q4_k_m", "outdated"),
    why="outdated",
    text="an older toolchain made it",
)
NOTICE = Notice(repo_id="microsoft/Phi-5", what="new", text="was not here before")


def test_what_is_put_off_and_what_is_new_about_the_models_is_listed() -> None:
    said = render_summary([NEW], [], postponed=[POSTPONED], notices=[NOTICE])
    assert headings(said) == ["Published", "Postponed", "Found"]
    assert tables(said)[1][1] == ["`microsoft/phi-4@0123456789ab`", "`gguf/q4_k_m`", "an older toolchain made it"]
    assert tables(said)[2][1] == ["`microsoft/Phi-5`", "new", "was not here before"]


def test_what_is_only_put_off_is_nothing_to_do_now() -> None:
    said = render_summary([], [], postponed=[POSTPONED])
    assert headings(said) == ["Postponed"]
    assert "Nothing to do now." in said


def test_the_status_page_is_linked_where_there_is_one() -> None:
    said = render_summary([], [], status_page="https://someone.github.io/status/")
    assert said.endswith("How everything stands: <https://someone.github.io/status/>\n")


def test_a_summary_stays_below_what_github_takes_and_counts_what_is_left_out() -> None:
    long = replace(FAILURE, message="word " * 300, hint="|" * 900)
    said = render_summary([], [long] * 10_000, postponed=[POSTPONED] * 10_000, notices=[NOTICE] * 10_000)
    assert len(said.encode()) <= LARGEST
    rows = [len(table) - 1 for table in tables(said)]
    assert len(rows) == 3
    assert rows[0] >= 20
    for count in rows:
        assert f"And {10_000 - count} more" in said


@given(hostile_text, hostile_text, hostile_text)
def test_no_text_changes_what_a_summary_is_made_of(message: str, hint: str, name: str) -> None:
    failure = replace(FAILURE, message=message, hint=hint, release=name, variant=name)
    said = render_summary([replace(NEW, repo_id=name, url=f"https://huggingface.co/{name}")], [failure])
    assert blocks(said) == blocks(render_summary([NEW], [FAILURE]))
    assert {t.content for t in inlines(said) if t.type == "html_inline"} <= {"<code>", "</code>"}
    links = [str(t.attrs["href"]) for t in inlines(said) if t.type == "link_open"]
    assert all(link.startswith("https://huggingface.co/") for link in links)
