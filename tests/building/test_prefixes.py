"""A model whose tensors are stored under a prefix, kept or streamed: they come without it, also to the reference."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from bot.building.release_at_hand import at_hand
from bot.hub.client import Hub
from bot.records.artifacts import Json
from bot.workspace import Workspace
from tests.building.test_copies import read
from tests.contexts import context_of
from tests.hub.test_releases import put
from tests.source import copies
from tests.source.models import CONFIG
from tests.source.test_joined import bytes_of, with_own_bytes
from tests.source.test_tensors import WHOLE

REPO = "someone/phi-4-compiled"
PREFIX = "_orig_mod."


@pytest.mark.parametrize(
    ("config", "of"), [(CONFIG | {"tie_word_embeddings": False}, WHOLE), (copies.LLAMA, copies.tensors(copies.LLAMA))]
)
def test_it_streams_as_it_is_kept(
    client: Hub, tmp_path: Path, config: Mapping[str, Json], of: dict[str, tuple[str, list[int]]]
) -> None:
    folder = with_own_bytes(tmp_path / "model", {PREFIX + name: t for name, t in of.items()}, 2)
    (folder / "config.json").write_text(json.dumps(config))
    put(client, REPO, {p.name: p.read_bytes() for p in folder.iterdir()})
    release = client.release(REPO)
    found = []
    for streamed in (True, False):
        context = context_of(hub=client, workspace=Workspace(root=tmp_path / f"work-{streamed}"))
        with at_hand(release, context, streamed=streamed) as given, given.as_written() as written:
            assert (given.stream is not None) == streamed
            joined = read(given)
            found.append((joined, joined if written is given else read(written)))
    assert found[0] == found[1]
    was = {name.removeprefix(PREFIX): data for name, data in bytes_of(folder).items()}
    assert found[0][1] == was
    assert sum(map(len, found[0][0].values())) == sum(map(len, was.values()))
