import re
import subprocess
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bot import catalogue
from bot.errors import RecordError
from bot.formats import recipes
from bot.localhub.card import PageAddress, render
from bot.localhub.objects import make_tree, regular_file
from bot.pages.cards import render_card
from bot.pages.numbers import with_error
from bot.records.artifacts import (
    Calibration,
    Imatrix,
    ImatrixTrial,
    LeftOut,
    ProvenBuild,
    Release,
    RepoRecord,
    SourceRef,
    TypesByCost,
)
from bot.records.evidence import Check, KnownBehaviour
from bot.source.chat_template import ChatFormat
from bot.source.prompt import Prompt, prompt_of
from tests.markdown_reader import blocks, fences, headings, hostile_text, inlines, plain, tables
from tests.pages.cards.examples import (
    CHAT,
    COMMIT,
    GGUF,
    LONG_CONTEXT,
    MLX,
    ONNX,
    OPENVINO,
    RELEASE,
    REPOS,
    distance,
    gguf,
    proven,
    record,
)

SIDES = ("short", "long")
CREATED = GGUF.builds[0].build.created


def card(repo: RepoRecord = GGUF, *, release: Release = RELEASE, chat: ChatFormat | None = None, name: str = "") -> str:
    """Return the card of a repo, without its YAML head."""
    repo_id = next(
        n for n, r in REPOS.values() if r.builds[0].build.variant.format == repo.builds[0].build.variant.format
    )
    text = render_card(record=repo, repo_id=name or repo_id, release=release, prompt=prompt_of(chat, CREATED))
    return text.split("\n---\n\n", 1)[1]


def table(body: str, column: str) -> list[list[str]]:
    """Return the first table with a column of that name, with ordinary spaces."""
    found = next(t for t in tables(body) if column in t[0])
    return [[cell.replace("&nbsp;", " ") for cell in row] for row in found]


def one(repo: RepoRecord, **changes: Any) -> RepoRecord:
    """Return a record with only the first build of a repo, changed."""
    first = repo.builds[0]
    build = replace(first.build, **{k: v for k, v in changes.items() if hasattr(first.build, k)})
    evidence = replace(first.evidence, **{k: v for k, v in changes.items() if hasattr(first.evidence, k)})
    return record(ProvenBuild(build=build, evidence=evidence))


# ---- what every card has -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", REPOS)
def test_a_card_goes_from_the_files_to_the_way_they_were_made(format_name: str) -> None:
    repo_id, repo = REPOS[format_name]
    text = render_card(record=repo, repo_id=repo_id, release=RELEASE, prompt=prompt_of(CHAT, CREATED))
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == RELEASE.repo_id
    body = text.split("\n---\n\n", 1)[1]
    assert [h for h in headings(body) if h != "Which one"] == [
        headings(body)[0],
        "Files",
        "Run it",
        "Prompt format",
        "Measurements",
        "How it was made",
        "Checksums",
        "Licence",
    ]
    assert headings(body)[0].startswith("Phi-3.5-mini-instruct, ")
    assert repo_id in body
    assert f"https://huggingface.co/microsoft/Phi-3.5-mini-instruct/tree/{COMMIT}" in body
    for proven_build in repo.builds:
        for package, version in proven_build.build.toolchain.versions.items():
            assert f"{package} {version}" in plain(body)
        for file in proven_build.build.files:
            assert file.sha256 in body


@pytest.mark.process
@pytest.mark.parametrize("chat", [CHAT, None], ids=["instruct", "base"])
@pytest.mark.parametrize("format_name", REPOS)
def test_its_snippets_are_written_in_their_languages(format_name: str, chat: ChatFormat | None) -> None:
    body = card(REPOS[format_name][1], chat=chat)
    for number, program in enumerate(fences(body, "python")):
        compile(program, f"{format_name}-{number}", "exec")
    shell = "\n".join(fences(body, "bash"))
    subprocess.run(["bash", "-n"], input=shell, text=True, check=True)
    assert f"phi-bot run microsoft/Phi-3.5-mini-instruct@{COMMIT} --variants" in shell


@pytest.mark.parametrize("format_name", REPOS)
def test_the_same_record_gives_the_same_card(format_name: str) -> None:
    assert card(REPOS[format_name][1], chat=CHAT) == card(REPOS[format_name][1], chat=CHAT)


# ---- figures -------------------------------------------------------------------------------------------------


