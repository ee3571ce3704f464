"""A copy of a Phi on the Hub, kept or streamed: tensors come joined, and to the reference as they were saved."""

import queue
from pathlib import Path

import pytest

from bot.building.release_at_hand import AtHand, at_hand
from bot.building.streams import WeightStream
from bot.hub.client import Hub
from bot.records.artifacts import Json, Release
from bot.source import read_header
from bot.source.folder import WRITTEN
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.hub.test_releases import put
from tests.source.copies import LLAMA, contents, tensors
from tests.source.test_joined import bytes_of, with_own_bytes

REPO = "someone/phi-4-tune"


@pytest.fixture
def release(client: Hub, tmp_path: Path) -> Release:
    folder = with_own_bytes(tmp_path / "copy", tensors(LLAMA), 2)
    put(client, REPO, {p.name: p.read_bytes() for p in folder.iterdir()})
    return client.release(REPO)


def streamed_bytes(folder: Path, stream: WeightStream) -> dict[str, bytes]:
    """What a worker gets that reads every tensor in turn."""
    places = {n: (file, t) for file in folder.glob("*.safetensors") for n, t in read_header(file).items()}
    answers: queue.Queue[Json] = queue.Queue()
    found: dict[str, bytes] = {}
    with stream.reader() as reader:
        reader.begin(answers.put)
        reader.take({"event": "order", "tensors": list(places)})
        for name, (file, tensor) in places.items():
            reader.take({"event": "need", "tensor": name})
            assert answers.get(timeout=20) == {"have": name}
            with file.open("rb") as opened:
                opened.seek(8 + int.from_bytes(opened.read(8), "little") + tensor.begin)
                found[name] = opened.read(tensor.end - tensor.begin)
            reader.take({"event": "released", "tensor": name})
    return found


def read(given: AtHand) -> dict[str, bytes]:
    return bytes_of(given.folder) if given.stream is None else streamed_bytes(given.folder, given.stream)


def test_a_copy_streams_as_it_is_kept(client: Hub, release: Release, tmp_path: Path) -> None:
    found = []
    for streamed in (True, False):
        context = context_of(hub=client, workspace=Workspace(root=tmp_path / f"work-{streamed}"))
        with at_hand(release, context, streamed=streamed) as given, given.as_written() as written:
            assert (given.stream is not None, written.stream is not None) == (streamed, streamed)
            assert written.folder == given.folder / WRITTEN
            found.append((read(given), read(written)))
    assert found[0] == found[1]
    joined, was = found[0]
    assert was == bytes_of(tmp_path / "copy")
    q, k, v = (was[f"model.layers.0.self_attn.{part}_proj.weight"] for part in "qkv")
    assert joined["model.layers.0.self_attn.qkv_proj.weight"] == q + k + v


def test_a_release_says_what_makes_it_a_phi(client: Hub, release: Release) -> None:
    assert (release.layout, release.config["model_type"]) == ("LlamaForCausalLM", "phi3")
    assert "it is a Phi by its tokenizer (Phi-4's: <|im_sep|> is 19)" in release.read_as
    shape = client.shape(release)
    assert (shape.largest, shape.layers, shape.vocabulary) == (2 * 24 * 16, 2, 32)  # gate and up together


ORIGIN = b"""---
base_model: someone/phi-4-unsloth-bnb-4bit
---
"""


@pytest.mark.parametrize(
    ("between", "origin"),
    [
        ({"someone/phi-4-unsloth-bnb-4bit": "unsloth/phi-4", "unsloth/phi-4": "microsoft/phi-4"}, "microsoft/phi-4"),
        ({"someone/phi-4": "microsoft/phi-4"}, "microsoft/phi-4"),  # the conversion is gone
        (
            {"someone/phi-4-unsloth-bnb-4bit": "unsloth/phi-4", "unsloth/phi-4": "someone/phi-4-unsloth-bnb-4bit"},
            "",
        ),  # a circle
        ({}, ""),
    ],
)
def test_the_card_of_a_copy_leads_to_microsoft_s_repo(
    client: Hub, release: Release, between: dict[str, str], origin: str
) -> None:
    put(client, REPO, {"README.md": ORIGIN})
    for repo_id, base in between.items():
        put(client, repo_id, {"README.md": f"---\nbase_model: {base}\nlanguage: en\n---\n".encode()})
    card = b"---\nlicense: mit\nlicense_link: https://example.org/L\npipeline_tag: text-generation\nlanguage: de\n---\n"
    put(client, "microsoft/phi-4", {"README.md": card})
    found = client.release(REPO)
    assert found.origin == origin
    assert found.card.get("license") == ("mit" if origin else None)
    assert found.card.get("license_link") == ("https://example.org/L" if origin else None)
    assert found.card.get("language") == ("en" if between else None)  # the nearest that says it


def test_a_licence_of_the_copy_s_own_stays(client: Hub, release: Release) -> None:
    put(client, REPO, {"README.md": b"---\nlicense: apache-2.0\nbase_model: microsoft/phi-4\n---\n"})
    link = b"---\nlicense: mit\nlicense_link: https://example.org/L\n---\n"
    put(client, "microsoft/phi-4", {"README.md": link})
    found = client.release(REPO)
    assert (found.origin, found.card["license"], found.card.get("license_link")) == (
        "microsoft/phi-4",
        "apache-2.0",
        None,
    )


def test_a_namespace_s_copies_are_found_by_their_name_or_base(client: Hub) -> None:
    base = b"---\nbase_model: unsloth/phi-4\n---\n"
    put(client, "someone/phi-4-tune", contents())
    put(client, "someone/helper", contents() | {"README.md": base})
    put(client, "someone/Llama-2-7b", contents())
    put(client, "someone/phi-4-tune-bnb-4bit", contents())
    found = [s.repo_id for s in client.sources("someone") if s.usable]
    assert found == ["someone/helper", "someone/phi-4-tune"]
