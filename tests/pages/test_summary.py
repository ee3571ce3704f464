from dataclasses import replace

from hypothesis import given

from bot.pages.summary import LARGEST, render_summary
from bot.records.artifacts import Artifact, Failure, Proposal, ProvenBuild, Publication, Report, Staged
from bot.records.plans import Notice, Postponed
from tests.markdown_reader import blocks, headings, hostile_text, inlines, parse, plain, tables
from tests.pages.cards.examples import GGUF, MLX, ONNX, OPENVINO
from tests.pages.status.examples import planned, release

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
PUBLISHED = Report(publications=(NEW,))
BOTH = Report(publications=(NEW,), failures=(FAILURE,))


def test_publications_are_listed_with_their_figures() -> None:
    said = render_summary(PUBLISHED)
    assert headings(said) == ["Published"]
    assert tables(said)[0][:3] == [
        ["Repo", "Variant", "Size", "Mean KL", "Same top token"],
        [f"[{NEW.repo_id}](<{URL}>)", "`gguf/f16`", "7.6&nbsp;GB", "0.00002&nbsp;±&nbsp;0.00001", "99.8&nbsp;%"],
        [f"[{NEW.repo_id}](<{URL}>)", "`gguf/q2_k`", "1.4&nbsp;GB", "0.310&nbsp;±&nbsp;0.016", "81.1&nbsp;%"],
    ]


def test_failures_are_listed_with_a_remedy() -> None:
    said = render_summary(BOTH)
    assert headings(said) == ["Published", "Not published"]
    assert tables(said)[1][1] == [
        "`microsoft/Phi-3.5-mini-instruct@2fe192450127`",
        "`onnx/cpu-int4`",
        "verify",
        FAILURE.message,
        FAILURE.hint,
    ]


def test_earlier_publications_are_nothing_new() -> None:
    said = render_summary(Report(publications=(replace(NEW, created=False),)))
    assert headings(said) == ["Already published"]
    assert "Nothing to do: everything is published." in plain(said)


def test_nothing_at_all_is_said_plainly() -> None:
    assert render_summary(Report()) == "Nothing to do: no release was found that needs a conversion.\n"


def test_only_failures_are_not_nothing() -> None:
    assert headings(render_summary(Report(failures=(FAILURE,)))) == ["Not published"]
    assert "Nothing to do" not in render_summary(Report(failures=(FAILURE,)))


def test_a_build_without_a_gated_distance_says_so() -> None:
    first = MLX.builds[0]
    unmeasured = ProvenBuild(build=first.build, evidence=replace(first.evidence, distances=()))
    assert tables(render_summary(Report(publications=(replace(NEW, builds=(unmeasured,)),))))[0][1][3:] == [
        "not&nbsp;measured",
        "",
    ]


def artifact(proven: ProvenBuild) -> Artifact:
    return Artifact(folder="artifacts/x", build=proven.build, evidence=proven.evidence)


def test_proven_artifacts_that_are_not_published_are_listed() -> None:
    said = render_summary(Report(artifacts=tuple(artifact(b) for b in GGUF.builds[:2])))
    assert headings(said) == ["Proven"]
    assert tables(said)[0][1][:2] == ["`microsoft/Phi-3.5-mini-instruct@2fe192450127`", "`gguf/f16`"]
    assert "Nothing to do" not in said


def test_a_file_stands_where_it_has_come_to() -> None:
    published, staged, proposed, left = GGUF.builds[2], OPENVINO.builds[0], MLX.builds[0], ONNX.builds[0]
    report = Report(
        artifacts=tuple(artifact(b) for b in (published, staged, proposed, left)),
        staged=(Staged(repo_id="someone/staging", commit="b" * 40, folder="0123", build=staged.build),),
        proposals=(Proposal(repo_id="someone/x-4bit", number=7, url=f"{URL}/discussions/7", builds=(proposed,)),),
        publications=(replace(NEW, builds=(published,)),),
    )
    said = render_summary(report)
    assert headings(said) == ["Published", "Proposed", "Staged", "Proven"]
    assert [table[1][:2] for table in tables(said)] == [
        [f"[{NEW.repo_id}](<{URL}>)", "`gguf/q4_k_m`"],
        [f"[someone/x-4bit, pull request 7](<{URL}/discussions/7>)", "`mlx/4bit`"],
        ["`someone/staging/0123`", "`openvino/int4`"],
        ["`microsoft/Phi-3.5-mini-instruct@2fe192450127`", "`onnx/cpu-int4`"],
    ]
    assert tables(said)[2][1][3] == "0.0287&nbsp;±&nbsp;0.0015", "what was measured before it was staged"