def test_the_file_table_holds_the_measurements() -> None:
    head, *rows = table(card(GGUF), "Size")
    assert head == [
        "File", "Size", "Mean KL, short", "Mean KL, long", "Beside plain rounding", "Top-1 (%)",
        "Perplexity", "Precision",
    ]  # fmt: skip
    expected = [
        ["Q2_K", "1.4 GB", "0.310 ± 0.016", "0.287 ± 0.015", "81.1 / 82.3", "1.1551 / 1.1436", "int2 (3.0)"],
        ["Q4_K_M", "2.4 GB", "0.0212 ± 0.0011", "0.0193 ± 0.0010", "95.2 / 95.3", "1.0106 / 1.0096", "int4 (5.0)"],
        ["Q8_0", "4.1 GB", "0.00080 ± 0.00004", "0.00070 ± 0.00004", "99.0 / 99.1", "1.0004 / 1.0004", "int8 (8.5)"],
        ["F16", "7.6 GB", "0.00002 ± 0.00001", "0.00001 ± 0.00001", "99.8 / 99.9", "1.0000 / 1.0000", "fp16 (16.0)"],
    ]  # fmt: skip
    beside = [row.pop(4) for row in rows]
    assert rows == [[f"`Phi-3.5-mini-instruct-{name}.gguf`", *figures] for name, *figures in expected]
    assert beside == ["0.91 ± 0.01", "0.91 ± 0.01", "0.91 ± 0.01", "none"]


def test_every_figure_is_there_with_its_error() -> None:
    everything = table(card(ONNX), "99th percentile")
    assert everything[1] == [
        "`cpu-int4/`", "short", "512", "0.0311 ± 0.0016", "0.373 ± 0.032", "1.244 ± 0.125", "95.2 ± 0.4",
        "1.0155 ± 0.0032",
    ]  # fmt: skip
    assert [row[:2] for row in everything[1:]] == [[f, s] for f in ("`cpu-int4/`", "`cuda-int4/`") for s in SIDES]
    assert table(card(ONNX), "prose")[1] == ["`cpu-int4/`", "0.0280", "0.0342"]


def test_an_error_is_never_rounded_to_less() -> None:
    exact = distance("short", 0.00002, 1.0)
    assert with_error(exact, "mean_kl") == "0.00002 ± 0.00001"
    assert with_error(distance("short", 0.2, 0.95), "mean_kl") == "0.200 ± 0.010"
    certain = replace(exact, standard_errors=replace(exact.standard_errors, top1_agreement=0.0))
    assert with_error(certain, "top1_agreement") == "100.0 ± 0.0"


def test_running_costs_are_there_with_the_machine() -> None:
    body = card(GGUF)
    assert table(body, "Memory")[1] == ["`Phi-3.5-mini-instruct-Q2_K.gguf`", "1.2", "3.1 GB", "61", "9.1", "4"]
    assert "Measured once each, on Linux x86_64, AMD EPYC 7763" in plain(body)


def test_a_model_that_ended_too_soon_has_no_rate() -> None:
    cost = GGUF.builds[0].evidence.cost
    assert cost is not None
    assert table(card(one(GGUF, cost=replace(cost, decode_rate=None))), "Memory")[1][4] == "not timed"
    assert "The cost of running a file" not in plain(card(one(GGUF, cost=None)))


def test_both_settings_of_a_runtime_are_there_with_the_known_behaviour() -> None:
    body = card(GGUF)
    said = plain(body)
    assert table(body, "Mean KL")[2] == [
        "`Phi-3.5-mini-instruct-Q4_K_M.gguf`", "0.0462 ± 0.0024", "93.2 ± 0.4", "1.0231 ± 0.0047",
    ]  # fmt: skip
    assert f"With {LONG_CONTEXT}, on short texts:" in said
    assert "This is a known behaviour: the factors go by the context that is allocated (https://github.com" in said
    assert "†" not in said
    assert "With " not in plain(card(ONNX)).split("Measurements")[1]


def test_pictures_are_shown_where_there_are_some_and_are_described() -> None:
    body = render_card(record=GGUF, repo_id="me/x", release=RELEASE, prompt=Prompt(), pictures=("quality.png",))
    (shown,) = [t for t in inlines(body) if t.type == "image"]
    assert shown.attrs["src"] == "quality.png"
    assert shown.content.startswith("Bits stored for each weight against mean KL")
    assert not [t for t in inlines(card(GGUF)) if t.type == "image"]


