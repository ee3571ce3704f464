"""Which files of a model count: as transformers 5 decides it, and the same for all that read them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import source
from bot.errors import DamagedWeightsError, PhiBotError, PicklesOnlyError
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.source.listing import INDEX, SINGLE, check_listing, list_files, list_folder
from bot.source.safetensors_files import check_weights
from bot.toolchains.install import ensure
from tests.source.models import TENSORS, files, safetensors, sharded, write
from tests.worker.running import run_python

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
OTHER = safetensors(TENSORS, fill=2)
INDEX_OF_TWO = json.loads(sharded()[INDEX])


def listed(*names: str, index: Mapping[str, str] | None = None) -> source.ModelFiles:
    def read(name: str) -> dict[str, Json]:
        assert name == INDEX
        assert index is not None, "the index is read only where names leave it open"
        return {"weight_map": dict(index)}

    return list_files(["config.json", *names], read, where="a/b")


def test_pickles_alone_are_refused() -> None:
    with pytest.raises(PicklesOnlyError, match=r"a/b has its weights only as pickles \(pytorch_model.bin\)") as caught:
        check_listing(["config.json", "pytorch_model.bin"], where="a/b")
    assert caught.value.exit_code == 23


def test_no_weights_at_all_are_refused() -> None:
    with pytest.raises(DamagedWeightsError, match="a/b has no weights"):
        check_listing(["config.json", "nested/model.safetensors"], where="a/b")


def test_a_missing_shard_is_named_before_anything_is_downloaded() -> None:
    with pytest.raises(DamagedWeightsError, match=f"a/b lacks the shard {SECOND}"):
        check_listing([FIRST, INDEX], where="a/b")


def test_shards_without_an_index_are_refused() -> None:
    with pytest.raises(DamagedWeightsError, match=r"neither model.safetensors nor model.safetensors.index.json"):
        check_listing([FIRST, SECOND], where="a/b")


def test_the_single_file_comes_before_the_index_and_is_all_there_is() -> None:
    for beside in ((INDEX, FIRST, SECOND), (INDEX,), (FIRST, SECOND), (SECOND,), ("pytorch_model.bin",)):
        found = listed(SINGLE, *beside)
        assert (found.weights, found.files) == ((SINGLE,), ("config.json", SINGLE))
        assert bool(found.notes) == (beside != ("pytorch_model.bin",))


def test_files_left_out_are_named() -> None:
    (note,) = listed(SINGLE, INDEX, FIRST, SECOND, "model.fp16.safetensors").notes
    assert note == (
        "its weights are read from model.safetensors, as transformers reads them; "
        f"left out: {FIRST}, {SECOND}, model.fp16.safetensors and 1 more"
    )


def test_the_index_is_not_asked_for_where_all_files_are_its_shards() -> None:
    assert listed(INDEX, SECOND, FIRST).weights == (FIRST, SECOND)
    assert listed(INDEX, "of-a-kind-00001-of-00001.safetensors").weights == ("of-a-kind-00001-of-00001.safetensors",)


@pytest.mark.parametrize(
    "left",
    ["model-00003-of-00003.safetensors", "consolidated.safetensors", "Model.safetensors", "model.fp16.safetensors"],
)
def test_of_several_sets_the_index_says_which_counts(left: str) -> None:
    found = listed(INDEX, FIRST, SECOND, left, index={"a": FIRST, "b": SECOND})
    assert (found.weights, found.files) == ((FIRST, SECOND), ("config.json", FIRST, SECOND, INDEX))
    assert left in found.notes[0]


def test_another_index_counts_for_nothing() -> None:
    found = listed(INDEX, FIRST, SECOND, "model.fp16.safetensors.index.json")
    assert "model.fp16.safetensors.index.json" not in found.files
    assert "model.fp16.safetensors.index.json" in found.notes[0]


def test_an_index_cannot_name_two_files_that_are_one_on_some_systems() -> None:
    with pytest.raises(DamagedWeightsError, match="differ only in upper and lower case"):
        listed(
            INDEX,
            "model-a.safetensors",
            "model-A.safetensors",
            index={"a": "model-a.safetensors", "b": "model-A.safetensors"},
        )


def test_a_shard_that_the_index_does_not_name_is_not_passed_over(tmp_path: Path) -> None:
    only = {"weight_map": {"model.embed_tokens.weight": FIRST}}
    write(tmp_path, sharded() | {INDEX: json.dumps(only).encode()})
    with pytest.raises(DamagedWeightsError, match=f"{INDEX} does not name {SECOND}"):
        check_weights(tmp_path)


# ---- all that read a folder agree ----------------------------------------------------------------------------


BESIDE = st.dictionaries(
    st.sampled_from([SINGLE, FIRST, SECOND, "model-00001-of-00003.safetensors", "Model.safetensors"]),
    st.just(OTHER),
)


@given(beside=BESIDE, indexed=st.booleans())
def test_digest_listing_headers_and_staged_view_agree_on_the_files(
    tmp_path_factory: pytest.TempPathFactory, beside: dict[str, bytes], indexed: bool
) -> None:
    base = tmp_path_factory.mktemp("agree")
    contents = files(model__safetensors=None) | beside
    if indexed:
        contents[INDEX] = json.dumps(INDEX_OF_TWO).encode()
        contents |= {name: sharded()[name] for name in (FIRST, SECOND)}
    folder = write(base / "model", contents)
    try:
        release = source.local_release(folder)
    except PhiBotError:
        return  # refused by all: `check` lists them in the same way
    weights = {f.path for f in release.files if f.path.endswith(".safetensors")}
    expected = {SINGLE} if SINGLE in contents else {FIRST, SECOND}
    source.stage(folder, base / "staged")
    staged = {p.name for p in (base / "staged").iterdir()}
    assert weights == {n for n in staged if n.endswith(".safetensors")} == expected
    assert (INDEX in staged) == (INDEX in {f.path for f in release.files}) == (SINGLE not in contents)
    assert set(check_weights(folder)) == set(check_weights(base / "staged")) == set(TENSORS)
    alone = write(base / "alone", {n: c for n, c in contents.items() if n in staged})
    assert source.local_release(alone).content_digest == release.content_digest


def test_a_tune_beside_its_base_is_another_release_than_the_base(tmp_path: Path) -> None:
    base = source.local_release(write(tmp_path / "base", sharded()))
    tune = source.local_release(write(tmp_path / "tune", sharded() | {SINGLE: OTHER}))
    alone = source.local_release(write(tmp_path / "alone", files(model__safetensors=OTHER)))
    assert tune.content_digest == alone.content_digest != base.content_digest
    assert tune.notes
    assert not alone.notes


# ---- and transformers itself ---------------------------------------------------------------------------------


PRINT = """
import json, sys
from transformers.modeling_utils import _get_resolved_checkpoint_files
found = {}
for folder in sys.argv[1:]:
    files, _ = _get_resolved_checkpoint_files(folder, None, None, None, None, False)
    found[folder] = [f.rsplit("/", 1)[-1] for f in files]
print(json.dumps(found))
"""


@pytest.mark.toolchain
def test_transformers_takes_the_same_files(tmp_path: Path) -> None:
    other = {"model-00003-of-00003.safetensors": OTHER, "pytorch_model.bin": b"x", "consolidated.safetensors": OTHER}
    folders = {
        "both": sharded() | {SINGLE: OTHER},
        "index": sharded(),
        "others": sharded() | other,
        "all": sharded() | {SINGLE: OTHER} | other,
        "variant": files() | {"model.fp16.safetensors": OTHER},
    }
    written = [write(tmp_path / name, contents) for name, contents in folders.items()]
    theirs = json.loads(run_python(ensure("reference", Silent()), PRINT, *written))
    assert {f: sorted(names) for f, names in theirs.items()} == {
        str(folder): list(list_folder(folder).weights) for folder in written
    }