def charts(said: str) -> list[str]:
    return [t.content for t in parse(said) if t.type == "fence" and t.info == "mermaid"]


def test_the_files_of_a_release_are_a_chart_from_the_smallest_to_the_largest() -> None:
    (chart,) = charts(render_summary(Report(publications=(NEW, replace(NEW, builds=MLX.builds)))))
    assert (
        'x-axis ["gguf/q2_k, 1.4 GB", "mlx/4bit, 2.2 GB", "gguf/q4_k_m, 2.4 GB", "gguf/q8_0, 4.1 GB", '
        '"gguf/f16, 7.6 GB"]'
    ) in chart
    assert "bar [0.310200, 0.040200, 0.021200, 0.000800, 0.000020]" in chart


def test_one_file_is_not_a_comparison() -> None:
    assert charts(render_summary(Report(publications=(replace(NEW, builds=GGUF.builds[:1]),)))) == []


def test_a_name_that_is_not_of_the_catalogue_is_in_no_chart() -> None:
    hostile = tuple(
        replace(b, build=replace(b.build, variant=replace(b.build.variant, name='gguf/x"]\nclick')))
        for b in GGUF.builds
    )
    assert charts(render_summary(Report(publications=(replace(NEW, builds=hostile),)))) == []


def test_the_picture_beside_a_card_is_shown_as_it_was_published() -> None:
    said = render_summary(Report(publications=(replace(NEW, pictures=("quality.png",)),)))
    (picture,) = [t for t in inlines(said) if t.type == "image"]
    assert picture.attrs["src"] == f"{URL}/resolve/{'a' * 40}/quality.png"
    assert picture.content == NEW.repo_id


POSTPONED = Postponed(
    release="microsoft/phi-4@0123456789ab",
    planned=planned(release("phi-4"), "gguf/q4_k_m", "outdated"),
    why="outdated",
    text="an older toolchain made it",
)
NOTICE = Notice(repo_id="microsoft/Phi-5", what="new", text="was not here before")


def test_postponed_variants_and_news_about_the_models_are_listed() -> None:
    said = render_summary(PUBLISHED, postponed=[POSTPONED], notices=[NOTICE])
    assert headings(said) == ["Published", "Postponed", "Found"]
    assert tables(said)[1][1] == ["`microsoft/phi-4@0123456789ab`", "`gguf/q4_k_m`", "an older toolchain made it"]
    assert tables(said)[2][1] == ["`microsoft/Phi-5`", "new", "was not here before"]


def test_postponed_variants_are_nothing_to_do_now() -> None:
    said = render_summary(Report(), postponed=[POSTPONED])
    assert headings(said) == ["Postponed"]
    assert "Nothing to do now." in said


def test_the_status_page_is_linked_where_there_is_one() -> None:
    said = render_summary(Report(), status_page="https://someone.github.io/status/")
    assert said.endswith("The state of everything: <https://someone.github.io/status/>\n")


def test_a_summary_stays_below_githubs_limit_and_counts_the_rows_left_out() -> None:
    long = replace(FAILURE, message="word " * 300, hint="|" * 900)
    said = render_summary(Report(failures=(long,) * 10_000), postponed=[POSTPONED] * 10_000, notices=[NOTICE] * 10_000)
    assert len(said.encode()) <= LARGEST
    rows = [len(table) - 1 for table in tables(said)]
    assert len(rows) == 3
    assert rows[0] >= 20
    for count in rows:
        assert f"And {10_000 - count} more" in said


@given(hostile_text, hostile_text, hostile_text)
def test_no_text_changes_the_structure_of_a_summary(message: str, hint: str, name: str) -> None:
    failure = replace(FAILURE, message=message, hint=hint, release=name, variant=name)
    builds = tuple(
        replace(b, build=replace(b.build, source=replace(b.build.source, repo_id=name))) for b in NEW.builds[:2]
    )
    renamed = replace(NEW, repo_id=name, url=f"https://huggingface.co/{name}", builds=builds, pictures=("quality.png",))
    said = render_summary(Report(publications=(renamed,), failures=(failure,)))
    plainly = replace(NEW, builds=NEW.builds[:2], pictures=("quality.png",))
    assert blocks(said) == blocks(render_summary(Report(publications=(plainly,), failures=(FAILURE,))))
    assert {t.content for t in inlines(said) if t.type == "html_inline"} <= {"<code>", "</code>"}
    links = [str(t.attrs["href"]) for t in inlines(said) if t.type == "link_open"]
    assert all(link.startswith("https://huggingface.co/") for link in links)