def test_folders_stand_for_their_files() -> None:
    assert [row[0] for row in tables(card(ONNX))[0][1:]] == ["`cpu-int4/`", "`cuda-int4/`"]
    assert [row[0] for row in tables(card(OPENVINO))[0][1:]] == ["all 3 files"]
    assert "cpu-int4/model.onnx.data" in fences(card(ONNX), "")[0]


def test_a_model_without_a_switch_has_one_figure() -> None:
    plain_release = replace(RELEASE, config={"torch_dtype": "bfloat16"})
    body = card(
        record(proven("gguf/q8_0", "int8", {"a-Q8_0.gguf": 4_000_000_000}, (0.0007, 1.0))), release=plain_release
    )
    assert [c.replace("&nbsp;", " ") for c in tables(body)[0][1][2:6]] == [
        "0.00070 ± 0.00004",
        "0.91 ± 0.01",
        "100.0",
        "1.0004",
    ]
    assert "LongRoPE" not in body


def test_the_cost_of_rounding_stands_beside_that_of_plain_rounding() -> None:
    strict = replace(GGUF.builds[3].evidence, gate=0.02)
    body = card(record(GGUF.builds[0], ProvenBuild(build=GGUF.builds[3].build, evidence=strict)))
    by_file = {row[0]: row for row in tables(body)[0][1:]}
    assert [by_file[name][4].replace("&nbsp;", " ") for name in by_file] == ["0.91 ± 0.01", "none"]
    found = next(t for t in tables(body) if "Plain rounding" in t[0])
    assert [c.replace("&nbsp;", " ") for c in found[1][1:]] == [
        "140",
        "0.00080 ± 0.00004",
        "0.00088 ± 0.00005",
        "0.91 ± 0.01",
        "0.0200",
    ]


def test_a_card_tells_a_right_conversion_from_the_cost_of_its_bits() -> None:
    assert "Whether the conversion is right" in plain(card(GGUF))
    assert "And what their bits cost" in plain(card(GGUF))


def test_the_switch_is_named() -> None:
    assert "Short texts have up to 4,096 tokens" in plain(card(GGUF))


def test_bits_are_left_out_where_the_weights_are_not_known() -> None:
    body = card(GGUF, release=replace(RELEASE, files=()))
    assert tables(body)[0][1][-1] == "int2"
    assert "in brackets the bits" not in plain(body)


def test_known_behaviours_of_a_runtime_are_described_with_a_link() -> None:
    body = card(MLX)
    assert tables(body)[0][1][2].replace("&nbsp;", " ") == "0.0653 ± 0.0033†"
    assert "† long factors at every position, before the switch too: https://github.com/ml-explore" in plain(body)
    assert "https://github.com/ml-explore/mlx-lm/pull/707" in [t.attrs.get("href") for t in inlines(body)]
    assert "†" not in card(ONNX)


def test_a_check_that_failed_is_not_hidden() -> None:
    failed = Check(name="distance, short windows", passed=False, detail="mean KL 0.3 nats, at most 0.2 allowed")
    body = card(one(GGUF, checks=(failed,)))
    assert "<details open>" in body
    assert "Failed: distance, short windows. mean KL 0.3 nats, at most 0.2 allowed" in plain(body)


def test_a_hub_shows_its_pictures_and_its_folded_parts() -> None:
    pictures = ("quality.png", "positions.png")
    text = render_card(record=GGUF, repo_id="me/x", release=RELEASE, prompt=prompt_of(CHAT, CREATED), pictures=pictures)
    tree = make_tree(regular_file(name, b"x") for name in pictures)
    shown = render(text.split("\n---\n\n", 1)[1], PageAddress(page="/me/x", commit=COMMIT, folder="", tree=tree))
    assert shown.left_out == 0
    assert re.findall(r'<img [^>]*src="([^"]+)"', shown.html) == [f"/me/x/resolve/{COMMIT}/{p}" for p in pictures]
    folded = re.findall(r"<details>(.*?)</details>", shown.html, re.DOTALL)
    assert [re.findall(r"<summary>(.*?)</summary>", part) for part in folded] == [
        ["Every figure, with its standard error"],
        ["Every check"],
    ]
    assert folded[0].count("<table>") == 3


# ---- which one -----------------------------------------------------------------------------------------------


