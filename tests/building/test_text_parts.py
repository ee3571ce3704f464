"""A Phi with pictures or speech on the Hub, kept or streamed: its text part comes as Phi-3, and its towers do not."""

from dataclasses import replace
from pathlib import Path

import pytest

from bot.building.release_at_hand import at_hand
from bot.errors import AdapterError
from bot.hub.client import Hub
from bot.source.merged import adapted
from bot.workspace import Workspace
from tests.building.test_copies import read
from tests.contexts import context_of
from tests.hub.test_releases import put
from tests.source.test_joined import bytes_of
from tests.source.test_text_parts import in_files
from tests.source.text_parts import CONFIGS, TOWERS, contents, stored_name, text

REPO = "microsoft/Phi-with-towers"


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_text_part_streams_as_it_is_kept(client: Hub, tmp_path: Path, kind: str) -> None:
    folder = in_files(tmp_path / "model", kind, 2)
    put(client, REPO, {p.name: p.read_bytes() for p in folder.iterdir()})
    release = client.release(REPO)
    found = []
    for streamed in (True, False):
        context = context_of(hub=client, workspace=Workspace(root=tmp_path / f"work-{streamed}"))
        with at_hand(release, context, streamed=streamed) as given, given.as_written() as written:
            assert (given.stream is not None) == streamed
            assert written is given  # the reference reads the same Phi-3
            found.append(read(given))
    assert found[0] == found[1]
    was = bytes_of(folder)
    assert found[0] == {name: was[stored_name(kind, name)] for name in text(CONFIGS[kind])}


def test_a_release_says_what_is_left_out_before_anything_is_downloaded(client: Hub, tmp_path: Path) -> None:
    put(client, REPO, contents("phi4mm"))
    release = client.release(REPO)
    assert (release.layout, release.config["model_type"]) == ("Phi4MMForCausalLM", "phi3")
    assert release.left_out is not None
    assert release.left_out.inputs == ("pictures", "speech")
    assert release.left_out.tensors == len(TOWERS["phi4mm"])
    assert "pictures and speech cannot be given to the files" in release.read_as
    assert client.shape(release).layers == 2
    assert client.shape(release).bytes + release.left_out.bytes < release.weight_bytes


def test_a_namespace_s_models_with_pictures_are_found(client: Hub) -> None:
    put(client, "microsoft/Phi-3.5-vision-instruct", contents("phi3_v"))
    put(client, "microsoft/Phi-4-multimodal-instruct", contents("phi4mm"))
    put(client, "microsoft/Phi-4-reasoning-vision-15B", contents("phi4-siglip"))
    put(client, "microsoft/llava-phi", contents("phi3_v", architectures=["LlavaPhiForCausalLM"], model_type="llava"))
    assert [s.repo_id for s in client.sources("microsoft") if s.usable] == [
        "microsoft/Phi-3.5-vision-instruct",
        "microsoft/Phi-4-multimodal-instruct",
        "microsoft/Phi-4-reasoning-vision-15B",
    ]


def test_no_adapter_is_merged_into_a_text_part(client: Hub) -> None:
    put(client, REPO, contents("phi3_v"))
    base = client.release(REPO)
    lora = {"base_model_name_or_path": REPO, "lora_alpha": 4, "peft_type": "LORA", "r": 2}
    own = replace(base, adapter=lora | {"target_modules": ["qkv_proj"]}, left_out=None)
    with pytest.raises(AdapterError, match="of which the text part alone is read") as caught:
        adapted(own, base, None)
    assert "Merge it with peft" in str(caught.value.hint)
