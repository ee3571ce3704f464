"""Exceptions of huggingface_hub and the network, turned into errors that a person can act on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bot.errors import (
    AlteredDownloadError,
    ConflictError,
    DiskFullError,
    HubRefusedError,
    HubUnreachableError,
    PhiBotError,
    TokenError,
    UnknownModelError,
    UnknownRevisionError,
)
from bot.hub.server_text import safe_line
from bot.hub.session import HUGGING_FACE, forget_connections
from bot.hub.storage import answer_refusal, batch_refusal

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

PASSING = frozenset({408, 429, 500, 502, 503, 504})  # the Hub is overloaded, or something in it broke
_AGAIN = "Run the same command again in a few minutes."


@contextmanager
def hub_errors(endpoint: str, repo_id: str | None = None, *, revision: str | None = None) -> Iterator[None]:
    """Raise what the Hub's client raises in the block as errors of ours.

    TokenError, UnknownModelError, UnknownRevisionError, ConflictError, HubUnreachableError, HubRefusedError or
    DiskFullError, each naming the repo or the endpoint, and none holding a token.
    """
    try:
        yield
    except PhiBotError:
        raise
    except Exception as error:
        if is_nonsense(error):
            forget_connections()
        translated = translate(error, endpoint, repo_id, revision)
        if translated is None:
            raise
        raise translated from error


def is_passing(error: BaseException) -> bool:
    """Say whether the same request may well succeed: the Hub falters, did not answer in time, or hung up."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    return isinstance(error, httpx2.TimeoutException | httpx2.NetworkError | httpx2.RemoteProtocolError)


def is_outage(error: PhiBotError) -> bool:
    """Say whether an error is the Hub's, the network's, the token's or this machine's: what was asked may be right."""
    if isinstance(error, HubUnreachableError | TokenError | AlteredDownloadError | DiskFullError):
        return True
    causes = [cause for cause in _chain(error) if cause is not error]
    return isinstance(error, HubRefusedError) and any(is_passing(cause) or is_nonsense(cause) for cause in causes)


def is_nonsense(error: BaseException) -> bool:
    """Say whether the library stumbled over an answer: it is none of a Hub's, or one to another request."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):  # a 400 is a ValueError too, and a plain answer
        return False
    kinds = ValueError | LookupError | TypeError | AttributeError | NameError
    return isinstance(error, kinds) and _is_of_library(error)


def translate(
    error: BaseException, endpoint: str, repo_id: str | None = None, revision: str | None = None
) -> PhiBotError | None:
    """Return our error for one of the library's, or None for one that is nobody's fault but ours."""
    import httpx2
    from huggingface_hub import errors

    for cause in _chain(error):  # the library wraps what went wrong while uploading
        match cause:
            case PhiBotError():
                return cause
            case errors.HfHubHTTPError():
                return answer_refusal(cause, endpoint, repo_id) or _refusal(cause, endpoint, repo_id, revision)
            case errors.OfflineModeIsEnabled():
                return HubUnreachableError(f"{endpoint} is out of reach: HF_HUB_OFFLINE is set", hint="Unset it.")
            case errors.LocalTokenNotFoundError() | errors.OIDCError() | errors.DeviceCodeError():
                return no_token(endpoint, safe_line(str(cause)))
            case errors.HFValidationError():
                return UnknownModelError(f"{repo_id!a} is not a repo id", hint="Give owner/name.")
            case httpx2.TimeoutException():
                return HubUnreachableError(f"{endpoint} did not answer in time", hint=_AGAIN)
            case httpx2.ConnectError():
                return HubUnreachableError(
                    f"{endpoint} is not reachable: {safe_line(str(cause))}",
                    hint="Check the address (--endpoint, HF_ENDPOINT), the network and the proxy.",
                )
            case httpx2.RequestError():
                what = safe_line(str(cause)) or type(cause).__name__
                return HubUnreachableError(f"the connection to {endpoint} broke: {what}", hint=_AGAIN)
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                where = f": {cause.filename}" if isinstance(cause.filename, str) else ""
                return DiskFullError(f"the disk is full{where}", hint="Free some disk and run the same command again.")
            case ValueError() if (refused := batch_refusal(cause, endpoint, repo_id)) is not None:
                return refused
    if is_nonsense(error):
        return HubRefusedError(
            f"{endpoint} did not answer as a Hub does ({type(error).__name__}: {safe_line(str(error))})",
            hint="Is it a Hugging Face Hub (--endpoint, HF_ENDPOINT)?",
        )
    return None


def _give_token(endpoint: str) -> str:
    if endpoint == HUGGING_FACE:
        return "Set HF_TOKEN, or run `hf auth login`."
    return "Set HF_TOKEN to a token of that Hub."


def _refusal(error: "HfHubHTTPError", endpoint: str, repo_id: str | None, revision: str | None) -> PhiBotError:
    from huggingface_hub import errors

    what = repo_id or endpoint
    status = error.response.status_code
    said = safe_line(error.server_message or "")
    because = f": {said}" if said else ""
    match error:
        case errors.GatedRepoError():
            return TokenError(
                f"{what} is gated, and this token has no access to it",
                hint=f"Ask for access at {endpoint}/{what}, then give a token of that account. {_give_token(endpoint)}",
            )
        case errors.RevisionNotFoundError():
            return UnknownRevisionError(
                f"{what} has no revision {revision!a}", hint=f"Its branches, tags and commits are at {endpoint}/{what}."
            )
        case errors.RepositoryNotFoundError():
            return UnknownModelError(
                f"{endpoint} shows no repo {what}", hint=f"Check the name. If it is private: {_give_token(endpoint)}"
            )
        case errors.DisabledRepoError():
            return HubRefusedError(f"{what} is disabled", hint=f"{endpoint}/{what} may say why.")
    if status == 401:
        return TokenError(
            f"{endpoint} does not accept this token{because}", hint=f"Give a valid one. {_give_token(endpoint)}"
        )
    if status == 403:
        return TokenError(
            f"this token has no right to do that in {what}{because}",
            hint="Give a token that may write to that namespace, or choose another namespace.",
        )
    if status == 412:
        return conflict(what)
    if status == 429:
        return HubRefusedError(f"{endpoint} asks to slow down{because}", hint=_AGAIN)
    if status >= 500:
        return HubRefusedError(f"{endpoint} failed with status {status}{because}", hint=_AGAIN)
    return HubRefusedError(f"{endpoint} refused with status {status}{because}", hint=f"It was about {what}.")


def no_token(endpoint: str, why: str = "") -> TokenError:
    """Return the error for a request that needs a token, without one."""
    return TokenError(f"there is no token for {endpoint}{': ' if why else ''}{why}", hint=_give_token(endpoint))


def conflict(repo_id: str) -> ConflictError:
    """Return the error for a repo whose head is no longer where it was."""
    return ConflictError(
        f"someone else published in {repo_id} at the same moment",
        hint="Run the same command again: it adds to what they published.",
    )


def _is_of_library(error: BaseException) -> bool:
    """Say whether it was raised while an answer was read, not by a mistake of ours."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = frame.tb_frame.f_globals.get("__name__", "") if frame is not None else ""
    return str(module).partition(".")[0] in ("huggingface_hub", "httpx2", "json")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__
