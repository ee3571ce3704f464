import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bot import source
from bot.errors import (
    DamagedTokenizerError,
    DamagedWeightsError,
    MissingConfigError,
    PicklesOnlyError,
    RemoteCodeError,
    SourceError,
    UnknownModelError,
    UnsafeFileNameError,
)
from bot.records.digests import CONTENT_FILES
from bot.source.config import without_code
from bot.source.listing import INDEX
from bot.source.safetensors_files import check_weights
from tests.source.models import CONFIG, TENSORS, files, safetensors, sharded, write


def test_a_whole_model_passes(tmp_path: Path) -> None:
    source.check(write(tmp_path / "single", files()))
    source.check(write(tmp_path / "sharded", sharded()))


def test_each_kind_of_damage_has_its_own_error(tmp_path: Path) -> None:
    cut = files()["model.safetensors"][:-1]
    damages = {
        MissingConfigError: files(config__json=None),
        DamagedWeightsError: files(model__safetensors=cut),
        PicklesOnlyError: files(model__safetensors=None) | {"pytorch_model.bin": b"\x80\x04."},
        DamagedTokenizerError: files(tokenizer__json=b"{"),
        RemoteCodeError: files(
            config__json=b'{"auto_map": {"AutoConfig": "x.Y"}, "architectures": ["NewForCausalLM"]}'
        ),
    }
    for kind, contents in damages.items():
        with pytest.raises(kind):
            source.check(write(tmp_path / kind.__name__, contents))


# ---- which release a folder is -------------------------------------------------------------------------------


@pytest.mark.process
def test_a_folder_is_a_release_with_the_digests_of_the_hub(tmp_path: Path) -> None:
    folder = write(tmp_path / "my model", files(README__md=b"---\nlicense: mit\n---\n"))
    release = source.local_release(folder)
    assert (release.repo_id, release.commit, release.folder) == ("local/my-model", None, str(folder))
    assert release.config == CONFIG
    assert release.card == {"license": "mit"}
    digests = {f.path: f.digest for f in release.files}
    weights = files()["model.safetensors"]
    assert digests["model.safetensors"] == f"sha256:{hashlib.sha256(weights).hexdigest()}"
    git = subprocess.run(
        ["git", "hash-object", str(folder / "config.json")], capture_output=True, text=True, check=True
    )
    assert digests["config.json"] == f"git:{git.stdout.strip()}"
    assert "modeling_phi3.py" not in digests
    assert release.weight_bytes == len(weights)


def test_only_files_that_decide_the_build_change_the_digest(tmp_path: Path) -> None:
    first = source.local_release(write(tmp_path / "a", files()))
    same = source.local_release(write(tmp_path / "b", files(LICENSE=b"other", README__md=b"# hello")))
    other = source.local_release(write(tmp_path / "c", files(model__safetensors=safetensors(TENSORS, fill=2))))
    assert first.content_digest == same.content_digest != other.content_digest


def test_hashing_says_how_far_it_is(tmp_path: Path) -> None:
    class Log:
        seen: list[tuple[str, int, int, str]] = []  # noqa: RUF012

        def update(self, what: str, done: int, total: int, unit: str) -> None:
            self.seen.append((what, done, total, unit))

    release = source.local_release(write(tmp_path, files()), Log())
    total = sum(f.size for f in release.files)
    assert Log.seen[-1] == ("hashing", total, total, "bytes")


