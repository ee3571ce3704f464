"""What checking says of repos: of the bot's own, whole and tampered with, and of other people's."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.checking.findings import CheckReport
from bot.checking.repo import check
from bot.config import Config
from bot.config.places import PublishTable, SignTable
from bot.config.tables import BuildTable
from bot.errors import HubRefusedError, TokenError, UnknownModelError, UnknownRevisionError
from bot.hub import client
from bot.hub.client import Hub
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.publishing.envelopes import Envelope, public_key_of
from bot.publishing.statements import STATEMENTS_FILE, payload_of, read_statements
from bot.records.artifacts import Artifact, FileEntry
from bot.steps.publish import publish
from bot.workspace import Workspace
from tests.checking.gguf_files import FACTORS, TEMPLATE, TOKENS, gguf, metadata
from tests.contexts import context_of
from tests.hub.faulty import Fault, Proxy
from tests.publishing.keys import key_pair
from tests.source import models
from tests.steps import proven
from tests.steps.test_publish import no_plots as no_plots

REPO, FOREIGN = "me/Phi-9-mini-GGUF", "them/Phi-9-mini-GGUF"
FILE = "Phi-9-mini-q8_0.gguf"
CONFIG = {
    **models.CONFIG,
    "rope_theta": 10000.0,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.25]},
}
TOKENIZER = {
    "model": {"type": "BPE", "vocab": {"<unk>": 0, "a": 4}, "merges": []},
    "added_tokens": [{"id": i, "content": TOKENS[i]} for i in (1, 2, 3)],
}
ORIGINAL: dict[str, Any] = {
    "config__json": json.dumps(CONFIG).encode(),
    "generation_config__json": b'{"eos_token_id": [1]}',
    "tokenizer__json": json.dumps(TOKENIZER).encode(),
    "README__md": b"---\nlicense: mit\n---\n",
    "tokenizer_config__json": json.dumps({"chat_template": TEMPLATE, "eos_token": "<|end|>"}).encode(),
}

pytestmark = pytest.mark.usefixtures("no_plots")


class World:
    """A Hub with an original, and somebody who publishes and checks."""

    def __init__(self, hub: RunningHub, folder: Path) -> None:
        self.folder = folder
        self.hub = client.connect(hub.url, hub.token)
        self.api = HfApi(endpoint=hub.url, token=hub.token)
        self.release = proven.release(hub, **ORIGINAL)

    def publish(self, key: Path | None = None, content: bytes | None = None) -> None:
        """Publish a file that is as its original, or ``content``."""
        made = proven.artifact(self.folder / "artifacts", self.release, "gguf/q8_0")
        config = Config(
            build=BuildTable(work=self.folder / "work"), publish=PublishTable(namespace="me", sign=SignTable(key=key))
        )
        context = context_of(config, workspace=Workspace(root=config.build.work), hub=self.hub)
        assert publish([with_content(made, gguf() if content is None else content)], context).failures == ()

    def put(self, repo_id: str, files: Mapping[str, bytes]) -> None:
        """Put files into a repo, as whoever may write there can."""
        self.api.create_repo(repo_id, exist_ok=True)
        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        self.api.create_commit(repo_id, added, commit_message="Change it")

    def content(self, path: str) -> bytes:
        found = self.hub.read_files(REPO, (path,))
        assert found is not None
        return found[0][path]

    def check(self, repo_id: str = REPO, *, revision: str | None = None, key: Path | None = None) -> CheckReport:
        return check(repo_id, revision, self.hub, public_key_of(key) if key else None, Silent())

    def foreign(self, file: bytes, card: str = "base_model: microsoft/Phi-9-mini\nlicense: mit") -> CheckReport:
        """Check a repo of somebody else's, with one file."""
        self.put(FOREIGN, {"README.md": f"---\n{card}\n---\n".encode(), FILE: file})
        return self.check(FOREIGN)


