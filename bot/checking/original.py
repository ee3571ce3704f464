"""What an original says of itself, as far as files made from it have to say the same. Reads no weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.errors import DamagedTokenizerError
from bot.hub.client import Hub
from bot.hub.contents import HubFile
from bot.records.artifacts import Json, Release, SourceFile
from bot.source import bytes_digest
from bot.source.bounds import FILE_BYTES
from bot.source.chat_template import ChatFormat, chat_format
from bot.source.strict import parse_object
from bot.source.tokenizer import check_tokenizer
from bot.system import temporary

_READ = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "added_tokens.json",
    "vocab.json",
)


@dataclass(frozen=True, kw_only=True)
class Original:
    """What an original says. ``tokens`` are by their ids, empty where no file that is read here lists them."""

    release: Release
    chat: ChatFormat | None
    stops: frozenset[int]
    tokens: Mapping[int, str]

    @property
    def factors(self) -> dict[str, tuple[float, ...]]:
        """LongRoPE's factors by side; {} where it has none."""
        scaling = self.release.config.get("rope_scaling") or self.release.config.get("rope_parameters") or {}
        given = {side: scaling.get(f"{side}_factor") for side in ("short", "long")} if isinstance(scaling, dict) else {}
        return {side: numbers for side, values in given.items() if (numbers := _numbers(values))}

    @property
    def base(self) -> float | None:
        """The base of the rotary angles, None where config.json does not say it."""
        parameters = self.release.config.get("rope_parameters")
        inner = parameters.get("rope_theta") if isinstance(parameters, dict) else None
        found = self.release.config.get("rope_theta", inner)
        return (_numbers([found]) or (None,))[0]


def read_original(hub: Hub, repo_id: str, commit: str | None) -> Original:
    """Return what a repo says at a commit, or at the head of main. Raises what ``hub.release`` raises.

    An adapter is read by the tokenizer of its own, where it has one, and else by its base's.
    """
    release = hub.release(repo_id, commit)
    holder = release
    if release.base is not None and not any(f.path.startswith("tokenizer") for f in release.files):
        holder = release.base
    with temporary.folder("check-") as folder:
        for file in holder.files:
            if file.path in _READ:
                (folder / file.path).write_bytes(_whole(hub, holder, file))
        if (folder / "tokenizer.json").exists():
            check_tokenizer(folder)
        generation = _object(folder / "generation_config.json")
        return Original(
            release=release,
            chat=chat_format(folder),
            stops=_ids(generation.get("eos_token_id", release.config.get("eos_token_id"))),
            tokens=_tokens(folder),
        )


def _whole(hub: Hub, holder: Release, file: SourceFile) -> bytes:
    if file.size > FILE_BYTES:
        raise DamagedTokenizerError(f"{file.path} of {holder.label} has {file.size} bytes", hint="No model's has.")
    place = HubFile(repo_id=holder.repo_id, commit=holder.commit or "", file=file)
    content = hub.read_part(place, 0, file.size)
    if bytes_digest(content, lfs=file.is_lfs) != file.digest:
        raise DamagedTokenizerError(f"{file.path} of {holder.label} did not arrive as it is listed", hint="Try again.")
    return content


def _tokens(folder: Path) -> dict[int, str]:
    """Return the tokens of tokenizer.json, or of vocab.json, with those that were added."""
    fast = _object(folder / "tokenizer.json")
    model = fast.get("model")
    vocabulary = (model.get("vocab") if isinstance(model, dict) else None) or _object(folder / "vocab.json")
    found = {i: t for t, i in vocabulary.items() if type(i) is int} if isinstance(vocabulary, dict) else {}
    found |= {i: t for t, i in _object(folder / "added_tokens.json").items() if type(i) is int}
    added = fast.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and type(token.get("id")) is int and isinstance(token.get("content"), str):
            found[token["id"]] = token["content"]
    return found


def _object(path: Path) -> dict[str, Json]:
    try:
        return parse_object(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise DamagedTokenizerError(f"{path.name} {error}", hint="Its owner has to save it again.") from error


def _ids(value: Json) -> frozenset[int]:
    return frozenset(i for i in (value if isinstance(value, list) else [value]) if type(i) is int)


def _numbers(value: Json) -> tuple[float, ...]:
    listed = value if isinstance(value, list) else []
    found = [float(v) for v in listed if isinstance(v, int | float) and not isinstance(v, bool)]
    return tuple(found) if len(found) == len(listed) else ()
