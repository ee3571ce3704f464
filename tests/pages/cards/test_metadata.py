import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from hypothesis import example, given
from hypothesis import strategies as st

from bot.localhub.front_matter import judge
from bot.pages.cards.metadata import head, license_of, metadata
from bot.records.artifacts import LeftOut, Release
from tests.markdown_reader import hostile_text
from tests.pages.cards.examples import COMMIT, DIGEST, GGUF, ONNX, RELEASE, REPOS, record

HUB = "https://huggingface.co"


OWN_TAGS = ["gguf", "phi", "quantized", "phi-bot", "fp16", "int2", "int4", "int8", "2-bit", "4-bit", "8-bit"]


def read_head(release: Release, chats: bool = True) -> dict[str, Any]:
    """Return the head of the GGUF card as the Hub reads it."""
    card = head(GGUF, release, chats=chats, endpoint=HUB) + "\n# Title\n"
    found = REGEX_YAML_BLOCK.search(card)
    assert found
    assert card[found.end() :].strip() == "# Title"
    value: dict[str, Any] = yaml.safe_load(found[2])
    return value


def of(**card: Any) -> dict[str, Any]:
    """Return the metadata made from a source whose card says so."""
    return metadata(GGUF, replace(RELEASE, card=card), chats=True, endpoint=HUB)


def test_a_head_holds_the_keys_that_the_hub_indexes() -> None:
    assert read_head(RELEASE) == {
        "base_model": "microsoft/Phi-3.5-mini-instruct",
        "base_model_relation": "quantized",
        "license": "mit",
        "license_link": "https://huggingface.co/microsoft/Phi-3.5-mini-instruct/resolve/main/LICENSE",
        "language": ["multilingual"],
        "pipeline_tag": "text-generation",
        "library_name": "gguf",
        "tags": [*OWN_TAGS, "conversational", "nlp", "code"],
        "quantized_by": "phi-bot",
        "phi_bot": {
            "source": f"microsoft/Phi-3.5-mini-instruct@{COMMIT}",
            "builds": {b.build.variant.name: b.build.build_key for b in GGUF.builds},
            "contents": {b.build.variant.name: DIGEST for b in GGUF.builds},
        },
    }


@pytest.mark.parametrize("name", REPOS)
def test_huggingface_hub_takes_it(name: str) -> None:
    data = metadata(REPOS[name][1], RELEASE, chats=True, endpoint=HUB)
    read = ModelCardData(**data, ignore_metadata_errors=False)
    assert read.base_model == "microsoft/Phi-3.5-mini-instruct"
    assert read.to_dict() == data  # type: ignore[no-untyped-call]


def test_every_format_has_a_library_of_its_own() -> None:
    libraries = [metadata(r, RELEASE, chats=True, endpoint=HUB)["library_name"] for _, r in REPOS.values()]
    assert len(set(libraries)) == len(libraries)


def test_a_local_folder_is_not_a_base_model_and_stays_unnamed() -> None:
    release = replace(RELEASE, repo_id="local/tuned", commit=None, folder="/home/somebody/secret")
    data = metadata(GGUF, release, chats=True, endpoint=HUB)
    assert "base_model" not in data
    assert data["phi_bot"]["source"] == "local/tuned"
    assert "secret" not in str(data)


def test_a_text_part_is_not_called_what_the_whole_model_is() -> None:
    card = {"pipeline_tag": "image-text-to-text", "tags": ["nlp", "vision", "Speech"]}
    rest = LeftOut(inputs=("pictures", "speech"), tensors=3, bytes=9)
    found = metadata(GGUF, replace(RELEASE, card=card, left_out=rest), chats=True, endpoint=HUB)
    assert (found["pipeline_tag"], found["tags"]) == ("text-generation", [*OWN_TAGS, "conversational", "nlp"])
    assert of(**card)["pipeline_tag"] == "image-text-to-text"


def test_without_a_word_from_the_source_there_is_a_pipeline_tag_still() -> None:
    data = of()
    assert data["pipeline_tag"] == "text-generation"
    assert not data.keys() & {"license", "license_name", "license_link", "language"}


# ---- the licence ---------------------------------------------------------------------------------------------


def test_a_licence_of_its_own_keeps_its_name() -> None:
    data = of(license="other", license_name="phi-research", license_link="LICENSE.md")
    assert (data["license"], data["license_name"]) == ("other", "phi-research")
    assert data["license_link"] == f"{HUB}/microsoft/Phi-3.5-mini-instruct/blob/{COMMIT}/LICENSE.md"
    assert (
        license_of(replace(RELEASE, card={"license": "other", "license_name": "phi-research"}), HUB).name
        == "phi-research"
    )


@pytest.mark.parametrize("name", ["phi-research", "Microsoft.Research", "0BSD", "gpl-4.0"])
def test_a_licence_that_the_hub_does_not_know_is_told_by_its_name(name: str) -> None:
    data = of(license=name)
    assert (data["license"], data["license_name"]) == ("other", name)
    named = of(license=name, license_name="its own")
    assert (named["license"], named["license_name"]) == ("other", "its own")