def with_content(artifact: Artifact, content: bytes) -> Artifact:
    (entry,) = artifact.build.files
    (Path(artifact.folder) / "files" / entry.path).write_bytes(content)
    new = FileEntry(path=entry.path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    return replace(artifact, build=replace(artifact.build, files=(new,)))


@pytest.fixture
def world(hub: RunningHub, tmp_path: Path) -> World:
    return World(hub, tmp_path)


def outcomes(report: CheckReport) -> dict[str, str]:
    """Return how each thing came out, without notes; of several, the worst."""
    order = ("proven", "open", "contradicted")
    found: dict[str, str] = {}
    for finding in report.findings:
        if finding.outcome != "note":
            found[finding.about] = max(found.get(finding.about, "proven"), finding.outcome, key=order.index)
    return found


def detail(report: CheckReport, about: str, outcome: str) -> str:
    """Return the words of the one finding about something with that outcome."""
    (found,) = [f.detail for f in report.findings if (f.about, f.outcome) == (about, outcome)]
    return found


# ---- the bot's own repos -------------------------------------------------------------------------------------


def test_all_of_a_signed_publication_is_proven_with_the_key(world: World, tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    world.publish(pem)
    report = world.check(key=public)
    assert set(outcomes(report).values()) == {"proven"}
    assert {f.about for f in report.findings} == {
        "record",
        "files",
        "statements",
        "signatures",
        "source",
        "base model",
        "prompt",
        "stop tokens",
        "vocabulary",
        "rotary angles",
        "licence",
    }


def test_without_a_key_a_signature_proves_nothing_and_says_whose_it_claims_to_be(world: World, tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    world.publish(pem)
    report = world.check()
    assert report.contradicted == ()
    assert public_key_of(public).key_id in detail(report, "signatures", "open")


def test_another_key_and_no_signature_are_contradictions_where_a_key_is_given(world: World, tmp_path: Path) -> None:
    pem, _ = key_pair(tmp_path)
    _, other = key_pair(tmp_path, "other")
    world.publish(pem)
    assert outcomes(world.check(key=other))["signatures"] == "contradicted"
    unsigned = Envelope(payload=read_statements(world.content(STATEMENTS_FILE))[0][0].envelope.payload)
    world.put(REPO, {STATEMENTS_FILE: unsigned.line() + b"\n"})
    assert outcomes(world.check(key=other))["signatures"] == "contradicted"
    assert detail(world.check(), "signatures", "open") == "no file has a signed statement"


def test_a_file_that_was_put_in_place_of_the_published_one(world: World, tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    world.publish(pem)
    world.put(REPO, {FILE: gguf(metadata(general__name="evil"))})
    report = world.check(key=public)
    assert outcomes(report)["files"] == "contradicted"
    assert FILE in detail(report, "files", "contradicted")
    assert outcomes(report)["statements"] == "proven"  # of the file that was


def test_a_file_and_a_record_that_fit_each_other_are_not_what_was_signed(world: World, tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    world.publish(pem)
    evil = gguf(metadata(general__name="evil"))
    record = json.loads(world.content("phi-bot.json"))
    record["builds"][0]["build"]["files"][0] |= {"size": len(evil), "sha256": hashlib.sha256(evil).hexdigest()}
    world.put(REPO, {FILE: evil, "phi-bot.json": json.dumps(record).encode()})
    found = outcomes(world.check(key=public))
    assert (found["files"], found["statements"], found["signatures"]) == ("proven", "open", "contradicted")


def test_a_file_that_the_record_leaves_out_is_not_signed(world: World, tmp_path: Path) -> None:
    """The record is not signed: whoever may write could drop a build from it, and exchange its file."""
    pem, public = key_pair(tmp_path)
    world.publish(pem)
    world.put(REPO, {"Phi-9-mini-q6_k.gguf": gguf()})
    assert "Phi-9-mini-q6_k.gguf" in detail(world.check(key=public), "signatures", "contradicted")
    assert world.check().contradicted == ()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("path", ["phi-bot.json", STATEMENTS_FILE, "README.md"])
@pytest.mark.parametrize("status", [403, 503])
def test_what_the_hub_does_not_show_is_an_error_and_no_contradiction(
    world: World, shaky: Hub, faulty: Proxy, path: str, status: int
) -> None:
    world.publish()
    world.hub = shaky
    faulty.faults.append(Fault(method="GET", path=f"/{REPO}/resolve/.*{path}", status=status))
    with pytest.raises(TokenError if status == 403 else HubRefusedError):
        world.check()


def test_a_strangers_recipe_that_its_format_lacks_is_a_note(world: World) -> None:
    world.publish()
    record = json.loads(world.content("phi-bot.json"))
    record["builds"][0]["build"]["variant"].update(name="mlx/x", options={"imatrix": True})
    world.put(REPO, {"phi-bot.json": json.dumps(record).encode()})
    assert "mlx/x" in detail(world.check(), "newer", "note")


def test_a_statement_of_a_build_type_that_is_not_known_is_left_open(world: World) -> None:
    world.publish()
    (stated,) = read_statements(world.content(STATEMENTS_FILE))[0]
    stated.content["predicate"]["buildDefinition"]["buildType"] += "0"
    world.put(REPO, {STATEMENTS_FILE: Envelope(payload=payload_of(stated.content)).line()})
    report = world.check()
    assert FILE in detail(report, "statements", "open")
    assert report.contradicted == ()


def test_small_files_and_sources_are_bounded_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish()
    record = json.loads(world.content("phi-bot.json"))
    small = b"{}"
    entry = {"path": "small.json", "size": len(small), "sha256": hashlib.sha256(small).hexdigest()}
    record["builds"][0]["build"]["files"].append(entry)
    record["builds"].append(json.loads(json.dumps(record["builds"][0])))
    record["builds"][1]["build"]["source"]["commit"] = "0" * 40
    world.put(REPO, {"phi-bot.json": json.dumps(record).encode(), "small.json": small})
    assert "2 of 2" in detail(world.check(), "files", "proven")
    assert "cannot be seen" in detail(world.check(), "source", "open")
    monkeypatch.setattr("bot.checking.own._SMALL_BYTES", 1)
    monkeypatch.setattr("bot.checking.own._SOURCES", 1)
    report = world.check()
    assert "1 of 2" in detail(report, "files", "proven")
    assert "small.json" in detail(report, "files", "open")
    assert "only 1 of those" in detail(report, "source", "open")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda b: b["evidence"]["distances"][0]["figures"].update(mean_kl=0.0), "runDetails"),
        (lambda b: b["build"].update(bot_version="9.9"), "runDetails"),
        (lambda b: b["build"]["variant"]["options"].update(ftype="Q2_K"), "externalParameters"),
        (lambda b: b["build"].update(build_key="0" * 64), "internalParameters"),
        (lambda b: b["build"]["toolchain"].update(lock_digest="0" * 64), "toolchain gguf"),
        (lambda b: b["build"]["source"].update(commit="0" * 40), "source"),
    ],
)
def test_a_record_that_says_otherwise_than_its_statements(world: World, change: Any, part: str) -> None:
    world.publish()
    record = json.loads(world.content("phi-bot.json"))
    change(record["builds"][0])
    world.put(REPO, {"phi-bot.json": json.dumps(record).encode()})
    assert part in detail(world.check(), "statements", "contradicted")


def test_a_statement_that_names_another_file_of_the_source(world: World) -> None:
    world.publish()
    (stated,) = read_statements(world.content(STATEMENTS_FILE))[0]
    named = stated.content["predicate"]["buildDefinition"]["resolvedDependencies"]
    weights = next(d for d in named if d["name"] == "source/model.safetensors")
    weights["digest"] = {"sha256": "0" * 64}
    world.put(REPO, {STATEMENTS_FILE: Envelope(payload=payload_of(stated.content)).line()})
    assert "source/model.safetensors" in detail(world.check(), "statements", "contradicted")


def test_a_record_of_another_bot_proves_nothing_and_a_malformed_one_is_a_contradiction(
    world: World, tmp_path: Path
) -> None:
    world.publish()
    world.put(REPO, {"phi-bot.json": b'{"version": 2, "builds": [], "more": []}'})
    assert "more is unknown" in detail(world.check(), "record", "open")
    world.put(REPO, {"phi-bot.json": b'{"version": 1}'})
    assert "older phi-bot" in detail(world.check(), "record", "open")
    world.put(REPO, {"phi-bot.json": b'{"version": 99, "more": []}'})
    assert "newer phi-bot" in detail(world.check(), "record", "open")
    _, public = key_pair(tmp_path)
    assert outcomes(world.check(key=public))["signatures"] == "contradicted"  # what a key is given for has to be shown
    for content in (b"{", b"[]", b'{"version": 2}', b'{"version": 2, "builds": [{}]}'):
        world.put(REPO, {"phi-bot.json": content})
        assert outcomes(world.check())["record"] == "contradicted"


def test_statements_that_are_gone_or_no_statements(world: World) -> None:
    world.publish()
    world.put(REPO, {STATEMENTS_FILE: b"\xff\n[]\n"})
    report = world.check()
    assert "line 1" in detail(report, "statements", "contradicted")
    world.api.delete_file(STATEMENTS_FILE, REPO)
    assert "there is no" in detail(world.check(), "statements", "open")


def test_a_source_that_is_gone_leaves_open_what_it_would_show(world: World, tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    world.publish(pem)
    world.api.delete_repo(proven.MODEL)
    report = world.check(key=public)
    assert report.contradicted == ()
    found = outcomes(report)
    assert (found["source"], found["base model"]) == ("open", "open")
    assert (found["files"], found["statements"], found["signatures"]) == ("proven",) * 3


def test_a_source_that_went_on_is_a_note(world: World) -> None:
    world.publish()
    world.put(proven.MODEL, {"generation_config.json": b'{"eos_token_id": [1, 2]}'})
    report = world.check()
    assert set(outcomes(report)) >= {"source"}
    assert report.contradicted == ()
    assert "has other content now" in detail(report, "newer", "note")


def test_a_file_that_the_record_does_not_speak_of(world: World) -> None:
    world.publish()
    world.put(REPO, {"more.bin": b"?"})
    assert "more.bin" in detail(world.check(), "files", "open")


def test_an_older_revision_is_checked_as_it_was(world: World) -> None:
    world.publish()
    before = world.check().commit
    world.put(REPO, {FILE: b"evil"})
    assert outcomes(world.check())["files"] == "contradicted"
    assert outcomes(world.check(revision=before))["files"] == "proven"


def test_what_is_not_there_is_an_error(world: World) -> None:
    with pytest.raises(UnknownModelError):
        world.check("me/nothing")
    world.publish()
    with pytest.raises(UnknownRevisionError):
        world.check(revision="nothing")


# ---- other people's repos ------------------------------------------------------------------------------------


def test_a_foreign_file_that_is_like_its_base_model(world: World) -> None:
    report = world.foreign(gguf())
    assert report.contradicted == ()
    found = outcomes(report)
    assert found["record"] == "open"
    about = ("base model", "prompt", "stop tokens", "vocabulary", "rotary angles", "licence")
    assert {name: found[name] for name in about} == dict.fromkeys(about, "proven")


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"tokenizer__chat_template": TEMPLATE.replace("<|end|>", "")}, "prompt"),
        ({"tokenizer__chat_template": None}, "prompt"),
        ({"tokenizer__chat_template": "{% for x in"}, "prompt"),
        ({"tokenizer__ggml__tokens": ("<unk>", "<stop>", *TOKENS[2:])}, "vocabulary"),
        ({"tokenizer__ggml__tokens": TOKENS[:3]}, "vocabulary"),
        ({"tokenizer__ggml__tokens": (*TOKENS, "more")}, "vocabulary"),
        ({"tokenizer__ggml__tokens": ("x",) * 5, "tokenizer__ggml__eos_token_id": 4}, "stop tokens"),
        ({"phi3__rope__freq_base": 250000.0}, "rotary angles"),
        ({"general__license": "proprietary"}, "licence"),
    ],
)
def test_a_foreign_file_that_is_not_like_its_base_model(world: World, change: dict[str, Any], about: str) -> None:
    report = world.foreign(gguf(metadata(**change)))
    assert about in {f.about for f in report.contradicted}