def test_the_smallest_close_one_is_advised() -> None:
    said = plain(card(GGUF))
    assert "Take Phi-3.5-mini-instruct-Q4_K_M.gguf (2.4 GB): the smallest that names the original's next token" in said
    assert "With memory to spare, Phi-3.5-mini-instruct-F16.gguf (7.6 GB) is the closest" in said
    assert "With little memory, Phi-3.5-mini-instruct-Q2_K.gguf (1.4 GB) is the smallest" in said


def test_files_within_the_error_of_measuring_are_not_called_closer() -> None:
    q8, f16 = GGUF.builds[3], GGUF.builds[0]
    blurred = tuple(
        replace(d, standard_errors=replace(d.standard_errors, mean_kl=0.001)) for d in f16.evidence.distances
    )
    unsure = ProvenBuild(build=f16.build, evidence=replace(f16.evidence, distances=blurred))
    said = plain(card(record(GGUF.builds[1], q8, unsure)))
    assert "Phi-3.5-mini-instruct-F16.gguf (7.6 GB) is the closest" not in said
    assert "Take Phi-3.5-mini-instruct-Q8_0.gguf" in said
    said = plain(card(record(*GGUF.builds[1:], unsure)))
    assert (
        "With memory to spare, Phi-3.5-mini-instruct-Q8_0.gguf (4.1 GB) is the closest to the original; "
        "measuring cannot distinguish it from Phi-3.5-mini-instruct-F16.gguf."
    ) in said


def test_files_quantized_with_an_importance_matrix_are_named() -> None:
    said = "Quantized with an importance matrix, measured on 12800 tokens of training.txt (sha256 aaaaaaaaaaaaaaaa): "
    matrix = Imatrix(text="training.txt", text_sha256="a" * 64, sha256="b" * 64, chunks=25, tokens=12800)
    first = GGUF.builds[0]
    with_one = replace(first, build=replace(first.build, imatrix=matrix))
    assert f"{said}{first.build.files[0].path}." in plain(card(replace(GGUF, builds=(with_one, *GGUF.builds[1:]))))
    assert "importance matrix" not in plain(card())


@pytest.mark.parametrize(
    ("with_kl", "said"), [(0.0412, "So it is used."), (0.0498, "The gain is not clear, so it is not used.")]
)
def test_the_result_of_trying_an_importance_matrix_is_described(with_kl: float, said: str) -> None:
    trial = ImatrixTrial(without_kl=0.05, without_error=0.001, with_kl=with_kl, with_error=0.0009)
    first = next(b for b in GGUF.builds if b.build.variant.name == "gguf/q4_k_m")
    build = first.build
    tried = replace(first, build=replace(build, variant=recipes.with_trial(build.variant), imatrix_trial=trial))
    text = plain(card(record(GGUF.builds[0], tried)))
    figures = f"mean KL 0.0500 ± 0.0010 without it, {with_kl} ± 0.0009 with it"
    assert f"An importance matrix was tried on {build.files[0].path}: {figures}. {said}" in text
    assert 'where phi-bot.toml says build.imatrix_from_4_bits = "measured":' in text
    assert "imatrix_from_4_bits" not in plain(card())


def test_files_that_are_calibrated_are_named() -> None:
    said = "measured on 10752 tokens of training.txt (sha256 aaaaaaaaaaaaaaaa): "
    calibration = Calibration(text="training.txt", text_sha256="a" * 64, sha256="b" * 64, tokens=10752)
    first = GGUF.builds[0]
    options = first.build.variant.options | {"quality": "calibrated"}
    build = replace(first.build, calibration=calibration, variant=replace(first.build.variant, options=options))
    text = plain(card(replace(GGUF, builds=(replace(first, build=build), *GGUF.builds[1:]))))
    assert f"{said}{first.build.files[0].path}." in text
    assert 'where phi-bot.toml says build.quality = "calibrated":' in text
    assert "alibrated" not in plain(card())


