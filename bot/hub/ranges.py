"""Parts of files on the Hub: nothing but the bytes that were asked for ever arrives."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bot.errors import DamagedWeightsError, HubRefusedError
from bot.hub.retry import exactly_once
from bot.hub.session import headers_of
from bot.records.artifacts import Release, SourceFile

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bot.hub.contents import HubFile


def read_range(
    api: "HfApi", place: "Release | HubFile", file: SourceFile, begin: int, end: int, take: Callable[[bytes], None]
) -> None:
    """Hand the bytes of a file from ``begin`` up to ``end``, which is not included, to ``take``, piece by piece.

    ``place`` says in which repo, and at which commit. Where a connection breaks, it goes on from there. Raises
    DamagedWeightsError where fewer come, HubRefusedError for a Hub that sends whole files, and what huggingface_hub
    raises: see ``bot.hub.errors.hub_errors``.
    """
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status

    if begin >= end:
        return
    url = hf_hub_url(place.repo_id, file.path, revision=place.commit, endpoint=api.endpoint)
    at = begin

    def ask() -> None:
        nonlocal at
        wanted = {"range": f"bytes={at}-{end - 1}", "accept-encoding": "identity"}
        with get_session().stream("GET", url, headers=headers_of(api) | wanted) as response:
            hf_raise_for_status(response)
            if response.status_code != 206 and (at or end < file.size):
                raise HubRefusedError(
                    f"{api.endpoint} sends whole files where a part was asked for", hint="Is it a Hugging Face Hub?"
                )
            for piece in response.iter_bytes():
                take(piece[: end - at])
                at += len(piece)
                if at >= end:
                    return

    exactly_once(ask, landed=lambda: None)  # reading changes nothing, so it is simply done again
    if at < end:
        raise DamagedWeightsError(
            f"{file.path} did not come whole: {at - begin} bytes, not {end - begin}",
            hint="Its owner has to upload it again.",
        )
