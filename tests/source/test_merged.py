"""An adapter in a folder with its base: one release, whose folder is a model like any other."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot import source
from bot.errors import AdapterError, DamagedWeightsError, PhiBotError, PicklesOnlyError, UnsupportedArchitectureError
from bot.records.artifacts import Release
from bot.source import merged
from bot.source.safetensors_files import read_weights
from tests.source.adapters import (
    BASE,
    CONFIG,
    FUSED,
    HIDDEN,
    LORA,
    ROWS,
    Numbers,
    adapter_files,
    base_files,
    base_numbers,
    beside,
    encoded,
    numbers,
    on_all_layers,
    stored,
)
from tests.source.models import files, write

EMBEDDING, HEAD = "base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"


def nowhere(lora: Any) -> Release:
    pytest.fail(f"{lora.base} was looked for on a Hub")


def local(folder: Path) -> Release:
    return source.local_release(folder, base=nowhere)


def merge(folder: Path, out: Path) -> dict[str, bytes]:
    """Merge an adapter that names a folder; return the bytes of all tensors."""
    release = local(folder)
    assert release.base is not None
    assert release.base.folder is not None
    out.mkdir()
    merging = merged.begin(release, Path(release.base.folder), folder, out)
    merged.fill(merging, Path(release.base.folder), out)
    source.check(out)
    tensors, owner = read_weights(out)
    found = {}
    for name, tensor in tensors.items():
        data = (out / owner[name]).read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        found[name] = data[start + tensor.begin : start + tensor.end]
    return found


def test_the_merged_model_is_the_base_but_for_what_the_adapter_changes(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers(*FUSED))
    found = merge(folder, tmp_path / "out")
    was = {name: encoded(values) for name, values in base_numbers().items()}
    assert found.keys() == was.keys()
    changed = {n for n in was if found[n] != was[n]}
    assert changed == {f"model.layers.{n}.{name}.weight" for n in (0, 1) for name in FUSED}
    for name in ("config.json", "tokenizer.json", "LICENSE"):
        assert (tmp_path / "out" / name).read_bytes() == base_files()[name]


def test_its_digest_covers_the_base_and_the_adapter(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers("self_attn.qkv_proj"))
    digests = {local(folder).content_digest}
    write(folder, {"README.md": b"# Words"})
    assert local(folder).content_digest in digests
    write(folder, adapter_files(base_model_name_or_path="../base", lora_alpha=9))
    digests.add(local(folder).content_digest)
    write(tmp_path / "base", base_files(max_position_embeddings=65))
    digests.add(local(folder).content_digest)
    assert len(digests) == 3


@pytest.mark.parametrize("tied", [False, True])
def test_a_larger_vocabulary_comes_with_its_tokenizer(tmp_path: Path, tied: bool) -> None:
    rows = numbers(7, ROWS + 2, HIDDEN)
    folder = beside(
        tmp_path, {EMBEDDING: rows, HEAD: rows}, modules_to_save=["embed_tokens", "lm_head"], target_modules=[]
    )
    write(
        tmp_path / "base",
        base_files(tied=tied) | {"added_tokens.json": b'{"<a>": 1}', "chat_template.jinja": b"{{ 1 }}"},
    )
    own = {"tokenizer_config.json": b'{"added_tokens_decoder": {"25": {"content": "<b>"}}, "chat_template": "{{ 2 }}"}'}
    write(folder, own)
    found = merge(folder, tmp_path / "out")
    assert found["model.embed_tokens.weight"] == encoded(rows)
    assert ("lm_head.weight" in found) is not tied  # peft stores a tied one twice
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["vocab_size"] == ROWS + 2
    assert local(folder).config["vocab_size"] == ROWS + 2
    there = {p.name for p in (tmp_path / "out").iterdir()}
    assert (tmp_path / "out" / "tokenizer_config.json").read_bytes() == own["tokenizer_config.json"]
    assert not there & {"added_tokens.json", "chat_template.jinja"}
    assert {"tokenizer.json", "tokenizer.model"} <= there


def test_matrices_that_were_tied_and_differ_now_are_two(tmp_path: Path) -> None:
    one, other = numbers(7, ROWS, HIDDEN), numbers(8, ROWS, HIDDEN)
    folder = beside(tmp_path, {EMBEDDING: one, HEAD: other}, target_modules=[])
    write(tmp_path / "base", base_files(tied=True))
    found = merge(folder, tmp_path / "out")
    assert (found["model.embed_tokens.weight"], found["lm_head.weight"]) == (encoded(one), encoded(other))
    assert any("it is taken" in note for note in source.stage(tmp_path / "out", tmp_path / "view"))


def test_both_licences_are_kept(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers("self_attn.qkv_proj"))
    write(folder, {"LICENSE": b"Mine\n", "NOTICE": b"Note\n"})
    merge(folder, tmp_path / "out")
    texts = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.name in source.NOTICES}
    assert texts == {"LICENSE": b"MIT License\n", "LICENSE.md": b"Mine\n", "NOTICE": b"Note\n"}
    assert {n: f.size for n, f in source.notices_of(local(folder)).items()} == {n: len(t) for n, t in texts.items()}


def test_a_config_json_beside_the_adapter_is_not_read(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers("self_attn.qkv_proj"))
    before = local(folder)
    write(folder, {"config.json": b'{"model_type": "phi3", "quantization_config": {}}', "training_args.bin": b"x"})
    assert local(folder) == before


# ---- what is refused -----------------------------------------------------------------------------------------


def refused(folder: Path, error: type[PhiBotError] = AdapterError) -> str:
    with pytest.raises(error) as caught:
        local(folder)
    assert caught.value.hint
    return caught.value.message


def test_weights_that_are_not_safetensors_are_never_loaded(tmp_path: Path) -> None:
    config = {"adapter_config.json": json.dumps(LORA).encode()}
    assert "only as a pickle" in refused(
        write(tmp_path / "a", config | {"adapter_model.bin": b"\x80"}), PicklesOnlyError
    )
    assert "no adapter_model.safetensors" in refused(write(tmp_path / "b", config), DamagedWeightsError)
    refused(write(tmp_path / "c", config | {"adapter_model.safetensors": b"\x80"}), DamagedWeightsError)


def test_a_base_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers("self_attn.qkv_proj"), base_model_name_or_path="../other")
    assert "there is no such folder here" in refused(folder)


def test_a_base_that_is_an_adapter_itself_is_refused(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers("self_attn.qkv_proj"), base_model_name_or_path=".")
    assert "is a LoRA adapter" in refused(folder)


def test_a_base_that_is_not_a_phi_is_refused(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers("self_attn.qkv_proj"))
    config = {"architectures": ["GemmaForCausalLM"], "model_type": "gemma"}
    write(tmp_path / "base", {"config.json": json.dumps(CONFIG | config).encode()})
    refused(folder, UnsupportedArchitectureError)


def test_what_the_hub_s_cache_holds_leads_to_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "base", base_files())
    cache = tmp_path / "models--someone--lora" / "snapshots" / ("0" * 40)
    for base in (str(tmp_path / "base"), "../../../base"):
        folder = write(cache, adapter_files(base_model_name_or_path=base))
        assert "a folder of whoever made it" in refused(folder)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = beside(tmp_path, on_all_layers("self_attn.qkv_proj"))
    (folder / "adapter_model.safetensors").unlink()
    (tmp_path / "x").write_bytes(stored(on_all_layers("self_attn.qkv_proj")))
    (folder / "adapter_model.safetensors").symlink_to(tmp_path / "x")
    with pytest.raises(PhiBotError, match="is a link out of it"):
        local(folder)


def test_a_name_of_a_repo_is_never_a_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "microsoft" / "Phi-3.5-mini-instruct", base_files())
    asked: list[str] = []

    def find(lora: Any) -> Release:
        asked.append(lora.base)
        return source.local_release(write(tmp_path / "from-the-hub", base_files()))

    folder = write(tmp_path / "lora", adapter_files())
    assert source.local_release(folder, base=find).base is not None
    assert asked == [BASE]


def test_an_adapter_that_does_not_fit_is_told_by_the_tensor(tmp_path: Path) -> None:
    tensors: Numbers = on_all_layers("self_attn.qkv_proj")
    del tensors["base_model.model.model.layers.1.self_attn.qkv_proj.lora_A.weight"]
    folder = beside(tmp_path, tensors)
    with pytest.raises(AdapterError, match="has no lora_A beside it"):
        merge(folder, tmp_path / "out")


def test_an_adapter_beside_its_base_is_refused_as_it_was(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", files() | adapter_files())
    assert "that is not merged into the weights beside it" in refused(folder)
