import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bot.errors import AlteredDownloadError, DiskFullError, HubRefusedError, HubUnreachableError
from bot.hub.client import Hub
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.records.artifacts import Release
from tests.hub.faulty import Fault, Proxy, proxy
from tests.hub.fixtures import Log
from tests.source.models import files, safetensors, sharded

REPO = "microsoft/Phi-4"
LARGE = safetensors({"weight": ("U8", [25_000_000])})  # the library writes pieces of 10 MiB
MIDDLE = safetensors({"weight": ("U8", [100_000])})
WEIGHTS = "/_lfs/download.*name=model.safetensors"


def put(hub: Hub, contents: dict[str, bytes]) -> Release:
    with Silent().task("") as task:
        hub.commit(REPO, files=contents, parent=None, message="Put", task=task)
    return hub.release(REPO)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to download into."""
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_content_and_licence_arrive_and_nothing_else(client: Hub, folder: Path) -> None:
    contents = sharded() | {"pytorch_model.bin": b"\x80", "onnx/model.onnx": b"x", "README.md": b"# Phi\n"}
    release = put(client, contents)
    log = Log()
    client.download(release, folder, log)
    assert names(folder) == {f.path for f in release.files} == set(sharded()) - {"modeling_phi3.py"}
    for file in release.files:
        assert (folder / file.path).read_bytes() == contents[file.path]
        assert not (folder / file.path).is_symlink()
    total = sum(f.size for f in release.files)
    assert log.seen[-1] == ("downloading", total, total, "bytes")
    assert [done for _, done, _, _ in log.seen] == sorted(done for _, done, _, _ in log.seen)


def test_a_release_stays_the_same_when_its_repo_moves_on(client: Hub, folder: Path) -> None:
    release = put(client, files())
    with Silent().task("") as task:
        changes = {"generation_config.json": b"{}"}
        client.commit(REPO, files=changes, parent=release.commit, message="Change", task=task)
    client.download(release, folder, Log())
    assert (folder / "generation_config.json").read_bytes() == files()["generation_config.json"]


def test_files_already_there_are_checked_and_not_fetched_again(shaky: Hub, faulty: Proxy, folder: Path) -> None:
    release = put(shaky, files())
    shaky.download(release, folder, Log())
    (folder / "config.json").write_text("{}")
    faulty.seen.clear()
    shaky.download(release, folder, Log())
    assert [(m, p.rsplit("/", 1)[-1]) for m, p, _ in faulty.seen] == [("GET", "config.json")]
    assert (folder / "config.json").read_bytes() == files()["config.json"]


def test_a_token_goes_to_its_hub_alone(shaky: Hub, faulty: Proxy, hub: RunningHub, folder: Path) -> None:
    release = put(shaky, files())
    path = next(f"/{REPO}/resolve/{release.commit}/{f.path}" for f in release.files if f.path == "config.json")
    with proxy(hub.url) as elsewhere:
        moved = Fault(method="GET", path=path, status=302, headers={"Location": elsewhere.url + path})
        faulty.faults.append(moved)
        faulty.seen.clear()
        shaky.download(release, folder, Log())
    assert "authorization" in next(headers for _, p, headers in faulty.seen if p == path)
    assert [(p, "authorization" in headers) for _, p, headers in elsewhere.seen] == [(path, False)]


# ---- what happens on the way ---------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_taken_up_where_it_was(shaky: Hub, faulty: Proxy, folder: Path) -> None:
    release = put(shaky, files(model__safetensors=LARGE))
    faulty.faults.append(Fault(method="GET", path=WEIGHTS, cut=21 << 20, times=1))
    shaky.download(release, folder, Log())
    assert (folder / "model.safetensors").read_bytes() == LARGE
    ranges = [h.get("range") for m, p, h in faulty.seen if m == "GET" and p.endswith("model.safetensors")]
    assert ranges == [None, "bytes=20971520-"]


@pytest.mark.usefixtures("at_once")
def test_a_server_that_falters_is_asked_again(shaky: Hub, faulty: Proxy, folder: Path) -> None:
    release = put(shaky, files())
    faulty.faults.append(Fault(method="GET", path=WEIGHTS, status=503, times=2))
    shaky.download(release, folder, Log())
    assert names(folder) == {f.path for f in release.files}


def test_an_altered_file_is_removed_and_named(shaky: Hub, faulty: Proxy, folder: Path) -> None:
    release = put(shaky, files())
    faulty.faults.append(Fault(method="GET", path=WEIGHTS, alter=True))
    with pytest.raises(AlteredDownloadError, match=rf"^model.safetensors of {REPO}") as caught:
        shaky.download(release, folder, Log())
    assert caught.value.exit_code == 35
    assert not [n for n in names(folder) if "safetensors" in n]
    faulty.faults.clear()
    shaky.download(release, folder, Log())
    assert names(folder) == {f.path for f in release.files}


@pytest.mark.parametrize("body", [files()["model.safetensors"][:-1], b"x" * 10_000_000, b""])
def test_a_file_of_another_size_is_removed_and_named(shaky: Hub, faulty: Proxy, folder: Path, body: bytes) -> None:
    release = put(shaky, files())
    faulty.faults.append(Fault(method="GET", path=WEIGHTS, body=body))
    with pytest.raises(AlteredDownloadError, match=r"^model.safetensors"):
        shaky.download(release, folder, Log())
    assert not [n for n in names(folder) if "safetensors" in n]


def test_after_an_error_nobody_goes_on_in_the_folder(shaky: Hub, faulty: Proxy, folder: Path) -> None:
    """The next job may begin to download the same release at once."""
    release = put(shaky, files(model__safetensors=LARGE))
    faulty.faults.append(Fault(method="GET", path="config.json", status=404))
    with pytest.raises(HubRefusedError):
        shaky.download(release, folder, Log())
    assert not [t for t in threading.enumerate() if t.name == "download"]
    assert not (folder / "model.safetensors").exists()


@pytest.mark.usefixtures("at_once")
def test_a_connection_that_always_breaks_is_said_so(shaky: Hub, faulty: Proxy, folder: Path) -> None:
    release = put(shaky, files())
    faulty.faults.append(Fault(method="GET", path=WEIGHTS, cut=0))
    with pytest.raises(HubUnreachableError, match=f"the connection to {faulty.url} broke"):
        shaky.download(release, folder, Log())


@pytest.mark.parametrize("left", [b"", b"rubbish", MIDDLE[:50_000], MIDDLE, MIDDLE[:-1] + b"\xff", MIDDLE + b"more"])
def test_whatever_a_killed_process_left_the_file_is_whole_in_the_end(client: Hub, folder: Path, left: bytes) -> None:
    release = put(client, files(model__safetensors=MIDDLE))
    (folder / ".incomplete").mkdir()
    (folder / ".incomplete/model.safetensors").write_bytes(left)
    client.download(release, folder, Log())
    assert (folder / "model.safetensors").read_bytes() == MIDDLE
    assert names(folder) == {f.path for f in release.files}


DOWNLOAD = """
import json, sys
from pathlib import Path
from bot.hub.client import connect
from bot.progress import Silent
from bot.records.artifacts import Release
release = Release.from_json(json.loads(Path(sys.argv[2]).read_text()))
with Silent().task("") as task:
    connect(sys.argv[1]).download(release, Path(sys.argv[3]), task)
