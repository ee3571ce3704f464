import dataclasses
import json
from typing import Any

import pytest

from bot import source
from bot.errors import (
    AdapterError,
    AlteredDownloadError,
    DamagedWeightsError,
    HubRefusedError,
    MissingConfigError,
    PhiBotError,
    PicklesOnlyError,
    RemoteCodeError,
    TokenError,
    UnknownModelError,
    UnknownRevisionError,
    UnsafeFileNameError,
    UnsupportedArchitectureError,
)
from bot.hub.client import Hub, connect
from bot.hub.errors import hub_errors
from bot.hub.headers import shape
from bot.localhub import RunningHub, ServerLimits, serve
from bot.progress import Silent
from bot.source.shape import local_shape
from tests.hub.faulty import Fault, Proxy
from tests.source import models
from tests.source.models import CONFIG, files, sharded, write

CARD = b"---\nlicense: mit\nlanguage:\n- en\npipeline_tag: text-generation\n---\n# Phi\n"


def put(hub: Hub, repo_id: str, contents: dict[str, bytes], delete: tuple[str, ...] = ()) -> str:
    """Commit files onto the head of a repo, as its owner would."""
    head = hub.api.model_info(repo_id).sha if hub.api.repo_exists(repo_id) else None
    with Silent().task("") as task:
        return hub.commit(repo_id, files=contents, delete=delete, parent=head, message="Put", task=task)


# ---- one release ---------------------------------------------------------------------------------------------


def test_a_release_is_pinned_to_a_commit(client: Hub) -> None:
    first = put(client, "microsoft/Phi-4", files() | {"README.md": CARD})
    client.api.create_tag("microsoft/Phi-4", tag="v1")
    second = put(client, "microsoft/Phi-4", {"README.md": CARD + b"More words.\n"})
    release = client.release("microsoft/Phi-4")
    assert release.commit == second
    for revision in ("v1", first):
        assert client.release("microsoft/Phi-4", revision).commit == first
    assert release.config == CONFIG
    assert release.card == {"license": "mit", "language": ["en"], "pipeline_tag": "text-generation"}
    assert not release.gated


def test_words_on_the_card_are_not_a_new_release_but_weights_are(client: Hub) -> None:
    put(client, "microsoft/Phi-4", files() | {"README.md": CARD})
    before = client.release("microsoft/Phi-4").content_digest
    put(client, "microsoft/Phi-4", {"README.md": b"# Other words\n", "results.png": b"\x89PNG"})
    assert client.release("microsoft/Phi-4").content_digest == before
    put(client, "microsoft/Phi-4", {"generation_config.json": b"{}"})
    assert client.release("microsoft/Phi-4").content_digest != before


def test_the_same_files_are_the_same_release_here_and_there(client: Hub, tmp_path: Any) -> None:
    put(client, "microsoft/Phi-4", sharded())
    local = source.local_release(write(tmp_path / "Phi-4", sharded()))
    there = client.release("microsoft/Phi-4")
    assert there.content_digest == local.content_digest
    assert there.files == local.files


def test_only_content_and_licences_are_part_of_a_release(client: Hub) -> None:
    put(client, "microsoft/Phi-4", files() | {"onnx/model.onnx": b"x", "pytorch_model.bin": b"\x80"})
    paths = [f.path for f in client.release("microsoft/Phi-4").files]
    assert paths == sorted(set(files()) - {"modeling_phi3.py"})


