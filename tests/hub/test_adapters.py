"""An adapter on the Hub: with its base, both at a commit, one release; and bases that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot.errors import (
    AdapterError,
    MissingConfigError,
    PhiBotError,
    TokenError,
    UnknownModelError,
    UnknownRevisionError,
    UnsupportedArchitectureError,
)
from bot.hub.client import Hub, connect
from bot.localhub import RunningHub
from bot.source.shape import local_shape
from tests.hub.faulty import Proxy
from tests.hub.test_releases import put
from tests.source.adapters import BASE, CONFIG, HIDDEN, ROWS, adapter_files, base_files, numbers, on_all_layers
from tests.source.models import write

REPO = "someone/phi-3.5-mini-lora"
CARD = b"---\nlicense: mit\nlanguage: en\n---\n"


def lora(client: Hub, **changes: Any) -> str:
    """Put an adapter of BASE on the Hub; return its commit."""
    return put(client, REPO, adapter_files(**changes))


def refused(client: Hub, error: type[PhiBotError] = AdapterError, base: str = BASE) -> str:
    with pytest.raises(error) as caught:
        client.release(REPO)
    assert caught.value.message.startswith(f"{REPO} is an adapter of {base!s}") or REPO in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_an_adapter_is_a_release_with_its_base(client: Hub, tmp_path: Path) -> None:
    first = put(client, BASE, base_files() | {"README.md": CARD})
    own = lora(client)
    release = client.release(REPO)
    assert release.base is not None
    assert (release.repo_id, release.commit) == (REPO, own)
    assert (release.base.repo_id, release.base.commit) == (BASE, first)
    assert [f.path for f in release.files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert release.config == release.base.config
    assert release.card == {"license": "mit", "language": "en"}
    assert release.notes == (f"it is a LoRA adapter, and is merged into {BASE}@{first[:12]} as that is read",)
    assert client.shape(release) == local_shape(write(tmp_path, base_files()), release.config)
    assert type(release).from_json(json.loads(json.dumps(release.to_json()))) == release


def test_its_content_is_both_and_no_card(client: Hub) -> None:
    put(client, BASE, base_files())
    lora(client)
    seen = {client.release(REPO).content_digest}
    put(client, BASE, {"README.md": CARD})
    put(client, REPO, {"README.md": CARD, "config.json": b"{}"})
    assert client.release(REPO).content_digest in seen
    put(client, BASE, {"generation_config.json": b'{"max_length": 9}'})
    seen.add(client.release(REPO).content_digest)
    lora(client, lora_alpha=9)
    seen.add(client.release(REPO).content_digest)
    assert len(seen) == 3


def test_the_base_is_read_at_the_revision_that_is_named(client: Hub) -> None:
    first = put(client, BASE, base_files())
    client.api.create_tag(BASE, tag="v1")
    put(client, BASE, base_files(max_position_embeddings=65))
    for revision in ("v1", first):
        lora(client, revision=revision)
        release = client.release(REPO)
        assert release.base is not None
        assert release.base.commit == first
    lora(client, revision="v2")
    assert "has no revision 'v2'" in refused(client, UnknownRevisionError)


def test_what_the_adapter_s_own_card_says_counts(client: Hub) -> None:
    put(client, BASE, base_files() | {"README.md": b"---\nlicense: mit\nlicense_link: https://example.org/L\n---\n"})
    lora(client)
    put(client, REPO, {"README.md": b"---\nlicense: apache-2.0\n---\n"})
    assert client.release(REPO).card == {"license": "apache-2.0"}


def test_what_either_asks_of_its_readers_is_handed_on(client: Hub) -> None:
    put(client, BASE, base_files() | {"README.md": b"---\nextra_gated_prompt: Terms\n---\n"})
    client.api.update_repo_settings(BASE, gated="manual", private=True)
    lora(client)
    release = client.release(REPO)
    assert (release.gated, release.private) == (True, True)
    assert release.card["extra_gated_prompt"] == "Terms"


def test_a_quantized_base_is_followed_to_what_it_was_made_from(client: Hub) -> None:
    bnb: dict[str, Any] = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    there = put(client, BASE, base_files())
    put(client, "unsloth/Phi-bnb-4bit", base_files(**bnb) | {"README.md": f"---\nbase_model: {BASE}\n---\n".encode()})
    lora(client, base_model_name_or_path="unsloth/Phi-bnb-4bit", revision="main")
    release = client.release(REPO)
    assert release.base is not None
    assert (release.base.repo_id, release.base.commit) == (BASE, there)
    put(client, "unsloth/Phi", base_files())
    lora(client, base_model_name_or_path="unsloth/Phi-unsloth-bnb-4bit")  # gone: by its name
    gone = client.release(REPO)
    assert gone.base is not None
    assert gone.base.repo_id == "unsloth/Phi"


def test_a_quantized_base_that_leads_nowhere_is_refused(client: Hub) -> None:
    put(client, "unsloth/Phi", base_files() | {"README.md": b"---\ntags: [x]\n---\n"})
    put(client, "unsloth/a-bnb-4bit", {"README.md": b"---\nbase_model: unsloth/b-bnb-4bit\n---\n"})
    put(client, "unsloth/b-bnb-4bit", {"README.md": b"---\nbase_model: unsloth/a-bnb-4bit\n---\n"})
    lora(client, base_model_name_or_path="unsloth/a-bnb-4bit")
    assert "nothing leads to what it was made from" in refused(client, base="unsloth/a-bnb-4bit")


def test_a_base_that_cannot_be_read_is_said_so(client: Hub, hub: RunningHub) -> None:
    lora(client)
    assert f"shows no repo {BASE}" in refused(client, UnknownModelError)
    put(client, BASE, base_files())
    client.api.update_repo_settings(BASE, gated="manual")
    assert "is gated" in refused(connect(hub.url), TokenError)
    put(client, BASE, {}, delete=("config.json",))
    assert "has no config.json" in refused(client, MissingConfigError)
    put(
        client, BASE, {"config.json": json.dumps(CONFIG | {"model_type": "gemma", "architectures": ["Gemma"]}).encode()}
    )
    assert "phi-bot takes Phi's own classes only" in refused(client, UnsupportedArchitectureError)
    put(client, BASE, adapter_files(base_model_name_or_path=REPO), delete=("config.json", "model.safetensors"))
    assert f"{BASE} is an adapter itself" in refused(client)


@pytest.mark.parametrize(
    "base", ["/etc", "./base", "../base", "~/base", "C:\\base", "a", "a/b/c", "file:///etc", "a/../b"]
)
def test_a_repo_never_leads_to_a_folder_here(
    shaky: Hub, faulty: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.chdir(write(tmp_path, base_files()))
    write(tmp_path / "base", base_files())
    lora(shaky, base_model_name_or_path=base)
    faulty.seen.clear()
    assert "is not a repo on the Hub" in refused(shaky)
    assert all(REPO in path for _, path, _ in faulty.seen if path.startswith("/api/models/"))


def test_an_adapter_that_does_not_fit_its_base_is_refused_by_the_headers(client: Hub) -> None:
    put(client, BASE, base_files())
    tensors = on_all_layers("self_attn.qkv_proj")
    tensors["base_model.model.score.weight"] = numbers(1, 2, HIDDEN)
    put(client, REPO, adapter_files(tensors))
    with pytest.raises(AdapterError, match=r"score.weight' is of 'score.weight', which its base does not have"):
        client.shape(client.release(REPO))


def test_a_larger_vocabulary_is_known_from_the_header(client: Hub) -> None:
    put(client, BASE, base_files())
    rows = numbers(7, ROWS + 2, HIDDEN)
    saved = {f"base_model.model.{name}.weight": rows for name in ("lm_head", "model.embed_tokens")}
    put(client, REPO, adapter_files(saved, target_modules=[]))
    release = client.release(REPO)
    assert release.config["vocab_size"] == ROWS + 2
    assert client.shape(release).vocabulary == ROWS + 2


def test_planning_reads_no_more_of_an_adapter_than_its_config_and_header(shaky: Hub, faulty: Proxy) -> None:
    put(shaky, BASE, base_files())
    lora(shaky)
    faulty.seen.clear()
    shaky.release(REPO)
    read = sorted({path.rsplit("/", 1)[-1] for _, path, _ in faulty.seen if "/resolve/" in path})
    assert read == ["adapter_config.json", "adapter_model.safetensors", "config.json"]
