"""What is stated of published files: what it says, that the record alone decides it, and what stays of older ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.publishing.envelopes import Envelope, public_key_of, signer_of
from bot.publishing.statements import (
    payload_of,
    read_statements,
    statement,
    statements_file,
)
from bot.records.artifacts import RECORD_VERSION, Calibration, ProvenBuild, RepoRecord, SourceFile, SourceRef
from bot.records.digests import digest_of
from tests.pages.cards.examples import COMMIT, GGUF, ONNX, RELEASE
from tests.publishing.keys import key_pair

TWO = RepoRecord(version=RECORD_VERSION, builds=GGUF.builds[:2])
NEW = [(proven, RELEASE) for proven in TWO.builds]


def said(proven: ProvenBuild) -> dict[str, Any]:
    return statement(proven, proven.build.files[0], RELEASE)


def definition(proven: ProvenBuild) -> dict[str, Any]:
    found: dict[str, Any] = said(proven)["predicate"]["buildDefinition"]
    return found


def dependencies(proven: ProvenBuild) -> dict[str, Any]:
    return {d["name"]: d for d in definition(proven)["resolvedDependencies"]}


def test_a_statement_names_the_file_by_its_path_in_the_repo() -> None:
    (proven, *_) = ONNX.builds
    entry = proven.build.files[0]
    name = f"{proven.build.path_in_repo}/{entry.path}"
    assert said(proven)["subject"] == [{"name": name, "digest": {"sha256": entry.sha256}}]


def test_it_names_the_commit_of_the_source_and_each_file_that_counts() -> None:
    named = dependencies(GGUF.builds[0])
    source = f"pkg:huggingface/microsoft/Phi-3.5-mini-instruct@{COMMIT}"
    assert named["source"]["digest"] == {"gitCommit": COMMIT}
    assert named["source"]["uri"] == source
    assert named["source/config.json"] == {
        "name": "source/config.json",
        "digest": {"gitBlob": "c" * 40},
        "uri": f"{source}#config.json",
    }
    assert named["source/model-00001-of-00002.safetensors"]["digest"] == {"sha256": "a" * 64}


def test_of_an_adapter_it_names_the_base_and_its_files_too() -> None:
    proven = GGUF.builds[0]
    base = replace(RELEASE, repo_id="them/base", commit="e" * 40)
    adapter = replace(
        RELEASE,
        base=base,
        files=(SourceFile(path="adapter_model.safetensors", size=9, digest=f"sha256:{'d' * 64}"),),
    )
    ref = SourceRef(repo_id="them/base", commit="e" * 40, content_digest="f" * 64)
    merged = replace(proven, build=replace(proven.build, base=ref))
    made: dict[str, Any] = statement(merged, merged.build.files[0], adapter)
    named = {d["name"]: d for d in made["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert named["source/adapter_model.safetensors"]["digest"] == {"sha256": "d" * 64}
    assert named["base"]["digest"] == {"gitCommit": "e" * 40}
    assert named["base/config.json"]["digest"] == {"gitBlob": "c" * 40}


def test_a_folder_has_no_address_and_its_content_is_its_digest() -> None:
    proven = GGUF.builds[0]
    source = replace(proven.build.source, repo_id="local/mine", commit=None)
    named = dependencies(replace(proven, build=replace(proven.build, source=source)))
    assert named["source"]["digest"] == {"phiBotContent": source.content_digest}
    assert "uri" not in named["source"]


def test_it_names_the_toolchain_the_recipe_and_the_text_that_weights_were_rounded_for() -> None:
    proven = GGUF.builds[0]
    variant = replace(proven.build.variant, options={"ftype": "Q4_K_M", "quality": "calibrated"})
    text = Calibration(text="training.txt", text_sha256="1" * 64, sha256="2" * 64, tokens=5)
    made = replace(proven, build=replace(proven.build, variant=variant, calibration=text))
    assert definition(made)["externalParameters"]["quality"] == "calibrated"
    assert definition(made)["externalParameters"]["recipe"]["ftype"] == "Q4_K_M"
    assert dependencies(made)["calibration text training.txt"]["digest"] == {"phiBotText": "1" * 64}
    assert definition(made)["internalParameters"]["moments"] == "2" * 64
    lock = made.build.toolchain.lock_digest
    assert dependencies(made)["toolchain gguf"]["digest"] == {"phiBotLock": lock}


def test_it_says_what_was_measured() -> None:
    proven = GGUF.builds[0]
    (evidence,) = said(proven)["predicate"]["runDetails"]["byproducts"]
    assert evidence["digest"] == {"phiBotEvidence": digest_of(evidence["annotations"])}
    (short, *_) = proven.evidence.recommended
    assert evidence["annotations"]["distances"][0] == {
        "side": "short",
        "tokens": short.tokens,
        "meanKL": short.figures.mean_kl,
        "top1Agreement": short.figures.top1_agreement,
    }


def test_equal_records_make_equal_bytes_also_when_they_were_read_from_a_file() -> None:
    again = RepoRecord.from_json(json.loads(json.dumps(TWO.to_json())))
    assert statements_file(TWO, NEW, b"", None) == statements_file(
        again, [(b, RELEASE) for b in again.builds], b"", None
    )


def test_without_a_key_no_line_is_signed() -> None:
    found, problems = read_statements(statements_file(TWO, NEW, b"", None))
    assert problems == ()
    assert len(found) == sum(len(b.build.files) for b in TWO.builds)
    assert all(s.envelope.signatures == () for s in found)


def test_what_was_signed_before_stays_as_it_was_and_what_is_gone_goes(tmp_path: Path) -> None:
    """Who publishes a second file has not checked the first one again, and does not sign for it."""
    pem, public = key_pair(tmp_path)
    first = RepoRecord(version=RECORD_VERSION, builds=TWO.builds[:1])
    before = statements_file(first, NEW[:1], b"", signer_of(pem, {}))
    after = statements_file(TWO, NEW[1:], before, None)
    assert before.strip() in after.split(b"\n")
    kept, made = sorted(read_statements(after)[0], key=lambda s: not s.envelope.signatures)
    assert public_key_of(public).verifies(kept.envelope)
    assert made.envelope.signatures == ()
    replaced = replace(TWO, builds=TWO.builds[1:])
    assert before.strip() not in statements_file(replaced, NEW[1:], before, None).split(b"\n")


def test_a_line_about_another_content_under_the_same_name_does_not_stay(tmp_path: Path) -> None:
    proven = TWO.builds[0]
    entry = replace(proven.build.files[0], sha256="9" * 64)
    other = replace(proven, build=replace(proven.build, files=(entry,)))
    lie = Envelope(payload=payload_of(statement(other, entry, RELEASE))).line()
    assert statements_file(TWO, (), lie + b"\n", None) == b""


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"not JSON", "line 1: "),
        (b"[]", "it is not an envelope"),
        (b'{"payloadType": "text/plain", "payload": "", "signatures": []}', "it is not an envelope"),
        (b'{"payloadType": "application/vnd.in-toto+json", "payload": "e30="}', "no list of signatures"),
        (b'{"payloadType": "application/vnd.in-toto+json", "payload": "?", "signatures": []}', "not Base64"),
        (b'{"payloadType": "application/vnd.in-toto+json", "signatures": []}', "is missing"),
        (Envelope(payload=b"{}").line(), "not an in-toto Statement v1"),
        (Envelope(payload=b"\xff").line(), "line 1: "),
        (Envelope(payload=b"[" * 5000).line(), "nested"),
        (Envelope(payload=b'{"_type": "https://in-toto.io/Statement/v1", "subject": [3]}').line(), "of no file"),
    ],
)
def test_what_is_not_a_statement_is_named_and_the_others_are_read(line: bytes, why: str) -> None:
    whole = statements_file(TWO, NEW, b"", None)
    found, problems = read_statements(line + b"\n" + whole)
    assert len(found) == len(read_statements(whole)[0])
    (problem,) = problems
    assert why in problem


def test_a_file_of_more_lines_than_a_repo_has_files_is_not_read() -> None:
    found, (problem,) = read_statements(b"{}\n" * 2001)
    assert found == ()
    assert "2001 lines" in problem