@pytest.mark.parametrize(("error", "kept"), [(0.002, False), (0.03, True)])
def test_types_that_were_chosen_by_what_they_cost_are_counted(error: float, kept: bool) -> None:
    chosen = TypesByCost(
        predicted_kl=0.056, own_kl=0.0731, error=error, types={"Q3_K": ("a", "b"), "Q6_K": ("token_embd.weight",)}
    )
    first = GGUF.builds[0]
    build = replace(first.build, types_by_cost=chosen)
    text = plain(card(replace(GGUF, builds=(replace(first, build=build), *GGUF.builds[1:]))))
    assert f"Types chosen by what they cost, in {first.build.files[0].path}: Q3_K (2), Q6_K (1)." in text
    assert "predicted to cost 0.0560 nats a token, to the tool's own 0.0731" in text
    assert ("no clear gain, so the tool's own are kept" in text) == kept
    assert "Types chosen" not in plain(card())


@pytest.mark.parametrize(
    ("own", "said"),
    [("Q4_K_M", ", to Q4_K_M, the best of the tool's own mixes with no more bytes, 0.0731."), ("", ".")],
)
def test_types_under_a_size_are_held_against_what_the_tool_has_in_no_more_bytes(own: str, said: str) -> None:
    chosen = TypesByCost(
        predicted_kl=0.056, own_kl=0.0731 if own else None, error=0.03, types={"Q3_K": ("a",)}, own=own
    )
    first = GGUF.builds[0]
    variant = catalogue.select(["gguf/fit:4.2GB"])[0]
    build = replace(first.build, types_by_cost=chosen, variant=variant)
    text = plain(card(replace(GGUF, builds=(replace(first, build=build), *GGUF.builds[1:]))))
    cost = "rounding to them is predicted to cost 0.0560 nats a token"
    assert f"They are the best for a file of at most 4,200,000,000 bytes: {cost}{said}" in text
    assert "gguf/fit:4.2GB" in text
    assert 'build.quality = "calibrated"' not in text


def test_where_none_is_close_the_closest_is_advised() -> None:
    said = plain(
        card(
            record(
                gguf("q2_k", "int2", 1_400_000_000, (0.9, 0.5), (0.8, 0.6)),
                gguf("q3_k_m", "int3", 1_900_000_000, (0.4, 0.7), (0.3, 0.8)),
            )
        )
    )
    assert "Take Phi-3.5-mini-instruct-Q3_K_M.gguf (1.9 GB): the closest to the original." in said
    assert "Q2_K.gguf (1.4 GB) is the smallest" in said


def test_each_device_has_its_own() -> None:
    said = plain(card(ONNX))
    assert "For any processor, take cpu-int4/ (2.7 GB)." in said
    assert "For NVIDIA GPUs, take cuda-int4/ (2.7 GB)." in said


def test_a_file_that_was_not_run_on_its_device_says_so() -> None:
    said = plain(card(ONNX))
    assert (
        "cuda-int4/ was not run on the device that it is for. Its graph was proven on a processor: the kernels of "
        in said
    )
    assert "NVIDIA GPUs compute the same products in their own way, and were not run." in said
    assert said.count("was not run on the device") == 1


def test_a_repo_of_one_asks_no_choice() -> None:
    assert "Which one" not in headings(card(MLX))


def test_the_snippets_use_the_one_that_is_advised() -> None:
    shell = fences(card(GGUF, chat=CHAT), "bash")
    assert shell[0] == "llama-cli -hf someone/Phi-3.5-mini-instruct-GGUF:Q4_K_M -c 4096\n"
    assert shell[1] == "ollama run hf.co/someone/Phi-3.5-mini-instruct-GGUF:Q4_K_M\n"
    assert 'filename="Phi-3.5-mini-instruct-Q4_K_M.gguf"' in fences(card(GGUF), "python")[0]
    assert "--include 'cpu-int4/*'" in fences(card(ONNX), "bash")[0]


def test_a_first_try_stays_below_the_switch() -> None:
    assert "n_ctx=4096" in card(GGUF)
    assert "GGUF:Q4_K_M -c 4096" in card(GGUF)
    assert "short set up to 4,096 tokens" in plain(card(GGUF))
    assert "rotary factors" not in card(GGUF, release=replace(RELEASE, config={})).split("## Run it")[1]
    assert "n_ctx=512" in card(
        GGUF, release=replace(RELEASE, config={**RELEASE.config, "original_max_position_embeddings": 512})
    )
    assert "n_ctx=2048" in card(GGUF, release=replace(RELEASE, config={"max_position_embeddings": 2048}))


# ---- the prompt format ---------------------------------------------------------------------------------------


