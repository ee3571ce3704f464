"""A Hub that takes no large file says why, and so does the error: a full disk, a quota, a size, the storage itself."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from bot.errors import HubRefusedError, PhiBotError
from bot.hub import client as clients
from bot.hub.client import Hub
from bot.localhub import serve
from bot.localhub.check import check
from bot.localhub.limits import ServerLimits
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log
from tests.worker.running import small_disk

REPO = "me/Phi-4-GGUF"
WEIGHTS = random.Random(0).randbytes(200_000)
FILES: dict[str, Path | bytes] = {"model.gguf": WEIGHTS}
HTML = b"<html><body>Payload too large</body></html>"


def put(hub: Hub, files: Mapping[str, Path | bytes] = FILES) -> PhiBotError:
    """The error that ends a commit with large files."""
    with pytest.raises(HubRefusedError) as raised:
        hub.commit(REPO, files=files, parent=None, message="Add it", task=Log())
    error = raised.value
    assert "Hugging Face Hub?" not in error.hint
    assert "The built files stay here." in error.hint
    assert REPO in error.message
    assert "Signature" not in error.message.replace("SignatureDoesNotMatch", "")
    return error


def objects(message: str, code: int) -> bytes:
    refused = {"oid": "a" * 64, "size": 200_000, "error": {"code": code, "message": message}}
    return json.dumps({"transfer": "basic", "objects": [refused]}).encode()


def xml(code: str, message: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        "<StringToSign>secret</StringToSign><RequestId>4442587FB7D0A2F9</RequestId></Error>"
    ).encode()


@pytest.mark.parametrize(
    ("fault", "said", "hint"),
    [
        (Fault(method="POST", path="/info/lfs/objects/batch", status=507), "status 507", "room"),
        (Fault(method="POST", path="/info/lfs/objects/batch", status=413, body=HTML), "status 413", "larger"),
        (
            Fault(
                method="POST",
                path="/info/lfs/objects/batch",
                status=403,
                headers={
                    "X-Error-Message": "Private repository storage limit reached, please upgrade your plan",
                    "Content-Type": "application/json",
                },
            ),
            "storage limit reached",
            "more storage",
        ),
        (
            Fault(
                method="POST",
                path="/info/lfs/objects/batch",
                status=402,
                body=b'{"error": "You have exceeded your storage quota"}',
                headers={"Content-Type": "application/json"},
            ),
            "exceeded your storage quota",
            "more storage",
        ),
        (
            Fault(
                method="POST",
                path="/info/lfs/objects/batch",
                body=objects("no space left on the disk", 507),
                headers={"Content-Type": "application/vnd.git-lfs+json"},
            ),
            "does not store a file for me/Phi-4-GGUF: no space left on the disk",
            "no room",
        ),
        (
            Fault(
                method="POST",
                path="/info/lfs/objects/batch",
                body=objects("object quota of me is used up", 403),
                headers={"Content-Type": "application/vnd.git-lfs+json"},
            ),
            "object quota of me is used up",
            "more storage",
        ),
        (
            Fault(
                method="PUT",
                path="/_lfs/",
                status=400,
                body=xml("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"),
                headers={"Content-Type": "application/xml"},
            ),
            "EntityTooLarge: Your proposed upload exceeds the maximum allowed size",
            "larger",
        ),
        (
            Fault(
                method="PUT",
                path="/_lfs/",
                status=403,
                body=xml("AccessDenied", "Request has expired"),
                headers={"Content-Type": "application/xml"},
            ),
            "AccessDenied: Request has expired",
            "clock",
        ),
        (
            Fault(
                method="PUT",
                path="/_lfs/",
                status=403,
                body=xml("SignatureDoesNotMatch", "The request signature does not match"),
                headers={"Content-Type": "application/xml"},
            ),
            "SignatureDoesNotMatch",
            "clock",
        ),
    ],
    ids=["507", "413", "403 quota", "402", "object full", "object quota", "xml size", "xml expired", "xml signature"],
)
def test_the_reason_why_a_file_is_not_stored_is_passed_on(
    shaky: Hub, faulty: Proxy, fault: Fault, said: str, hint: str
) -> None:
    faulty.faults.append(fault)
    error = put(shaky)
    assert said in error.message
    assert hint in error.hint
    assert "secret" not in error.message


def test_a_refusal_for_the_token_stays_one(shaky: Hub, faulty: Proxy) -> None:
    faulty.faults.append(Fault(method="POST", path="/info/lfs/objects/batch", status=403))
    with pytest.raises(PhiBotError) as raised:
        shaky.commit(REPO, files={"model.gguf": WEIGHTS}, parent=None, message="Add it", task=Log())
    assert "no right" in raised.value.message


@pytest.mark.server
def test_a_file_that_is_too_large_for_a_hub(tmp_path: Path) -> None:
    with serve(tmp_path / "hub", limits=ServerLimits(file=100_000)) as hub:
        error = put(clients.connect(hub.url, hub.token))
    assert "more than 100000 bytes" in error.message
    assert "larger than that Hub takes" in error.hint


@pytest.mark.server
@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([30_000_000], "the disk of the embedded Hub is too small"),
        ([7_000_000] * 2, "the disk of the embedded Hub is full"),
    ],
    ids=["at once", "while they come"],
)
def test_a_hub_whose_disk_is_full_says_so_and_stays_whole(tmp_path: Path, sizes: list[int], said: str) -> None:
    """What was there stays, and with room all of it goes on."""
    contents: dict[str, Path | bytes] = {}
    for number, size in enumerate(sizes):
        contents[f"{number}.gguf"] = tmp_path / f"{number}.gguf"
        (tmp_path / f"{number}.gguf").write_bytes(random.Random(number).randbytes(size))
    with small_disk(tmp_path / "disk", 12) as disk, serve(disk / "hub") as hub:
        ours = clients.connect(hub.url, hub.token)
        ours.commit("me/before", files={"model.gguf": WEIGHTS}, parent=None, message="Add it", task=Log())
        error = put(ours, contents)
        assert said in error.message
        assert "no room" in error.hint
        assert check(disk / "hub") == []
        assert [m.id for m in ours.api.list_models(author="me")].count("me/before") == 1
        head = ours.api.repo_info(REPO).sha
        ours.commit(REPO, files={"small.gguf": WEIGHTS[:5000]}, parent=head, message="Add it", task=Log())
        assert "small.gguf" in ours.api.list_repo_files(REPO)
        assert check(disk / "hub") == []