@pytest.mark.parametrize(
    "name",
    ["лицензия", "mit\u202e", "רישיון", "free 🎁", "a" * 101, "e\u0301" * 9],
    ids=["cyrillic", "override", "rtl", "emoji", "long", "accents"],
)
def test_a_licence_that_does_not_read_as_it_is_written_has_no_name(name: str) -> None:
    data = of(license="other", license_name=name)
    assert data["license"] == "other"
    assert data.get("license_name") in (None, "mit")


@given(st.one_of(st.sampled_from(["mit", "MIT", "Apache-2.0", "other"]), st.text()))
def test_no_licence_makes_a_card_that_the_hub_refuses(name: str) -> None:
    written = head(GGUF, replace(RELEASE, card={"license": name}), chats=True, endpoint=HUB)
    assert judge(written).errors == ()


def test_a_relative_link_leads_to_the_source_at_its_commit_on_its_hub() -> None:
    release = replace(RELEASE, card={"license_link": "./docs/A LICENSE"})
    assert license_of(release, "http://127.0.0.1:8000").link == (
        f"http://127.0.0.1:8000/microsoft/Phi-3.5-mini-instruct/blob/{COMMIT}/docs/A%20LICENSE"
    )


@pytest.mark.parametrize(
    "link",
    [
        "../../evil/repo",
        "/etc/passwd",
        "javascript:alert(1)",
        "//evil.example",
        "a/../b",
        "",
        "https://",
        7,
        None,
        ["x"],
    ],
)
def test_a_link_elsewhere_is_left_out(link: Any) -> None:
    assert "license_link" not in of(license_link=link)


# ---- what is handed on, and what is not ----------------------------------------------------------------------


def test_tags_of_the_source_files_are_not_handed_on() -> None:
    tags = of(tags=["safetensors", "Transformers", "onnx", "license:other", "base_model:evil/x", "nlp", 7, "a\nb"])[
        "tags"
    ]
    assert tags[-1] == "nlp"
    assert tags.count("gguf") == 1
    assert not {"safetensors", "Transformers", "onnx", "license:other", "base_model:evil/x"} & set(tags)


def test_languages_are_codes() -> None:
    assert of(language=["en", "pt-BR", "no", "../x", 7, "English please"])["language"] == ["en", "pt-BR", "no"]
    assert of(language="en")["language"] == ["en"]


GATE: dict[str, Any] = {
    "extra_gated_heading": "Acknowledge the terms",
    "extra_gated_prompt": "### Terms\n\n1. Be *kind*.\n",
    "extra_gated_fields": {
        "Name": "text",
        "Country": "country",
        "I agree": "checkbox",
        "Use": {"type": "select", "options": ["Research", {"label": "Other", "value": "other"}]},
    },
}


def test_a_gated_source_passes_on_its_questions() -> None:
    data = metadata(GGUF, replace(RELEASE, gated=True, card=GATE), chats=True, endpoint=HUB)
    assert {k: data[k] for k in GATE} == {**GATE, "extra_gated_prompt": "### Terms\n\n1. Be *kind*."}


def test_an_open_source_asks_nothing() -> None:
    assert not [key for key in of(**GATE) if key.startswith("extra_gated")]


def test_fields_of_an_unknown_kind_are_left_out() -> None:
    fields = {"Name": "password", "x\ny": "text", "Use": {"type": "select", "options": [7, {}]}, "Country": "country"}
    data = metadata(GGUF, replace(RELEASE, gated=True, card={"extra_gated_fields": fields}), chats=True, endpoint=HUB)
    assert data["extra_gated_fields"] == {"Country": "country"}


# ---- YAML ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["1e3", "1.", "0o17", "no", "null", "1:30", "2026-11-22", "0x1f", ".5", "-1", "~", "=", "<<"]
)
def test_text_that_looks_like_something_else_stays_text_in_every_yaml(text: str) -> None:
    written = head(GGUF, replace(RELEASE, card={"license_name": text}), chats=True, endpoint=HUB)
    assert re.search(rf"^license_name: (['\"]){re.escape(text)}\1$", written, re.MULTILINE)


KEYS = ["license", "license_name", "license_link", "language", "pipeline_tag", "tags", "extra_gated_prompt"]
KEYS += ["extra_gated_heading", "extra_gated_fields", "extra_gated_button_content", "extra_gated_description"]
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | hostile_text
    | st.sampled_from(["text", "select"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hostile_text | st.sampled_from(["type", "options"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@example(card={}, gated=False, name="\x85")
@example(card={"license_name": "a\u2028b"}, gated=False, name="a\u2029")
@given(card=st.dictionaries(st.sampled_from(KEYS), any_json), gated=st.booleans(), name=hostile_text)
def test_whatever_a_source_says_the_head_reads_back_and_ends_where_it_should(
    card: dict[str, Any], gated: bool, name: str
) -> None:
    release = replace(RELEASE, repo_id=f"owner/{name}", card=card, gated=gated)
    read = read_head(release)
    assert read == metadata(GGUF, release, chats=True, endpoint=HUB)
    assert read["base_model_relation"] == "quantized"
    assert set(read) <= {*KEYS, "base_model", "base_model_relation", "library_name", "quantized_by", "phi_bot"}


def test_onnx_names_its_devices_only_by_variant() -> None:
    data = metadata(record(*ONNX.builds), RELEASE, chats=False, endpoint=HUB)
    assert set(data["phi_bot"]["builds"]) == {"onnx/cpu-int4", "onnx/cuda-int4"}
    assert "conversational" not in data["tags"]
