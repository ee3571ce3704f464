"""A model whose tensors are all stored under the prefix of a wrapper is read without it; others are refused by name."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import source
from bot.errors import AdapterError, OtherWeightsError
from bot.records.artifacts import Json
from bot.source.folder import WRITTEN
from bot.source.merged import changes_of
from bot.source.prefixes import WRAPPERS, bare_names, prefix_note
from bot.source.safetensors_files import check_weights
from bot.source.shape import local_shape
from tests.source import copies, text_parts
from tests.source.models import files, safetensors, write
from tests.source.test_fit import CONFIGS, shapes_of
from tests.source.test_joined import bytes_of, with_own_bytes
from tests.source.test_tensors import WHOLE, model, refused

Tensors = dict[str, tuple[str, list[int]]]
FAMILIES: dict[str, tuple[Mapping[str, Json], Tensors]] = {
    **{name: (c, {n: ("BF16", list(s)) for n, s in shapes_of(c).items()}) for name, c in CONFIGS.items()},
    "llama": (copies.LLAMA, copies.tensors(copies.LLAMA)),
    **{kind: (config, text_parts.tensors(kind)) for kind, config in text_parts.CONFIGS.items()},
}
PREFIXES = [*WRAPPERS, "module._orig_mod.", "_orig_mod.base_model.model.", "base_model.model.model."]

prefixes = st.lists(st.sampled_from(WRAPPERS), max_size=4).map("".join)


# ---- names ---------------------------------------------------------------------------------------------------


@given(family=st.sampled_from(list(FAMILIES)), prefix=prefixes)
def test_names_of_every_family_are_told_from_any_wrappers_before_them(family: str, prefix: str) -> None:
    _, of = FAMILIES[family]
    names = bare_names([prefix + name for name in of], where="a/b")
    assert names == {name: prefix + name for name in of}
    assert (prefix_note(names) == "") == (prefix == "")


@given(family=st.sampled_from(list(FAMILIES)), one=prefixes, other=prefixes, data=st.data())
def test_names_under_two_prefixes_are_refused_and_one_of_each_is_named(
    family: str, one: str, other: str, data: st.DataObject
) -> None:
    _, of = FAMILIES[family]
    moved = data.draw(st.sets(st.sampled_from(list(of)), min_size=1, max_size=len(of) - 1))
    stored = [(other if name in moved else one) + name for name in of]
    if one == other:
        assert len(bare_names(stored, where="a/b")) == len(of)
        return
    with pytest.raises(OtherWeightsError, match="under several prefixes") as caught:
        bare_names(stored, where="a/b")
    assert sum(ascii(name[:100]) in caught.value.message for name in stored) >= 2


@given(st.lists(st.text(max_size=30), unique=True))
def test_other_names_stay_what_they_are(names: list[str]) -> None:
    assert bare_names([f"x.{name}" for name in names], where="a/b") == {f"x.{name}": f"x.{name}" for name in names}


def test_a_name_that_is_no_phi_s_does_not_hide_the_prefix_of_the_others() -> None:
    names = bare_names(["_orig_mod.lm_head.weight", "v_head.weight"], where="a/b")
    assert names == {"lm_head.weight": "_orig_mod.lm_head.weight", "v_head.weight": "v_head.weight"}


# ---- models --------------------------------------------------------------------------------------------------


def saved(folder: Path, prefix: str, of: Tensors, config: Mapping[str, Json], shards: int = 1) -> Path:
    """Write a model whose tensors have other bytes each, under a prefix."""
    with_own_bytes(folder, {prefix + name: tensor for name, tensor in of.items()}, shards)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_view_has_the_same_bytes_under_the_names_of_its_class(tmp_path: Path, prefix: str) -> None:
    folder = model(tmp_path / "model", {prefix + name: t for name, t in WHOLE.items()})
    source.check(folder)
    notes = source.stage(folder, tmp_path / "view")
    assert f"its tensors are stored under the prefix '{prefix}', and are read without it" in notes
    assert bytes_of(tmp_path / "view") == {n.removeprefix(prefix): b for n, b in bytes_of(folder).items()}
    source.check(tmp_path / "view")
    release = source.local_release(folder)
    assert local_shape(folder, release.config) == local_shape(tmp_path / "view", release.config)


def test_a_model_without_a_prefix_is_linked_and_not_copied(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", WHOLE)
    assert source.rewritten(folder) == ([], [])
    source.stage(folder, tmp_path / "view")
    assert (tmp_path / "view" / "model.safetensors").samefile(folder / "model.safetensors")


@pytest.mark.parametrize("shards", [1, 3])
def test_a_copy_under_a_prefix_is_joined_and_kept_as_its_class_has_it(tmp_path: Path, shards: int) -> None:
    of = copies.tensors(copies.LLAMA)
    plain = saved(tmp_path / "plain", "", of, copies.LLAMA, shards)
    wrapped = saved(tmp_path / "wrapped", "base_model.model.", of, copies.LLAMA, shards)
    for folder in (plain, wrapped):
        source.check(folder)
        source.stage(folder, folder.with_suffix(".view"))
    for part in ("", WRITTEN):
        views = [folder.with_suffix(".view") / part for folder in (plain, wrapped)]
        assert bytes_of(views[0]) == bytes_of(views[1])
        source.check(views[1])


@pytest.mark.parametrize("kind", list(text_parts.CONFIGS))
def test_a_text_part_under_a_prefix_is_the_same(tmp_path: Path, kind: str) -> None:
    of = text_parts.tensors(kind)
    plain = saved(tmp_path / "plain", "", of, text_parts.CONFIGS[kind])
    wrapped = saved(tmp_path / "wrapped", "_orig_mod.", of, text_parts.CONFIGS[kind])
    for folder in (plain, wrapped):
        source.check(folder)
        source.stage(folder, folder.with_suffix(".view"))
    assert bytes_of(plain.with_suffix(".view")) == bytes_of(wrapped.with_suffix(".view"))
    assert source.local_release(plain).left_out == source.local_release(wrapped).left_out


def test_a_head_under_a_prefix_counts_as_stored(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", {f"module.{n}": t for n, t in WHOLE.items()}, tie_word_embeddings=True)
    source.stage(folder, tmp_path / "view")
    assert json.loads((tmp_path / "view" / "config.json").read_text())["tie_word_embeddings"] is False


# ---- what is refused -----------------------------------------------------------------------------------------


def test_mixed_prefixes_are_refused_alike_when_planned_and_when_built(tmp_path: Path) -> None:
    mixed = {("_orig_mod." if "layers" in n else "") + n: t for n, t in WHOLE.items()}
    message = refused(model(tmp_path, mixed)).message
    assert "under several prefixes, as 'model.embed_tokens.weight' and '_orig_mod.model.layers.0." in message


def test_a_tensor_twice_under_one_prefix_and_without_it_is_refused(tmp_path: Path) -> None:
    twice = WHOLE | {f"module.{n}": t for n, t in WHOLE.items()}
    assert "under several prefixes" in refused(model(tmp_path, twice)).message


def test_an_adapter_that_was_not_merged_is_still_told(tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.default.weight"
    of = {f"base_model.model.{n}": t for n, t in WHOLE.items()} | {name: ("BF16", [2, 4])}
    assert "lora_A" in refused(model(tmp_path, of), AdapterError).message


def test_no_adapter_is_merged_into_a_base_under_a_prefix(tmp_path: Path) -> None:
    wrapped = {f"module.{n}": t for n, t in WHOLE.items()}
    folder = write(tmp_path / "base", files(model__safetensors=safetensors(wrapped)))
    release = source.local_release(folder)
    with pytest.raises(AdapterError, match=r"stored under the prefix 'module\.'"):
        changes_of(release, check_weights(folder), {})
