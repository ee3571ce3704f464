"""What one list tells of a namespace: what this bot published there, and what is not its own."""

import json
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi

from bot.hub.client import Hub
from bot.localhub import RunningHub
from bot.records.artifacts import RECORD_VERSION, RepoRecord
from tests.hub.faulty import Proxy
from tests.hub.fixtures import Log
from tests.pages.cards.examples import GGUF

RECORD = json.dumps(GGUF.to_json()).encode()
BUILDS = {b.build.variant.name: b.build.build_key for b in GGUF.builds}
CONTENTS = {b.build.variant.name: b.build.source.content_digest for b in GGUF.builds}
SAID = {"source": "microsoft/Phi-4@" + "1" * 40, "builds": BUILDS, "contents": CONTENTS}


def put(client: Hub, repo_id: str, **files: bytes) -> None:
    named = {name.replace("__", "."): content for name, content in files.items()}
    client.commit(repo_id, files=named, parent=None, message="Add it", task=Log())


def card(said: Any) -> bytes:
    return f"---\n{yaml.safe_dump({'phi_bot': said})}---\n".encode()


def test_publications_are_read_from_the_cards_without_a_request_per_repo(shaky: Hub, faulty: Proxy) -> None:
    for number in range(5):
        put(shaky, f"me/Phi-{number}-GGUF", **{"README.md": card(SAID), "phi-bot.json": RECORD})
    faulty.seen.clear()
    found = shaky.namespace("me")
    assert len(faulty.seen) == 1
    assert sorted(found.shelved) == [f"me/Phi-{number}-GGUF" for number in range(5)]
    first = found.shelved["me/Phi-0-GGUF"]
    assert (first.source, first.builds, first.contents, first.private) == (*SAID.values(), False)


@pytest.mark.parametrize(
    "said",
    [
        None,
        "words",
        {},
        {"builds": BUILDS},
        SAID | {"builds": []},
        SAID | {"contents": {}},
        SAID | {"builds": {"a": 1}},
    ],
    ids=["nothing", "words", "empty", "builds alone", "a list", "no contents", "numbers"],
)
def test_a_card_that_somebody_edited_leads_to_the_record(client: Hub, said: Any) -> None:
    put(client, "me/Phi-GGUF", **{"README.md": card(said), "phi-bot.json": RECORD})
    found = client.namespace("me").shelved["me/Phi-GGUF"]
    assert (found.builds, found.contents) == (BUILDS, CONTENTS)


def test_a_repo_just_made_is_ours_to_fill_and_one_with_other_files_is_foreign(client: Hub, hub: RunningHub) -> None:
    HfApi(endpoint=hub.url, token=hub.token).create_repo("me/Phi-new-GGUF")
    put(client, "me/Phi-theirs-GGUF", **{"README.md": card(SAID), "model.gguf": b"x"})
    put(client, "me/Phi-broken-GGUF", **{"phi-bot.json": b"{"})
    empty = RepoRecord(version=RECORD_VERSION, builds=())
    put(client, "me/Phi-nothing-GGUF", **{"phi-bot.json": json.dumps(empty.to_json()).encode()})
    found = client.namespace("me")
    assert {name: s.builds for name, s in found.shelved.items()} == {"me/Phi-new-GGUF": {}, "me/Phi-nothing-GGUF": {}}
    assert found.foreign == {"me/Phi-theirs-GGUF", "me/Phi-broken-GGUF"}