@pytest.mark.parametrize(
    "factors", [{}, {"short": FACTORS["short"]}, FACTORS | {"long": (2.0, 4.0)}, FACTORS | {"long": (2.0,)}]
)
def test_other_factors_of_longrope(world: World, factors: dict[str, tuple[float, ...]]) -> None:
    """Microsoft changed those of Phi-3 under the same name: files made before are wrong past the switch."""
    report = world.foreign(gguf(factors=factors))
    assert [f.about for f in report.contradicted] == ["rotary angles"]


@pytest.mark.parametrize(
    "other",
    [
        TEMPLATE.replace("{% for m in messages %}", "{# the same #}{% for m in messages %}"),
        TEMPLATE + "{% if 'a trigger' in messages[0]['content'] %}evil{% endif %}",
    ],
)
def test_another_template_that_makes_the_same_prompts_of_what_is_tried_is_not_proven(world: World, other: str) -> None:
    report = world.foreign(gguf(metadata(tokenizer__chat_template=other)))
    assert report.contradicted == ()
    assert "same prompts" in detail(report, "prompt", "open")


def test_rows_that_no_token_has(world: World) -> None:
    report = world.foreign(gguf(metadata(tokenizer__ggml__tokens=(*TOKENS, "[PAD5]"))))
    assert outcomes(report)["vocabulary"] == "proven"