def test_the_prompt_is_the_one_of_the_sources_template() -> None:
    system = "<|system|>\nYou are a helpful assistant.<|end|>\n"
    user = "<|user|>\nWhat is the capital of France?<|end|>\n<|assistant|>\n"
    assert fences(card(GGUF, chat=CHAT), "text") == [f"{system}{user}\n"]


@pytest.mark.parametrize("system", ["{{ raise_exception('no system') }}", ""], ids=["refused", "ignored"])
def test_a_template_without_system_messages_is_shown_without_one(system: str) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        + system
        + "{% else %}[{{ m.content }}]{% endif %}{% endfor %}"
    )
    body = card(GGUF, chat=ChatFormat(template=template))
    assert fences(body, "text") == ["[What is the capital of France?]\n"]
    assert "it takes no system message" in body


def test_a_prompt_cannot_leave_its_fence() -> None:
    template = "```\n# Free\n````\n~~~\n</pre>{{ messages[0].content }}{{ messages[-1].content }}"
    body = card(GGUF, chat=ChatFormat(template=template))
    assert "Free" not in "".join(headings(body))
    assert fences(body, "text")[0].startswith("```\n# Free\n````\n~~~\n</pre>")


def test_half_a_character_is_left_out() -> None:
    body = card(GGUF, chat=ChatFormat(template="{{ messages[-1].content }}{{ '\\ud800' }}"))
    assert fences(body, "text") == ["What is the capital of France?\n"]
    assert body.encode()


def test_a_template_that_fails_leaves_a_note_and_snippets_without_it() -> None:
    body = card(GGUF, chat=ChatFormat(template="{% if %}`](x)"))
    assert "which could not be rendered here: TemplateSyntaxError" in plain(body)
    assert "create_chat_completion" not in body


def test_a_base_model_continues_text() -> None:
    body = card(GGUF, chat=None)
    assert "it continues the text that it is given" in body
    assert "llama-completion -hf" in body


def test_the_date_in_a_prompt_is_that_of_the_build() -> None:
    body = card(GGUF, chat=ChatFormat(template="{{ strftime_now('%Y-%m-%d') }}{{ messages }}"))
    assert fences(body, "text")[0].startswith(f"{datetime.fromisoformat(GGUF.builds[0].build.created):%Y-%m-%d}")


# ---- where it is from ----------------------------------------------------------------------------------------


def test_files_of_two_origins_each_name_theirs() -> None:
    old = GGUF.builds[0]
    old_build = replace(old.build, bot_version="0.0.9", source=replace(old.build.source, commit="0" * 40))
    said = plain(card(record(ProvenBuild(build=old_build, evidence=old.evidence), *GGUF.builds[1:])))
    assert "Built from microsoft/Phi-3.5-mini-instruct@000000000000 by phi-bot 0.0.9" in said
    assert "Built from microsoft/Phi-3.5-mini-instruct@2fe192450127 by phi-bot 0.1.0" in said


def test_a_local_folder_is_not_said_to_be_on_the_hub() -> None:
    body = card(
        GGUF, release=replace(RELEASE, repo_id="local/tuned", commit=None, folder="/home/somebody/secret/tuned")
    )
    assert "a local checkpoint named" in body
    assert "phi-bot run ./tuned --variants" in body
    assert "secret" not in body
    assert "huggingface.co" not in [t.attrs.get("href", "") for t in inlines(body) if t.type == "link_open"]


def test_links_lead_to_the_hub_that_the_source_is_on() -> None:
    text = render_card(record=GGUF, repo_id="me/x", release=RELEASE, prompt=Prompt(), endpoint="http://127.0.0.1:8000")
    assert f"http://127.0.0.1:8000/microsoft/Phi-3.5-mini-instruct/tree/{COMMIT}" in text


def test_a_gated_source_binds_its_readers() -> None:
    assert "its terms apply to everyone" in card(GGUF, release=replace(RELEASE, gated=True))


@pytest.mark.parametrize("builds", [(), (GGUF.builds[0], MLX.builds[0])], ids=["none", "two formats"])
def test_a_record_of_several_formats_is_refused(builds: tuple[ProvenBuild, ...]) -> None:
    with pytest.raises(RecordError, match="a record with builds of"):
        render_card(record=record(*builds), repo_id="me/x", release=RELEASE, prompt=Prompt())


# ---- text from strangers -------------------------------------------------------------------------------------

words = st.builds("{}w{}".format, hostile_text, hostile_text)


