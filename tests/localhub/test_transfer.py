"""Bytes in and out: LFS in one piece and in parts, downloads whole and in ranges, copies without an upload."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from bot.localhub import Grant, RunningHub, ServerLimits, check, serve
from tests.localhub.conftest import Ask
from tests.localhub.jobs_of import eventually
from tests.localhub.test_kill import served

BYTES = os.urandom(300_000)
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """A Hub that wants files above 64 kB in parts."""
    with serve(tmp_path / "hub", limits=ServerLimits(part=64_000)) as running:
        yield running


def add(api: HfApi, content: bytes = BYTES, path: str = "w.gguf", repo: str = "org/m") -> str:
    api.create_repo(repo, exist_ok=True)
    return str(api.create_commit(repo, [CommitOperationAdd(path, content)], commit_message="Add").oid)


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def wanted(sha256: str, size: int, *transfers: str) -> bytes:
    return json.dumps(
        {"operation": "upload", "transfers": list(transfers), "objects": [{"oid": sha256, "size": size}]}
    ).encode()


@pytest.mark.parametrize("size", [1, 63_999, 64_000, 64_001, 128_000, 300_000])
def test_a_download_equals_the_upload(api: HfApi, tmp_path: Path, size: int) -> None:
    add(api, BYTES[:size])
    file = api.hf_hub_download("org/m", "w.gguf", cache_dir=tmp_path / "cache")
    assert Path(file).read_bytes() == BYTES[:size]
    (info,) = api.get_paths_info("org/m", "w.gguf")
    assert isinstance(info, RepoFile)
    assert info.lfs is not None
    assert (info.size, info.lfs.sha256) == (size, hashlib.sha256(BYTES[:size]).hexdigest())


def test_the_bytes_that_were_sent_are_counted(hub: RunningHub, api: HfApi, tmp_path: Path) -> None:
    add(api)
    before = hub.requests.sent()
    api.hf_hub_download("org/m", "w.gguf", cache_dir=tmp_path / "cache")
    eventually(lambda: hub.requests.sent() - before == len(BYTES))  # they are counted once they are gone
    api.hf_hub_download("org/m", "w.gguf", cache_dir=tmp_path / "cache")  # it is there
    assert hub.requests.sent() - before == len(BYTES)


def test_a_snapshot(api: HfApi, tmp_path: Path) -> None:
    files = {"README.md": b"---\nlicense: mit\n---\n", "empty.txt": b"", "a/b c/é.json": b"{}", "w.safetensors": BYTES}
    api.create_repo("org/m")
    api.create_commit("org/m", [CommitOperationAdd(p, c) for p, c in files.items()], commit_message="Add")
    folder = Path(api.snapshot_download("org/m", cache_dir=tmp_path / "cache"))
    assert {p: (folder / p).read_bytes() for p in files} == files


def test_a_folder_with_an_open_client_that_knows_xet(hub: RunningHub, api: HfApi, tmp_path: Path) -> None:
    """Downloads work even where the client was not told that there is no Xet storage."""
    add(api)
    code = "import sys, huggingface_hub as h; print(h.snapshot_download('org/m', cache_dir=sys.argv[1]))"
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_DISABLE_XET"} | {"HF_ENDPOINT": hub.url}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c")], env=env, capture_output=True, text=True, check=True
    )
    assert (Path(done.stdout.strip()) / "w.gguf").read_bytes() == BYTES


def test_headers_of_a_file(hub: RunningHub, api: HfApi, ask: Ask) -> None:
    commit = add(api)
    add(api, b'{"a": 1}', "config.json")
    lfs = ask("HEAD", "/org/m/resolve/main/w.gguf")
    assert lfs.status == 302
    assert lfs.headers["x-linked-etag"] == f'"{SHA256}"'
    assert lfs.headers["x-linked-size"] == str(len(BYTES))
    followed = ask("HEAD", path_of(lfs.headers["location"]))
    assert (followed.status, followed.body) == (200, b"")
    assert followed.headers["content-length"] == str(len(BYTES))
    plain = ask("GET", f"/org/m/resolve/{api.model_info('org/m').sha}/config.json")
    assert plain.headers["etag"] == f'"{api.get_paths_info("org/m", "config.json")[0].blob_id}"'  # type: ignore[union-attr]
    assert plain.headers["x-repo-commit"] == api.model_info("org/m").sha != commit
    assert plain.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert ask("GET", "/org/m/resolve/main/config.json", headers={"If-None-Match": plain.headers["etag"]}).status == 304
    missing = ask("HEAD", "/org/m/resolve/main/none")
    assert (missing.status, missing.headers["x-error-code"]) == (404, "EntryNotFound")
    assert missing.headers["x-repo-commit"] == api.model_info("org/m").sha


@pytest.mark.parametrize(
    ("wish", "start", "end"),
    [
        ("0-0", 0, 1),
        ("0-99", 0, 100),
        ("299990-", 299_990, 300_000),
        ("-10", 299_990, 300_000),
        ("5-9999999", 5, 300_000),
    ],
)
def test_ranges(api: HfApi, ask: Ask, wish: str, start: int, end: int) -> None:
    add(api)
    location = path_of(ask("GET", "/org/m/resolve/main/w.gguf").headers["location"])
    answer = ask("GET", location, headers={"Range": f"bytes={wish}"})
    assert (answer.status, answer.body) == (206, BYTES[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/300000"


@pytest.mark.parametrize("wish", ["bytes=300000-", "bytes=9-5", "bytes=-0"])
def test_ranges_that_are_not_there(api: HfApi, ask: Ask, wish: str) -> None:
    add(api)
    location = path_of(ask("GET", "/org/m/resolve/main/w.gguf").headers["location"])
    answer = ask("GET", location, headers={"Range": wish})
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */300000")


@pytest.mark.parametrize("wish", ["bytes=0-1,5-6", "lines=0-1", "bytes=-", "bytes=a-b"])
def test_ranges_that_mean_nothing_give_the_whole(api: HfApi, ask: Ask, wish: str) -> None:
    add(api, b"0123456789", "t.txt")
    assert ask("GET", "/org/m/resolve/main/t.txt", headers={"Range": wish}).body == b"0123456789"


def test_a_changed_file_is_not_resumed(api: HfApi, ask: Ask) -> None:
    add(api, b"0123456789", "t.txt")
    answer = ask("GET", "/org/m/resolve/main/t.txt", headers={"Range": "bytes=5-", "If-Range": '"another"'})
    assert (answer.status, answer.body) == (200, b"0123456789")


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_file_never_lies_in_memory(tmp_path: Path) -> None:
    def peak(process: int) -> int:
        (line,) = (n for n in Path(f"/proc/{process}/status").read_text().splitlines() if n.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    with served(tmp_path / "other", part=30_000_000) as (process, url):
        api = HfApi(endpoint=url, token=(tmp_path / "other" / "token").read_text())
        before = peak(process.pid)
        add(api, bytes(80_000_000))
        assert api.hf_hub_download("org/m", "w.gguf", cache_dir=tmp_path / "cache")
        assert peak(process.pid) - before < 20_000_000


def test_content_is_kept_once(hub: RunningHub, api: HfApi) -> None:
    add(api)
    add(api, path="again.gguf")
    add(api, repo="other/m")
    blobs = [f for f in (hub.hub.folder / "blobs").glob("*/*") if f.stat().st_size == len(BYTES)]
    assert [f.name for f in blobs] == [SHA256]


def test_knowing_a_hash_gives_no_right_to_its_content(hub: RunningHub, api: HfApi, ask: Ask) -> None:
    """Whoever knows the hash of a private file still has to bring the file."""
    api.create_repo("org/secret", private=True)
    add(api, repo="org/secret")
    thief = hub.hub.tokens.make("thief", "write", ())
    HfApi(endpoint=hub.url, token=thief).create_repo("thief/m")
    line = {"key": "lfsFile", "value": {"path": "w.gguf", "algo": "sha256", "oid": SHA256}}
    header = {"key": "header", "value": {"summary": "Take it"}}
    body = f"{json.dumps(header)}\n{json.dumps(line)}\n".encode()
    assert ask("POST", "/api/models/thief/m/commit/main", body=body, token=thief).status == 400
    asked = ask("POST", "/thief/m.git/info/lfs/objects/batch", body=wanted(SHA256, len(BYTES)), token=thief)
    assert "actions" in json.loads(asked.body)["objects"][0]
    copy = {"target": {"type": "model", "name": "thief/m"}, "files": [{"sha256": SHA256}]}
    answer = ask("POST", "/api/models/org/secret/lfs-files/duplicate", body=json.dumps(copy).encode(), token=thief)
    assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")


def test_other_content_than_promised_is_refused(hub: RunningHub, api: HfApi, ask: Ask) -> None:
    api.create_repo("org/m")
    asked = ask("POST", "/org/m.git/info/lfs/objects/batch", body=wanted(SHA256, len(BYTES)), token=hub.token)
    actions = json.loads(asked.body)["objects"][0]["actions"]
    upload = path_of(actions["upload"]["href"])
    for body in (os.urandom(len(BYTES)), BYTES + b"more", BYTES[:-1]):
        assert ask("PUT", upload, body=body).status == 400
    promised = json.dumps({"oid": SHA256, "size": len(BYTES)}).encode()
    verify = urlsplit(actions["verify"]["href"]).path
    assert ask("POST", verify, body=promised, token=hub.token).status == 404
    assert ask("PUT", upload, body=BYTES).status == 200
    assert ask("POST", verify, body=promised, token=hub.token).status == 200
    assert check(hub.hub.folder) == []


def test_parts_are_put_together_only_when_whole(hub: RunningHub, api: HfApi, ask: Ask) -> None:
    api.create_repo("org/m")
    asked = ask(
        "POST", "/org/m.git/info/lfs/objects/batch", body=wanted(SHA256, len(BYTES), "multipart"), token=hub.token
    )
    upload = json.loads(asked.body)["objects"][0]["actions"]["upload"]
    parts = [path_of(url) for name, url in sorted(upload["header"].items()) if name.isdigit()]
    assert (len(parts), upload["header"]["chunk_size"]) == (5, "64000")
    for i, part in list(enumerate(parts))[1:]:
        assert ask("PUT", part, body=BYTES[i * 64_000 : (i + 1) * 64_000]).status == 200
    complete = path_of(upload["href"])
    assert ask("POST", complete, body=b"{}").status == 400
    assert ask("PUT", parts[0], body=BYTES[:63_999]).status == 400
    assert ask("PUT", parts[0], body=BYTES[:64_001]).status == 400
    assert ask("PUT", parts[0], body=BYTES[:64_000]).status == 200
    assert ask("POST", complete, body=b"{}").status == 200
    assert ask("POST", complete, body=b"{}").status == 200, "an answer that was lost is asked for again"
    assert ask("PUT", parts[0], body=os.urandom(64_000)).status == 404, "nothing writes into a finished blob"
    assert check(hub.hub.folder) == []


def test_a_signed_address_cannot_be_changed(hub: RunningHub, api: HfApi, ask: Ask) -> None:
    add(api)
    location = path_of(ask("GET", "/org/m/resolve/main/w.gguf").headers["location"])
    assert ask("GET", location).status == 200
    other = "0" * 64
    for bad in (
        location.replace(SHA256, other),
        location.replace("org%2Fm", "org%2Fn"),
        location.replace("expires=1", "expires=9"),
        location.replace("/download", "/upload"),
        location + "&sha256=" + other,
        location.partition("&signature")[0],
        "/_lfs/download",
    ):
        method = "PUT" if "/upload" in bad else "GET"
        assert ask(method, bad, body=b"x" if method == "PUT" else None).status == 403


def test_a_copy_in_another_repo_needs_no_upload(hub: RunningHub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    add(api)
    api.create_repo("org/copy")
    uploads: list[str] = []
    monkeypatch.setattr(type(hub.hub.blobs), "receive", lambda *a, **k: uploads.append("whole"))
    monkeypatch.setattr(type(hub.hub.blobs), "receive_part", lambda *a, **k: uploads.append("part"))
    copy = CommitOperationCopy("w.gguf", "q/w.gguf", src_repo_id="org/m", src_repo_type="model")
    api.create_commit("org/copy", [copy], commit_message="Promote")
    assert uploads == []
    (info,) = api.get_paths_info("org/copy", "q/w.gguf")
    assert isinstance(info, RepoFile)
    assert info.lfs is not None
    assert info.lfs.sha256 == SHA256
    api.delete_repo("org/m")
    assert Path(api.hf_hub_download("org/copy", "q/w.gguf")).read_bytes() == BYTES


def test_a_copy_needs_the_right_to_read_the_source(hub: RunningHub, api: HfApi) -> None:
    add(api)
    api.update_repo_settings("org/m", gated="auto")
    grant = Grant(name="someone", scope="write", namespaces=())
    other = HfApi(endpoint=hub.url, token=hub.hub.tokens.make(grant.name, grant.scope, grant.namespaces))
    other.create_repo("someone/m")
    copy = CommitOperationCopy("w.gguf", "w.gguf", src_repo_id="org/m", src_repo_type="model")
    with pytest.raises(HfHubHTTPError, match="restricted"):
        other.create_commit("someone/m", [copy], commit_message="Take")


@pytest.mark.process
def test_a_disk_that_fills_up_leaves_nothing_half_made(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    with served(folder, part=1_000_000, largest=100_000) as (_, url):
        api = HfApi(endpoint=url, token=(folder / "token").read_text())
        api.create_repo("org/m")
        with pytest.raises(RuntimeError) as error:
            add(api)
        assert "the disk of the embedded Hub is full" in str(error.value.__cause__)
        assert len(api.list_repo_commits("org/m")) == 1
        add(api, BYTES[:50_000])
        assert [f.name for f in (folder / "tmp").glob("*/*")] == ["lock"]
    assert check(folder) == []


def test_a_client_that_wants_xet_is_told_in_the_log(
    hub: RunningHub, api: HfApi, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    api.create_repo("org/m")
    assert ask("GET", "/api/models/org/m/xet-write-token/main", token=hub.token).status == 501
    assert "set HF_HUB_DISABLE_XET=1" in caplog.text


def test_a_disk_that_is_too_small_is_said_before_the_upload(hub: RunningHub, api: HfApi, ask: Ask) -> None:
    api.create_repo("org/m")
    asked = ask("POST", "/org/m.git/info/lfs/objects/batch", body=wanted(SHA256, 400 * 10**9), token=hub.token)
    error = json.loads(asked.body)["objects"][0]["error"]
    assert (error["code"], error["message"]) == (507, "the disk of the embedded Hub is too small")


def test_the_client_reads_headers_of_weights_in_ranges(api: HfApi) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(24)
    add(api, content, "model.safetensors")
    assert api.get_safetensors_metadata("org/m").parameter_count == {"F32": 6}