@pytest.mark.parametrize(
    "contents",
    [
        sharded() | {"model.safetensors": files()["model.safetensors"]},
        sharded() | {"model-00003-of-00003.safetensors": b"another model's"},
    ],
    ids=["single file", "leftover shard"],
)
def test_of_two_models_in_a_repo_only_the_one_that_counts_is_listed_read_and_downloaded(
    client: Hub, shaky: Hub, faulty: Proxy, tmp_path: Any, contents: dict[str, bytes]
) -> None:
    put(client, "microsoft/Phi-4", contents)
    local = source.local_release(write(tmp_path / "Phi-4", contents))
    there = shaky.release("microsoft/Phi-4")
    assert (there.files, there.content_digest, there.notes) == (local.files, local.content_digest, local.notes)
    assert len(there.notes) == 1
    (tmp_path / "kept").mkdir()
    (tmp_path / "streamed").mkdir()
    with Silent().task("") as task:
        shaky.download(there, tmp_path / "kept", task)
        places = shaky.outline(there, tmp_path / "streamed", task)
    with hub_errors(client.endpoint):
        assert shape(shaky.api, there) == local_shape(tmp_path / "Phi-4", there.config)
    listed = {f.path for f in there.files}
    assert {p.file.path for p in places.values()} == {f for f in listed if f.endswith(".safetensors")}
    assert (
        {p.name for p in (tmp_path / "kept").iterdir()} == {p.name for p in (tmp_path / "streamed").iterdir()} == listed
    )
    asked = {p.rsplit("/", 1)[-1] for _, p, _ in faulty.seen if "/resolve/" in p}
    assert asked == listed


def test_listing_a_release_downloads_its_config_alone(shaky: Hub, faulty: Proxy) -> None:
    put(shaky, "microsoft/Phi-4", files())
    faulty.seen.clear()
    shaky.release("microsoft/Phi-4")
    assert [p for _, p, _ in faulty.seen if "/resolve/" in p] == [
        p for _, p, _ in faulty.seen if p.endswith("/config.json")
    ]


@pytest.mark.parametrize(
    ("contents", "error"),
    [
        (files(config__json=None), MissingConfigError),
        (files(config__json=b"[]"), MissingConfigError),
        (files(config__json=b'{"a": "' + b"x" * 1_000_000 + b'"}'), MissingConfigError),
        (files(model__safetensors=None) | {"pytorch_model.bin": b"\x80"}, PicklesOnlyError),
        (files(model__safetensors=None), DamagedWeightsError),
        ({k: v for k, v in sharded().items() if "00002-of" not in k}, DamagedWeightsError),
        (files() | {"adapter_config.json": b'{"peft_type": "LORA"}'}, AdapterError),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, AdapterError),
        (files(config__json=json.dumps(CONFIG | {"model_type": "phi4flash"}).encode()), RemoteCodeError),
        (files(config__json=b'{"architectures": ["LlamaForCausalLM"]}'), UnsupportedArchitectureError),
    ],
)
def test_a_release_that_cannot_be_built_is_refused_before_its_weights_are_downloaded(
    client: Hub, contents: dict[str, bytes], error: type[PhiBotError]
) -> None:
    put(client, "microsoft/Phi-4", contents)
    with pytest.raises(error, match="microsoft/Phi-4"):
        client.release("microsoft/Phi-4")


@pytest.mark.parametrize("name", ["../outside.json", "/etc/passwd", "a\\..\\b", "C:x", "a\x1b[2J", "con"])
def test_a_repo_with_names_that_leave_the_folder_is_refused(shaky: Hub, faulty: Proxy, name: str) -> None:
    put(shaky, "microsoft/Phi-4", files())
    tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40}]
    faulty.faults.append(Fault(method="GET", path="/tree/", body=json.dumps(tree).encode()))
    with pytest.raises(UnsafeFileNameError, match="microsoft/Phi-4") as caught:
        shaky.release("microsoft/Phi-4")
    assert caught.value.exit_code == 24


def test_a_config_that_was_altered_on_the_way_is_refused(shaky: Hub, faulty: Proxy) -> None:
    put(shaky, "microsoft/Phi-4", files())
    faulty.faults.append(Fault(method="GET", path="/resolve/.*config.json", alter=True))
    with pytest.raises(AlteredDownloadError, match=r"config.json of microsoft/Phi-4"):
        shaky.release("microsoft/Phi-4")