def filled(format_name: str, say: Any) -> str:
    """Return a card in which every free text is what ``say`` gives."""
    first = REPOS[format_name][1].builds[0]
    build = replace(
        first.build,
        variant=replace(first.build.variant, summary=say(), precision=say(), options={say(): say()}),
        toolchain=replace(first.build.toolchain, name=say(), versions={say(): say()}),
        source=replace(first.build.source, repo_id=say()),
        files=tuple(replace(f, path=say()) for f in first.build.files),
        path_in_repo=say() if first.build.path_in_repo else "",
        bot_version=say(),
    )
    setting = say()
    evidence = replace(
        first.evidence,
        runtime=say(),
        machine=say(),
        checks=(Check(name=say(), passed=True, detail=say()),),
        known_behaviours=(
            KnownBehaviour(name=say(), side="short", reference=say()),
            KnownBehaviour(name=say(), side="short", reference=say(), setting=setting),
        ),
        distances=(
            *(replace(d, by_kind={say(): 0.1, f"{say()} 2": 0.2}) for d in first.evidence.distances),
            replace(first.evidence.distances[0], setting=setting),
        ),
    )
    second = replace(build, variant=replace(build.variant, name=f"{format_name}/other"))
    release = replace(
        RELEASE,
        repo_id=f"owner/{say()}",
        card={"license": "other", "license_name": say()[:99], "license_link": say(), "tags": [say()]},
    )
    both = record(ProvenBuild(build=build, evidence=evidence), ProvenBuild(build=second, evidence=evidence))
    return card(both, release=release, name=f"owner/{say()}")


@pytest.mark.process
@settings(max_examples=15)
@pytest.mark.parametrize("format_name", REPOS)
@given(data=st.data())
def test_no_text_changes_the_structure_of_a_card(format_name: str, data: st.DataObject) -> None:
    body = filled(format_name, lambda: data.draw(words))
    assert blocks(body) == blocks(filled(format_name, lambda: "word"))
    assert {t.content for t in inlines(body) if t.type == "html_inline"} <= {"<code>", "</code>"}
    assert not [t for t in inlines(body) if t.type == "image"]
    for program in fences(body, "python"):
        compile(program, "card", "exec")
    subprocess.run(["bash", "-n"], input="\n".join(fences(body, "bash")), text=True, check=True)


def test_a_copy_of_a_phi_says_what_made_it_one_and_where_it_comes_from() -> None:
    line = "its class is LlamaForCausalLM, and it is a Phi by its tokenizer (Phi-4's: <|im_sep|> is 100266)"
    body = card(one(GGUF, read_as=line), release=replace(RELEASE, origin="microsoft/phi-4"))
    assert f"About the original: {line}." in plain(body)
    assert "which comes from [microsoft/phi-4](<https://huggingface.co/microsoft/phi-4>)." in body
    assert "About the original" not in card(GGUF)
    assert "which comes from" not in card(GGUF)


def test_a_text_part_says_what_cannot_be_given_to_it() -> None:
    rest = LeftOut(inputs=("pictures", "speech"), tensors=1234, bytes=1_700_000_000)
    body = card(one(GGUF, left_out=rest), release=replace(RELEASE, left_out=rest))
    assert (
        f"Text alone: the file has the text part of {RELEASE.name}. Pictures and speech cannot be given to it: 1234 "
        "tensors of the original, of 1.7 GB, are not in it."
    ) in plain(body)
    assert "Text alone" not in card(GGUF)


def test_an_adapter_names_what_it_was_merged_into_at_both_commits() -> None:
    base = replace(RELEASE, repo_id="microsoft/base", commit="b" * 40)
    into = SourceRef(repo_id=base.repo_id, commit=base.commit, content_digest=base.content_digest)
    body = card(one(GGUF, base=into), release=replace(RELEASE, base=base))
    where = "https://huggingface.co/microsoft/base"
    assert f"merged into [microsoft/base](<{where}>) at commit [bbbbbbbbbbbb](<{where}/tree/{'b' * 40}>)" in body
    assert f"at commit [{str(RELEASE.commit)[:12]}]" in body
    assert "merged into microsoft/base@bbbbbbbbbbbb, by phi-bot" in plain(body)
    here = card(one(GGUF, base=into), release=replace(RELEASE, base=replace(base, repo_id="local/base", commit=None)))
    assert "merged into a local checkpoint named base" in plain(here)
    assert "merged into" not in card(GGUF)