def noting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are hashed from now on."""
    read: list[str] = []
    real = source.folder.file_digest

    def digest(path: Path, **options: Any) -> str:
        read.append(path.name)
        return real(path, **options)

    monkeypatch.setattr("bot.source.folder.file_digest", digest)
    return read


def test_a_file_is_read_once_in_a_process_unless_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.source.folder._SETTLED_SECONDS", 0.0)
    folder = write(tmp_path, files())
    time.sleep(0.01)
    first = source.local_release(folder)
    weights = folder / "model.safetensors"
    before = weights.stat()
    read = noting(monkeypatch)
    assert source.local_release(folder).content_digest == first.content_digest
    assert read == []
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"\x55")  # as long as before, and as old
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.local_release(folder).content_digest != first.content_digest
    assert read == ["model.safetensors"]


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, files())
    source.local_release(folder)
    read = noting(monkeypatch)
    source.local_release(folder)
    assert "model.safetensors" in read


def test_no_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="there is no folder") as caught:
        source.local_release(tmp_path / "nothing")
    assert caught.value.exit_code == 13


def test_a_missing_shard_is_found_before_hashing(tmp_path: Path) -> None:
    contents = sharded()
    del contents["model-00002-of-00002.safetensors"]
    with pytest.raises(DamagedWeightsError, match=r"lacks the shard model-00002-of-00002.safetensors"):
        source.local_release(write(tmp_path, contents))


# ---- links ---------------------------------------------------------------------------------------------------


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("token")
    folder = write(tmp_path / "model", files(LICENSE=None))
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    for look in (source.local_release, source.check):
        with pytest.raises(UnsafeFileNameError, match=r"LICENSE in .* is a link out of it") as caught:
            look(folder)
        assert caught.value.exit_code == 24


def test_the_cache_of_huggingface_hub_is_a_folder_like_any_other(tmp_path: Path) -> None:
    blobs = write(tmp_path / "hub/models--microsoft--phi/blobs", files())
    snapshot = tmp_path / "hub/models--microsoft--phi/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(os.path.relpath(blob, snapshot))
    source.check(snapshot)
    source.stage(snapshot, tmp_path / "staged")
    assert (tmp_path / "staged/model.safetensors").read_bytes() == files()["model.safetensors"]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path, files(generation_config__json=None))
    os.mkfifo(folder / "generation_config.json")  # reading it would wait for ever
    source.check(folder)
    source.stage(folder, tmp_path / "staged")
    assert not (tmp_path / "staged/generation_config.json").exists()


# ---- the staged view -----------------------------------------------------------------------------------------


def test_the_staged_view_holds_content_and_no_code(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", files() | {"pytorch_model.bin": b"\x80\x04.", "onnx/model.onnx": b"x"})
    notes = source.stage(folder, tmp_path / "staged")
    assert notes == ("the model asks for code from its repo; it is built without it",)
    staged = {p.name for p in (tmp_path / "staged").iterdir()}
    assert staged == set(files()) - {"modeling_phi3.py"}
    config = json.loads((tmp_path / "staged/config.json").read_text())
    assert config == without_code(CONFIG) != CONFIG
    assert list(config) == [k for k in CONFIG if k != "auto_map"]


def test_a_config_that_asks_for_no_code_is_staged_to_the_byte(tmp_path: Path) -> None:
    config = b'{ "model_type":"phi3",\n\n "architectures": ["Phi3ForCausalLM"], "rms_norm_eps": 1e-05 }'
    folder = write(tmp_path / "model", files(config__json=config))
    assert source.stage(folder, tmp_path / "staged") == ()
    assert (tmp_path / "staged/config.json").read_bytes() == config


JSON_FILES = [*sorted(n for n in CONTENT_FILES if n.endswith(".json")), INDEX]


def whole(name: str) -> dict[str, bytes]:
    """The files of a whole model, of which one is called ``name``."""
    return sharded() if name == INDEX else {name: b'{"a": 0}'} | files()


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("more", [b'"b": 1, "b": 2', b'"b": NaN', b'"b": {"c": [-1e999]}'], ids=bytes.decode)
def test_no_json_of_a_model_has_two_meanings(tmp_path: Path, name: str, more: bytes) -> None:
    content = whole(name)
    write(tmp_path / "good", content)
    source.check(tmp_path / "good")
    write(tmp_path / "bad", content | {name: b"{" + more + b", " + content[name].lstrip()[1:]})
    with pytest.raises(SourceError, match=rf"{name} .*(given twice|not a number|too large for a number)"):
        source.check(tmp_path / "bad")


@pytest.mark.parametrize("name", JSON_FILES)
def test_toolchains_read_json_without_the_mark_that_some_editors_write(tmp_path: Path, name: str) -> None:
    content = whole(name)
    write(tmp_path / "marked", content | {name: b"\xef\xbb\xbf" + content[name]})
    source.check(tmp_path / "marked")
    source.stage(tmp_path / "marked", tmp_path / "out")
    assert json.loads((tmp_path / "out" / name).read_text(encoding="utf-8"))


def test_code_of_the_tokenizer_is_left_out_too(tmp_path: Path) -> None:
    tokenizer = (
        b'{"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["evil.X", null]}, "vocab_file": "/etc/passwd"}'
    )
    folder = write(tmp_path / "model", files(tokenizer_config__json=tokenizer))
    source.stage(folder, tmp_path / "staged")
    assert json.loads((tmp_path / "staged/tokenizer_config.json").read_text()) == {"tokenizer_class": "X"}


def test_weights_are_linked_and_only_those_that_count(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", sharded() | {"model-00003-of-00003.safetensors": b"another model's"})
    source.stage(folder, tmp_path / "staged")
    assert not (tmp_path / "staged/model-00003-of-00003.safetensors").exists()
    for shard in sharded():
        if shard.endswith(".safetensors"):
            assert (tmp_path / "staged" / shard).samefile(folder / shard)


def test_weights_of_any_names_are_staged_under_names_that_all_tools_see(tmp_path: Path) -> None:
    first, second = (n for n in sharded() if n.endswith(".safetensors"))
    names = {first: "b.safetensors", second: "a-00001-of-00001.safetensors"}
    contents = {names.get(n, n): c for n, c in sharded().items()}
    given = json.loads(contents[INDEX])
    contents[INDEX] = json.dumps(given | {"weight_map": {t: names[n] for t, n in given["weight_map"].items()}}).encode()
    folder = write(tmp_path / "model", contents)
    source.check(folder)
    source.stage(folder, tmp_path / "staged")
    expected = {second: names[second], first: names[first]}
    staged = dict(zip((first, second), expected.values(), strict=True))
    for name, original in staged.items():
        assert (tmp_path / "staged" / name).samefile(folder / original)
    index = json.loads((tmp_path / "staged" / INDEX).read_text())
    assert index["metadata"] == given["metadata"]
    assert set(check_weights(tmp_path / "staged")) == set(check_weights(folder)) == set(TENSORS)
    assert set(index["weight_map"].values()) == {first, second}


def test_a_tensor_that_the_index_leaves_out_is_in_the_staged_one(tmp_path: Path) -> None:
    given = json.loads(sharded()[INDEX])
    more = safetensors({"model.norm.weight": ("F32", [4]), "lm_head.weight": ("BF16", [8, 4])})
    folder = write(tmp_path / "model", sharded() | {given["weight_map"]["model.norm.weight"]: more})
    source.stage(folder, tmp_path / "staged")
    index = json.loads((tmp_path / "staged" / INDEX).read_text())
    assert set(index["weight_map"]) == {*given["weight_map"], "lm_head.weight"}
    assert (folder / INDEX).read_bytes() == sharded()[INDEX]


def test_a_model_that_needs_its_own_code_is_not_staged(tmp_path: Path) -> None:
    config = json.dumps(CONFIG | {"model_type": "phi4flash"}).encode()
    folder = write(tmp_path / "model", files(config__json=config))
    with pytest.raises(RemoteCodeError):
        source.stage(folder, tmp_path / "staged")
    assert not (tmp_path / "staged").exists()