"""


@pytest.mark.process
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_download_that_was_killed_is_continued(
    shaky: Hub, faulty: Proxy, folder: Path, tmp_path: Path, how: signal.Signals
) -> None:
    release = put(shaky, files(model__safetensors=LARGE))
    (tmp_path / "release.json").write_text(json.dumps(release.to_json()))
    faulty.faults.append(Fault(method="GET", path=WEIGHTS, stall=21 << 20, times=1))
    arguments = [faulty.url, str(tmp_path / "release.json"), str(folder)]
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, *arguments], stderr=subprocess.DEVNULL)
    part = folder / ".incomplete/model.safetensors"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 20 << 20):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait(timeout=8) == -how  # at once, although the Hub has gone silent
    assert not (folder / "model.safetensors").exists()

    faulty.seen.clear()
    shaky.download(release, folder, Log())
    assert (folder / "model.safetensors").read_bytes() == LARGE
    assert names(folder) == {f.path for f in release.files}
    asked = {p.rsplit("/", 1)[-1]: h.get("range") for _, p, h in faulty.seen}
    assert asked["model.safetensors"] == "bytes=20971520-"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a small disk is made in a user namespace of Linux")
def test_a_full_disk_is_said_so(shaky: Hub, faulty: Proxy, hub: RunningHub, tmp_path: Path) -> None:
    release = put(shaky, files(model__safetensors=LARGE))
    (tmp_path / "release.json").write_text(json.dumps(release.to_json()))
    small = tmp_path / "small"
    small.mkdir()
    script = (
        DOWNLOAD.replace(
            "    connect(",
            "  try:\n    connect(",
        )
        + "  except Exception as error:\n    print(type(error).__name__)\n"
    )
    mount = f'mount -t tmpfs -o size=12m none {small} && exec {sys.executable} -c "$SCRIPT" "$@"'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", hub.url, tmp_path / "release.json", small],
        env=os.environ | {"SCRIPT": script},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.stdout.strip() == DiskFullError.__name__
