"""The Hub's answers when it does not store a large file: in a batch of LFS objects, or from the storage behind it."""

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bot.errors import HubRefusedError
from bot.hub.server_text import safe_line

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_BATCH = "LFS batch API returned errors:"  # how the library begins
_OBJECT = re.compile(r"Encountered error for file with OID \w*: `(?P<said>.*?)`?$", re.MULTILINE)
_XML = re.compile(
    r"<Error>.*?<Code>(?P<code>[A-Za-z0-9.]{1,60})</Code>(?:\s*<Message>(?P<said>[^<]{0,500}))?", re.DOTALL
)
_QUOTA = re.compile(
    r"quota|storage limit|limit (?:was |is |has been )?(?:reached|exceeded)|upgrade|billing|credits", re.IGNORECASE
)
_TOO_LARGE = re.compile(r"too large|more than \d|EntityTooLarge|exceeds the (?:maximum|limit)", re.IGNORECASE)
_FULL = re.compile(r"disk|no space|insufficient storage|too small|is full", re.IGNORECASE)
_STAYS = "The built files stay here."


def batch_refusal(error: BaseException, endpoint: str, repo_id: str | None) -> HubRefusedError | None:
    """Return what a Hub said of single objects of a batch; None for another error."""
    if not isinstance(error, ValueError) or not str(error).startswith(_BATCH):
        return None
    told = [match["said"] for match in _OBJECT.finditer(str(error))]
    said = safe_line("; ".join(dict.fromkeys(told))) or "it gave no reason"
    return _refused("a file" if len(told) == 1 else f"{len(told)} files", said, endpoint, repo_id)


def answer_refusal(error: "HfHubHTTPError", endpoint: str, repo_id: str | None) -> HubRefusedError | None:
    """Return what is behind a status that is about room, or an answer of the storage; None for another one."""
    status, response = error.response.status_code, error.response
    said = safe_line(error.server_message or "")
    xml = _XML.search(_text(response))
    if xml is not None:
        said = safe_line(f"{xml['code']}: {xml['said']}" if xml["said"] else xml["code"])
    if status in (402, 413, 507) or (status in (403, 422) and _QUOTA.search(said)):
        said = said or {402: "it asks for payment", 413: "too large", 507: "its storage is full"}[status]
        return _refused("a file", f"{said}, status {status}", endpoint, repo_id)
    if xml is not None and _TOO_LARGE.search(said):
        return _refused("a file", f"{said}, status {status}", endpoint, repo_id)
    if xml is not None or (status >= 400 and _is_elsewhere(error, endpoint)):
        because = f"{said}, status {status}" if said else f"status {status}"
        return HubRefusedError(
            f"the storage of {endpoint} did not take a file of {repo_id or 'a repo'} ({because})",
            hint=f"Run the same command again; if it says so again, look at this machine's clock and proxy. {_STAYS}",
        )
    return None


def _refused(what: str, said: str, endpoint: str, repo_id: str | None) -> HubRefusedError:
    owner = (repo_id or "").rpartition("/")[0] or "that namespace"
    if _TOO_LARGE.search(said):
        hint = f"A file is larger than that Hub takes: choose smaller variants. {_STAYS}"
    elif _QUOTA.search(said) or not _FULL.search(said):
        hint = f"Make room among the repos of {owner}, or get more storage for it, and run it again. {_STAYS}"
    else:
        hint = f"Its disk has no room: tell whoever runs that Hub, and run it again. {_STAYS}"
    return HubRefusedError(f"{endpoint} does not store {what} for {repo_id or 'a repo'}: {said}", hint=hint)


def _is_elsewhere(error: "HfHubHTTPError", endpoint: str) -> bool:
    """Say whether it was not the Hub itself that answered a request to store something."""
    try:
        request = error.response.request
    except RuntimeError:  # made without one
        return False
    return request.method in ("PUT", "POST") and request.url.host != urlsplit(endpoint).hostname


def _text(response: object) -> str:
    try:
        return str(getattr(response, "text", ""))[:5000]
    except Exception:  # noqa: BLE001 - a body that was not read, or is not text
        return ""
