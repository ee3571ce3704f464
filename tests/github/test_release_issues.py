"""What the issue of a release says, and of which releases there are issues."""

import re
from dataclasses import replace

from hypothesis import example, given

from bot.github.release_issues import release_issues
from bot.records.artifacts import Failure, Publication, Report
from bot.records.plans import Notice, Plan, Postponed, WatchedSources
from tests.markdown_reader import blocks, hostile_text, inlines, tables
from tests.pages.cards import examples as cards
from tests.pages.status.examples import HUB, built, job, planned, release, sighting

SOURCE = release("Phi-4-mini-instruct")
GGUF = Publication(
    repo_id="someone/Phi-4-mini-instruct-GGUF",
    commit="a" * 40,
    url=f"{HUB}/someone/Phi-4-mini-instruct-GGUF",
    created=True,
    builds=tuple(built(SOURCE, b, 1.0) for b in cards.GGUF.builds[2:3]),
)
FAILURE = Failure(
    release=SOURCE.label,
    variant="onnx/cpu-int4",
    step="verify",
    message="mean KL 0.31 nats, at most 0.2 allowed",
    hint="The evidence is in evidence.json.",
    exit_code=44,
)
REFUSAL = replace(FAILURE, variant="openvino/int4", step="plan", message="not on this machine", exit_code=21)
PLAN = Plan(
    jobs=(job(SOURCE, planned(SOURCE, "gguf/q4_k_m")), job(SOURCE, planned(SOURCE, "onnx/cpu-int4"))),
    done=(planned(SOURCE, "mlx/4bit"), planned(release("phi-4"), "gguf/q8_0")),
    failures=(REFUSAL,),
    postponed=(
        Postponed(release=SOURCE.label, planned=planned(SOURCE, "gguf/q8_0"), why="bound", text="max_jobs is 2"),
        Postponed(release=SOURCE.label, planned=planned(SOURCE, "gguf/q6_k", "outdated"), why="outdated", text="old"),
    ),
)
SEEN = WatchedSources(
    sightings=(sighting(SOURCE), sighting(release("phi-4"))),
    notices=(Notice(repo_id=SOURCE.repo_id, what="new", text="was not here before"),),
)


def test_an_issue_says_how_every_variant_of_the_release_stands() -> None:
    (issue,) = release_issues(Report(publications=(GGUF,), failures=(FAILURE,)), PLAN, SEEN, hub=HUB)
    assert issue.key == SOURCE.content_digest
    assert issue.title == f"Phi-4-mini-instruct ({SOURCE.commit[:12]})" if SOURCE.commit else ""
    assert issue.text.startswith(f"[microsoft/Phi-4-mini-instruct](<{HUB}/microsoft/Phi-4-mini-instruct>) at `")
    assert "3 of 5 variants are published" in issue.text
    mlx = "someone/Phi-4-mini-instruct-mlx-4bit"
    assert tables(issue.text)[0][1:] == [
        ["`gguf/q4_k_m`", "published", f"<{GGUF.url}>"],
        ["`gguf/q6_k`", "outdated", f"<{GGUF.url}> `old`"],
        ["`gguf/q8_0`", "postponed", "`max_jobs is 2`"],
        ["`mlx/4bit`", "published", f"<{HUB}/{mlx}>"],
        ["`onnx/cpu-int4`", "failed", f"`verify: {FAILURE.message} {FAILURE.hint}`"],
        ["`openvino/int4`", "not possible", "`not on this machine`"],
    ]
    assert not issue.closed


def test_it_is_closed_when_all_that_is_possible_is_published() -> None:
    plan = replace(PLAN, jobs=PLAN.jobs[:1], postponed=PLAN.postponed[1:])
    (issue,) = release_issues(Report(publications=(GGUF,)), plan, SEEN, hub=HUB)
    assert issue.closed


def test_a_release_for_which_nothing_was_done_has_none() -> None:
    assert release_issues(Report(), replace(PLAN, jobs=()), SEEN, hub=HUB) == ()


def test_the_issue_of_an_unfinished_release_is_open() -> None:
    (issue,) = release_issues(Report(), PLAN, SEEN, hub=HUB)
    assert ["`gguf/q4_k_m`", "to be built", ""] in tables(issue.text)[0]
    assert not issue.closed


def test_private_gated_and_local_models_have_none() -> None:
    report = Report(publications=(GGUF,), failures=(FAILURE,))
    for change in ({"private": True}, {"gated": True}, {"folder": "/models/mine"}):
        seen = WatchedSources(sightings=(replace(SEEN.sightings[0], **change),))
        assert release_issues(report, PLAN, seen, hub=HUB) == ()
    shut = replace(PLAN, jobs=tuple(replace(j, release=replace(j.release, private=True)) for j in PLAN.jobs))
    assert release_issues(report, shut, SEEN, hub=HUB) == ()


def test_the_status_page_is_linked_where_there_is_one() -> None:
    (issue,) = release_issues(Report(), PLAN, SEEN, hub=HUB, status_page="https://me.github.io/status/")
    assert issue.text.endswith("[the status page](<https://me.github.io/status/>).")


def test_a_long_message_is_cut() -> None:
    report = Report(failures=(replace(FAILURE, message="word " * 100_000),))
    (issue,) = release_issues(report, PLAN, SEEN, hub=HUB)
    assert len(issue.body) < 5_000


PLAIN = release_issues(Report(failures=(FAILURE,)), PLAN, SEEN, hub=HUB)[0]


@given(hostile_text.filter(lambda text: text.strip() != ""))
@example("#1")
def test_no_text_changes_the_structure_of_an_issue(text: str) -> None:
    name = replace(SEEN.sightings[0], repo_id=f"microsoft/{text}")
    plan = replace(PLAN, jobs=(), failures=(replace(REFUSAL, release=name.label, message=text),), postponed=())
    report = Report(failures=(replace(FAILURE, release=name.label, message=text, hint=text),))
    (issue,) = release_issues(report, plan, replace(SEEN, sightings=(name,)), hub=HUB)
    found = inlines(issue.text)
    assert [b for b in blocks(issue.text) if b[0] == "table_open"] == [("table_open", "table", 0)]
    assert {t.content for t in found if t.type == "html_inline"} <= {"<code>", "</code>"}
    links = [str(t.attrs["href"]) for t in found if t.type == "link_open"]
    assert all(link.startswith(f"{HUB}/") for link in links)
    outside = re.sub("<code>.*?</code>", "", "".join(t.content for t in found if t.type in ("text", "html_inline")))
    assert not re.search(r"@\w|(?<![&\w])#\d", outside), "a mention, or a reference to another issue"
    assert "\n" not in issue.title
    assert blocks(issue.text)[0] == blocks(PLAIN.text)[0]