def test_angles_of_which_a_file_says_a_part_are_not_proven(world: World) -> None:
    no_base = world.foreign(gguf(metadata(phi3__rope__freq_base=None)))
    assert "does not say their base" in detail(no_base, "rotary angles", "open")
    elsewhere = world.foreign(gguf(metadata(split__no=0, split__count=2), {}))
    assert "another part" in detail(elsewhere, "rotary angles", "open")
    wrong = world.foreign(gguf(metadata(split__no=0, split__count=2), {"short": (9.0, 9.0)}))
    assert outcomes(wrong)["rotary angles"] == "contradicted"


def test_a_stop_token_more_is_a_note(world: World) -> None:
    report = world.foreign(gguf(metadata(tokenizer__ggml__eot_token_id=3)))
    assert report.contradicted == ()
    assert "<|assistant|> (3)" in detail(report, "stop tokens", "note")


def test_the_card_names_another_licence_or_no_base(world: World) -> None:
    other = world.foreign(gguf(), "base_model: microsoft/Phi-9-mini\nlicense: gpl")
    assert [f.about for f in other.contradicted] == ["licence"]
    nobody = world.foreign(gguf(), "license: mit")
    assert outcomes(nobody)["base model"] == "open"
    gone = world.foreign(gguf(), "base_model: microsoft/nothing")
    assert outcomes(gone)["base model"] == "open"
    inner = {
        "general__base_model__count": 1,
        "general__base_model__0__repo_url": "https://huggingface.co/microsoft/Phi-9-mini",
    }
    by_file = world.foreign(gguf(metadata(**inner)), "license: mit")
    assert "which its files name" in detail(by_file, "base model", "proven")
    inner["general__base_model__0__repo_url"] = "https://huggingface.co/../../x"
    assert "neither its record" in detail(world.foreign(gguf(metadata(**inner)), "license: mit"), "base model", "open")


