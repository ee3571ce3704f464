"""An adapter on the Hub, kept or streamed: the tensors come merged, whatever its base is saved as."""

from pathlib import Path

import pytest

from bot.building.release_at_hand import AtHand, at_hand, fetch, missing_bytes
from bot.errors import AdapterError, ChangedSourceError
from bot.hub.client import Hub
from bot.source.folder import WRITTEN
from bot.steps.watch import Reader, source_state
from bot.workspace import Workspace
from tests.building.test_copies import read
from tests.contexts import context_of
from tests.hub.test_releases import put
from tests.source.adapters import (
    BASE,
    FUSED,
    HIDDEN,
    LORA,
    ROWS,
    adapter_files,
    base_files,
    numbers,
    on_all_layers,
    pair,
    stored,
)
from tests.source.copies import LLAMA, contents
from tests.source.copies import tensors as copied
from tests.source.models import write
from tests.source.test_joined import bytes_of
from tests.source.test_merged import merge

REPO = "someone/phi-lora"


def both_ways(client: Hub, folder: Path) -> list[tuple[dict[str, bytes], dict[str, bytes], AtHand]]:
    """What a worker gets of REPO, streamed and kept, and what the reference gets."""
    release, found = client.release(REPO), []
    for streamed in (True, False):
        context = context_of(hub=client, workspace=Workspace(root=folder / f"work-{streamed}"))
        assert missing_bytes(release, context.workspace) > release.all_bytes
        with at_hand(release, context, streamed=streamed) as given, given.as_written() as written:
            assert (given.stream is not None) == streamed
            found.append((read(given), read(written), given))
        if not streamed:
            assert missing_bytes(release, context.workspace) == 0
    return found


def test_an_adapter_streams_as_it_is_kept(client: Hub, tmp_path: Path) -> None:
    tensors = on_all_layers(*FUSED)
    put(client, BASE, base_files())
    put(client, REPO, adapter_files(tensors, target_modules=[n.split(".")[1] for n in FUSED]))
    (streamed, _, _), (kept, _, _) = both_ways(client, tmp_path)
    write(tmp_path / "base", base_files())
    folder = write(tmp_path / "lora", adapter_files(tensors, base_model_name_or_path="../base"))
    assert streamed == kept == merge(folder, tmp_path / "merged")


def test_a_larger_vocabulary_streams_as_it_is_kept(client: Hub, tmp_path: Path) -> None:
    put(client, BASE, base_files(tied=True))
    one, other = numbers(7, ROWS + 9, HIDDEN), numbers(8, ROWS + 9, HIDDEN)
    saved = {"base_model.model.model.embed_tokens.weight": one, "base_model.model.lm_head.weight": other}
    put(client, REPO, adapter_files(saved, target_modules=[]))
    (streamed, _, _), (kept, _, _) = both_ways(client, tmp_path)
    assert streamed == kept
    assert {len(kept[name]) for name in ("model.embed_tokens.weight", "lm_head.weight")} == {2 * (ROWS + 9) * HIDDEN}


def test_an_adapter_of_a_copy_is_merged_before_its_matrices_are_joined(client: Hub, tmp_path: Path) -> None:
    of = {name: numbers(seed, *shape) for seed, (name, (_, shape)) in enumerate(copied(LLAMA).items())}
    saved = write(tmp_path / "copy", contents(LLAMA) | {"model.safetensors": stored(of, "BF16")})
    put(client, BASE, {p.name: p.read_bytes() for p in saved.iterdir()})
    modules = {f"model.layers.{n}.self_attn.q_proj": (16, 16) for n in (0, 1)}
    tensors = {name: values for m, shape in modules.items() for name, values in pair(m, shape).items()}
    put(client, REPO, adapter_files(tensors, target_modules=["q_proj"]))
    (streamed, own_streamed, _), (kept, own, given) = both_ways(client, tmp_path)
    assert (streamed, own_streamed) == (kept, own)
    was = bytes_of(saved)
    changed = {name for name in was if was[name] != own[name]}
    assert changed == {f"{m}.weight" for m in modules}
    assert given.folder.joinpath(WRITTEN).is_dir()
    q, k, v = (own[f"model.layers.0.self_attn.{part}_proj.weight"] for part in "qkv")
    assert kept["model.layers.0.self_attn.qkv_proj.weight"] == q + k + v


def test_a_folder_s_adapter_is_merged_with_a_base_on_the_hub(client: Hub, tmp_path: Path) -> None:
    put(client, BASE, base_files())
    put(client, REPO, adapter_files())
    context = context_of(hub=client, workspace=Workspace(root=tmp_path / "work"))
    folder = write(tmp_path / "lora", adapter_files())
    local, there = Reader(hub=client).named(str(folder)), client.release(REPO)
    assert local.base == there.base
    assert local.content_digest == there.content_digest
    staged = fetch(local, context)
    assert bytes_of(staged) == bytes_of(fetch(there, context_of(hub=client, workspace=tmp_path / "other")))
    assert client.shape(local) == client.shape(there)


def test_a_folder_that_changed_since_it_was_planned_is_not_built(client: Hub, tmp_path: Path) -> None:
    put(client, BASE, base_files())
    folder = write(tmp_path / "lora", adapter_files())
    release = Reader(hub=client).named(str(folder))
    put(client, BASE, base_files(max_position_embeddings=65))  # the base's commit was resolved by then
    write(folder, adapter_files(lora_alpha=9))
    with pytest.raises(ChangedSourceError):
        fetch(release, context_of(hub=client, workspace=tmp_path / "work"))
    write(folder, adapter_files())
    assert (fetch(release, context_of(hub=client, workspace=tmp_path / "work")) / "config.json").is_file()


def test_an_adapter_that_does_not_fit_is_refused_before_its_base_is_downloaded(client: Hub, tmp_path: Path) -> None:
    put(client, BASE, base_files())
    put(client, REPO, adapter_files(on_all_layers("self_attn.qkv_proj"), r=5))
    workspace = Workspace(root=tmp_path / "work")
    with pytest.raises(AdapterError, match=r"has rank 4, and by adapter_config\.json it is 5"):
        fetch(client.release(REPO), context_of(hub=client, workspace=workspace))
    assert LORA["r"] == 4
    assert not (workspace.root / "sources").exists()


def test_a_base_that_changed_since_the_adapter_was_looked_at_is_said_so(client: Hub) -> None:
    put(client, BASE, base_files())
    put(client, REPO, adapter_files())
    seen = source_state(client.release(REPO))
    put(client, BASE, {"README.md": b"# Words that change nothing"})
    assert Reader(hub=client).release(seen).content_digest == seen.content_digest
    put(client, BASE, base_files(max_position_embeddings=65))
    with pytest.raises(ChangedSourceError, match=f"its base {BASE} has changed"):
        Reader(hub=client).release(seen)