# ---- what a person may see -----------------------------------------------------------------------------------


@pytest.mark.parametrize("repo_id", ["microsoft/none", "nobody/none"])
def test_an_unknown_model_is_said_so(client: Hub, repo_id: str) -> None:
    with pytest.raises(UnknownModelError, match=f"shows no repo {repo_id}") as caught:
        client.release(repo_id)
    assert caught.value.exit_code == 13


@pytest.mark.parametrize("repo_id", ["a/b/c", "a b/c", "../c", "a/b--c", ""])
def test_a_malformed_repo_id_is_refused(client: Hub, repo_id: str) -> None:
    with pytest.raises(UnknownModelError, match="is not a repo id"):
        client.release(repo_id)


def test_an_unknown_revision_is_said_so(client: Hub) -> None:
    put(client, "microsoft/Phi-4", files())
    with pytest.raises(UnknownRevisionError, match="microsoft/Phi-4 has no revision 'nightly'") as caught:
        client.release("microsoft/Phi-4", "nightly")
    assert caught.value.exit_code == 12


def test_a_private_model_looks_like_none_without_a_token(client: Hub, hub: RunningHub) -> None:
    client.api.create_repo("microsoft/secret", private=True)
    with pytest.raises(UnknownModelError) as caught:
        connect(hub.url).release("microsoft/secret")
    assert "HF_TOKEN" in caught.value.hint


def test_a_gated_model_says_where_to_ask_for_access(client: Hub, hub: RunningHub) -> None:
    put(client, "microsoft/gated", files())
    client.api.update_repo_settings("microsoft/gated", gated="manual")
    assert client.release("microsoft/gated").gated
    with pytest.raises(TokenError, match="microsoft/gated is gated") as caught:
        connect(hub.url).release("microsoft/gated")
    assert f"{hub.url}/microsoft/gated" in caught.value.hint
    assert caught.value.exit_code == 30


# ---- finding releases ----------------------------------------------------------------------------------------


def variant(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (CONFIG | changes).items() if v is not None}).encode()


def test_releases_are_found_and_conversions_are_not(client: Hub) -> None:
    quantized = b"---\nbase_model: microsoft/Phi-4\nbase_model_relation: quantized\n---\n"
    repos = {
        "Phi-4": files(),
        "Phi-4-mini-instruct": sharded(),
        "Phi-3.5-MoE-instruct": files(config__json=variant(architectures=["PhiMoEForCausalLM"], model_type="phimoe")),
        "phi-2": files(config__json=variant(architectures=["PhiForCausalLM"], model_type="phi", auto_map=None)),
        "Phi-4-unnamed": files(config__json=json.dumps(CONFIG | {"architectures": None}).encode()),
        "Phi-4-renamed": files() | {"README.md": quantized},
        "Phi-4-adapter": files() | {"README.md": quantized.replace(b"quantized", b"adapter")},
        "Phi-4-tagged": files() | {"README.md": b"---\ntags: [gptq]\n---\n"},
        "Phi-4-GGUF": files(),
        "phi-4-gguf": {"phi-4-q4.gguf": b"GGUF"},
        "Phi-4-mini-instruct-onnx": files(),
        "Phi-4-awq": files(),
        "Phi-4-int4-ov": files(),
        "Phi-4-4bit": files(),
        "Phi-4-gptq-like": files(
            config__json=variant(quantization_config=GPTQ), model__safetensors=models.safetensors(PACKED)
        ),
        "Phi-4-pickled": files(model__safetensors=None) | {"pytorch_model.bin": b"\x80"},
        "Phi-4-mini-flash": files(config__json=variant(model_type="phi4flash")),
        "Phi-4-unconfigured": files(config__json=None),
        "deberta": files(config__json=variant(architectures=["DebertaModel"], model_type="deberta")),
    }
    for name, contents in repos.items():
        put(client, f"microsoft/{name}", contents)
    put(client, "someone/Phi-4-finetune", files())
    names = ["Phi-3.5-MoE-instruct", "Phi-4", "Phi-4-mini-instruct", "Phi-4-unnamed", "phi-2"]
    assert usable(client, "microsoft") == [f"microsoft/{n}" for n in names]
    assert usable(client, "someone") == ["someone/Phi-4-finetune"]
    assert usable(client, "nobody") == []