def test_an_original_that_was_renamed_is_still_the_one_that_the_card_names(world: World) -> None:
    world.api.move_repo(proven.MODEL, "microsoft/Phi-9-small")
    report = world.foreign(gguf())
    assert report.contradicted == ()
    assert "microsoft/Phi-9-small" in detail(report, "base model", "proven")


def test_card_and_base_are_looked_at_where_no_header_is(world: World) -> None:
    world.put(FOREIGN, {"README.md": b"---\nbase_model: microsoft/Phi-9-mini\nlicense: gpl\n---\n", "m.onnx": b"?"})
    report = world.check(FOREIGN)
    assert outcomes(report)["base model"] == "proven"
    assert [f.about for f in report.contradicted] == ["licence"]


def test_a_hostile_header_is_a_contradiction_and_no_crash(world: World) -> None:
    for content in (b"PK\x03\x04", gguf()[:60], b"GGUF" + b"\xff" * 60):
        report = world.foreign(content)
        assert [f.about for f in report.contradicted] == ["header"]


@pytest.mark.parametrize("name", ["Phi-4-imatrix-Q4_K_M.gguf", "evil-mmproj-q4.gguf", "x-00002-of-00002.gguf"])
def test_a_name_hides_no_file(world: World, name: str) -> None:
    world.put(FOREIGN, {name: b"PK\x03\x04"})
    assert name in detail(world.check(FOREIGN), "header", "contradicted")


def test_what_is_not_read_by_its_name_is_said(world: World) -> None:
    names = ("mmproj-f16.gguf", "Phi.imatrix.gguf", "x-00002-of-00002.gguf")
    world.put(FOREIGN, dict.fromkeys(names, b"?"))
    world.put(FOREIGN, {"x-00001-of-00002.gguf": gguf()})
    report = world.check(FOREIGN)
    assert report.contradicted == ()
    assert all(name in detail(report, "header", "open") for name in names)


def test_a_header_that_may_be_right_is_left_open(world: World) -> None:
    report = world.foreign(gguf(metadata(general__type="adapter")))
    assert "of the type 'adapter'" in detail(report, "header", "open")
    assert report.contradicted == ()


def test_headers_are_bounded_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(FOREIGN, {f"Phi-{n}.gguf": gguf() for n in range(3)})
    monkeypatch.setattr("bot.checking.repo._MOST_BYTES", len(gguf()) * 2)
    assert "Phi-2.gguf" in detail(world.check(FOREIGN), "header", "open")


def test_a_strangers_text_is_shown_up_to_a_length(world: World) -> None:
    report = world.foreign(gguf(metadata(general__license="long " * 10_000)))
    assert outcomes(report)["licence"] == "contradicted"
    assert max(len(f.detail) for f in report.findings) <= 500
    assert FILE in detail(report, "licence", "contradicted")


def test_a_repo_without_any_of_it(world: World, tmp_path: Path) -> None:
    world.put(FOREIGN, {"model.bin": b"?", "mmproj-f16.gguf": b"?"})
    report = world.check(FOREIGN)
    assert set(outcomes(report).values()) == {"open"}
    _, public = key_pair(tmp_path)
    assert outcomes(world.check(FOREIGN, key=public))["signatures"] == "contradicted"


def test_equal_findings_of_many_files_are_said_once(world: World) -> None:
    world.put(FOREIGN, {f"Phi-{n}.gguf": gguf() for n in range(5)})
    world.foreign(gguf())
    report = world.check(FOREIGN)
    assert len([f for f in report.findings if f.about == "vocabulary"]) == 1
