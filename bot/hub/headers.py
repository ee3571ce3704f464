"""The shape of a release on the Hub, from the headers of its weights: a few requests for the first bytes of files."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bot.errors import DamagedWeightsError, HubRefusedError
from bot.hub.library import headers_of
from bot.hub.patience import once
from bot.records import Release, SourceFile
from bot.source.shape import Shape, shape_of
from bot.source.weights import HEADER_BYTES, Tensor, added, check_layout, parse_header

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_FIRST = 100_000  # bytes of the first request: nearly all headers are in them whole


def shape(api: "HfApi", release: Release) -> Shape:
    """Return the shape of a release, from one or two requests for each file of its weights.

    Raises DamagedWeightsError for a header that is malformed, too large, or not that of so long a file, and what
    huggingface_hub raises: see ``bot.hub.failures.told``.
    """
    weights = [f for f in release.files if f.path.endswith(".safetensors") and "/" not in f.path]
    return shape_of(_every(api, release, weights), release.config)


def _every(api: "HfApi", release: Release, weights: Iterable[SourceFile]) -> Iterator[Tensor]:
    total = 0
    for file in weights:
        tensors = _tensors(api, release, file)
        total = added(total, file.size, tensors, file.path)
        yield from tensors.values()


def _tensors(api: "HfApi", release: Release, file: SourceFile) -> dict[str, Tensor]:
    begin = _read(api, release, file, 0, min(_FIRST, file.size))
    length = int.from_bytes(begin[:8], "little")
    if file.size < 8 or 8 + min(length, HEADER_BYTES) > file.size:
        raise _damaged(file, f"is truncated in its header: it has {file.size} bytes")
    if length > HEADER_BYTES:
        raise _damaged(file, f"has a header of {length} bytes, more than {HEADER_BYTES}")
    raw = begin[8 : 8 + length]
    if len(raw) < length:
        raw += _read(api, release, file, len(begin), 8 + length)
    tensors = parse_header(raw, name=file.path)
    check_layout(tensors, file.size - 8 - length, file.path)
    return tensors


def _read(api: "HfApi", release: Release, file: SourceFile, begin: int, end: int) -> bytes:
    """Return the bytes of a file from ``begin`` up to ``end``, which is not included. Never takes more than those."""
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status

    if begin >= end:
        return b""
    url = hf_hub_url(release.repo_id, file.path, revision=release.commit, endpoint=api.endpoint)
    wanted = {"range": f"bytes={begin}-{end - 1}", "accept-encoding": "identity"}

    def ask() -> bytes:
        with get_session().stream("GET", url, headers=headers_of(api) | wanted) as response:
            hf_raise_for_status(response)
            if response.status_code != 206 and (begin or end < file.size):
                raise HubRefusedError(
                    f"{api.endpoint} sends whole files where a part was asked for", hint="Is it a Hugging Face Hub?"
                )
            found = b""
            for chunk in response.iter_bytes():
                found += chunk
                if len(found) > end - begin:
                    break
            return found

    found = once(ask, landed=lambda: None)  # reading changes nothing, so it is simply done again
    if len(found) != end - begin:
        raise _damaged(file, f"did not come whole: {len(found)} bytes, not {end - begin}")
    return found


def _damaged(file: SourceFile, what: str) -> DamagedWeightsError:
    return DamagedWeightsError(f"{file.path} {what}", hint="Its owner has to upload it again.")