GPTQ = {"bits": 4, "quant_method": "gptq"}
BNB = {"load_in_4bit": True, "quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4"}
PACKED = models.TENSORS | {"model.layers.0.self_attn.qkv_proj.qweight": ("I32", [1, 4])}


@pytest.mark.parametrize("key", [GPTQ, BNB, {}, None], ids=["gptq", "bitsandbytes", "empty", "null"])
def test_a_key_that_a_merge_left_over_hides_no_full_precision_weights(client: Hub, key: Any) -> None:
    config = json.dumps(CONFIG | {"quantization_config": key}).encode()
    put(client, "me/Phi-4-merged", files(config__json=config))
    assert usable(client, "me") == ["me/Phi-4-merged"]


@pytest.mark.parametrize("key", [GPTQ, BNB, None], ids=["gptq", "bitsandbytes", "null"])
@pytest.mark.parametrize("dtype", ["I32", "U8", "F8_E4M3"])
def test_quantized_weights_are_passed_over_by_the_list_alone(shaky: Hub, faulty: Proxy, key: Any, dtype: str) -> None:
    packed = PACKED | {"model.layers.0.self_attn.qkv_proj.weight": (dtype, [1, 4])}
    config = json.dumps(CONFIG | {"quantization_config": key}).encode()
    put(shaky, "me/Phi-4", files())
    put(shaky, "me/Phi-4-packed", files(config__json=config, model__safetensors=models.safetensors(packed)))
    faulty.seen.clear()
    assert [s.repo_id for s in shaky.sources("me")] == ["me/Phi-4"]
    assert len(faulty.seen) == 1


def test_unread_weights_are_judged_by_the_config_and_a_persons_tag_always_counts(
    client: Hub,
) -> None:
    config = json.dumps(CONFIG | {"quantization_config": BNB}).encode()
    put(client, "me/Phi-4-unread", files(config__json=config, model__safetensors=b"no header"))
    put(client, "me/Phi-4-said", files(config__json=config) | {"README.md": b"---\ntags: [4-bit]\n---\n"})
    assert client.sources("me") == []


def usable(client: Hub, author: str) -> list[str]:
    return [s.repo_id for s in client.sources(author) if s.usable]


@pytest.mark.server
def test_every_page_of_a_namespace_is_read(tmp_path: Any) -> None:
    with serve(tmp_path, limits=dataclasses.replace(ServerLimits(), page=2)) as running:
        client = connect(running.url, running.token)
        for number in range(5):
            put(client, f"microsoft/Phi-{number}", files())
        assert usable(client, "microsoft") == [f"microsoft/Phi-{n}" for n in range(5)]


@pytest.mark.server
def test_a_repo_of_more_files_than_a_page_is_read_whole(tmp_path: Any) -> None:
    with serve(tmp_path, limits=dataclasses.replace(ServerLimits(), page=2)) as running:
        client = connect(running.url, running.token)
        put(client, "microsoft/Phi-4", files())
        assert len(client.release("microsoft/Phi-4").files) == len(files()) - 1


def test_an_answer_without_a_commit_is_refused(shaky: Hub, faulty: Proxy) -> None:
    put(shaky, "microsoft/Phi-4", files())
    faulty.faults.append(Fault(method="GET", path="/api/models/", body=b'{"id": "microsoft/Phi-4"}'))
    with pytest.raises(HubRefusedError, match="names no commit"):
        shaky.release("microsoft/Phi-4")
