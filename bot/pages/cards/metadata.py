"""The YAML head of a card: what the Hub indexes. What comes from the source is checked for type, form and length."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import yaml

from bot import format_folders
from bot.formats.registry import all_formats
from bot.pages.markdown import is_web_address
from bot.printable import is_hidden, one_line
from bot.records.artifacts import Json, Release, RepoRecord
from bot.records.licenses import LICENSES, OTHER

_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
# An identifier, by the Hub's specification. Some hold a few words; letters that look like others, or run from right to
# left, are in none.
_LICENSE_NAME = re.compile(r"[ -~]{1,100}")
_LANGUAGE = re.compile(r"(multilingual|code|[a-z]{2,3}(-[A-Za-z0-9]{2,8})*)")
_PIPELINE = re.compile(r"[a-z0-9]+(-[a-z0-9]+){0,9}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,49}")
_RELATIVE_PATH = re.compile(r"(?:\./)?((?!\.)[^/\\:?#\s][^/\\:?#]{0,99}(?:/(?!\.)[^/\\:?#]{1,100}){0,5})")
_MOST_TAGS, _MOST_LANGUAGES, _MOST_FIELDS = 20, 100, 30

# Tags that say something of the source's files which is not true of ours, or which the Hub sets by itself.
_TAGS_OF_FILES = frozenset(
    {"transformers", "safetensors", "pytorch", "tf", "jax", "custom_code"}
    | {tag for look in format_folders.looks().values() for tag in look.file_tags}
    | {"autotrain_compatible", "endpoints_compatible", "text-generation-inference", "has_space", "eval-results"}
)
# ... and of a model with pictures or speech, which are not true where its text part alone is in ours.
_TAGS_OF_TOWERS = frozenset(
    {"audio", "automatic-speech-recognition", "image-text-to-text", "multimodal", "speech", "speech-summarization"}
    | {"speech-translation", "vision", "visual-question-answering"}
)
_GATED_FIELD_TYPES = frozenset({"text", "checkbox", "date_picker", "country", "ip_location"})


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2, which the Hub reads, takes for a number and PyYAML does not."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"0o[0-7]+$"), ["0"])


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote text with hidden characters, so that they are escaped: YAML folds Unicode's own line breaks to a space."""
    style = '"' if not text.isprintable() and any(is_hidden(c) and c != "\n" for c in text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def head(record: RepoRecord, release: Release, *, chats: bool, endpoint: str) -> str:
    """Return the head of a card, with its two lines of three dashes.

    ``chats`` says whether the model has a chat template. ``endpoint`` is the Hub that the source is on.
    """
    data = metadata(record, release, chats=chats, endpoint=endpoint)
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)
    text = "".join(c if c == "\n" or c.isprintable() or not is_hidden(c) else f"\\U{ord(c):08x}" for c in text)
    return f"---\n{text}---\n"


def metadata(record: RepoRecord, release: Release, *, chats: bool, endpoint: str) -> dict[str, Json]:
    """Return what the head says, by key. Keys of which the source says nothing usable are left out."""
    card = release.card
    license = license_of(release, endpoint)  # noqa: A001 - the Hub's word
    form = all_formats()[record.builds[0].build.variant.format]
    found: dict[str, Any] = {}
    if release.commit is not None:  # a folder is not a model on the Hub
        found |= {"base_model": release.repo_id, "base_model_relation": "quantized"}
    pipeline = None if release.left_out else _matching(_PIPELINE, card.get("pipeline_tag"))
    found |= {
        "license": license.identifier,
        "license_name": license.own_name,
        "license_link": license.link,
        "language": [v for v in map(str, _listed(card.get("language"))) if _LANGUAGE.fullmatch(v)][:_MOST_LANGUAGES],
        "pipeline_tag": pipeline or "text-generation",
        "library_name": form.library,
        "tags": list(_tags(record, release, chats=chats)),
        "quantized_by": "phi-bot",
    }
    if release.gated:
        found |= _gated(card)
    # The Hub's lists give this head without a request per repo: what is published, from what (hub/namespace.py).
    found["phi_bot"] = {
        "source": f"{release.repo_id}@{release.commit}" if release.commit else release.repo_id,
        "builds": {b.build.variant.name: b.build.build_key for b in record.builds},
        "contents": {b.build.variant.name: b.build.source.content_digest for b in record.builds},
    }
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}


@dataclass(frozen=True, kw_only=True)
class License:
    """The source's licence as its card says it: the Hub's identifier, its own name, and an address. All may be None."""

    identifier: str | None
    own_name: str | None
    link: str | None

    @property
    def name(self) -> str | None:
        """The name for people."""
        return self.own_name or self.identifier


def license_of(release: Release, endpoint: str) -> License:
    """Return the source's licence. A relative link is taken for a file in the source repo."""
    card = release.card
    said = _matching(_LICENSE, _first(card.get("license")))
    own_name = _matching(_LICENSE_NAME, _short_text(card.get("license_name"), 100))
    known = said is None or said.lower() in LICENSES
    return License(
        identifier=(said and said.lower()) if known else OTHER,  # the Hub refuses a card with any other
        own_name=own_name if known else own_name or said,
        link=_license_link(release, endpoint),
    )


def _license_link(release: Release, endpoint: str) -> str | None:
    value = release.card.get("license_link")
    if is_web_address(value):
        return str(value)
    path = _RELATIVE_PATH.fullmatch(value) if isinstance(value, str) else None
    if path is None or release.commit is None:
        return None
    return f"{endpoint}/{quote(release.repo_id)}/blob/{quote(release.commit)}/{quote(path[1])}"


def _tags(record: RepoRecord, release: Release, *, chats: bool) -> Iterable[str]:
    variants = [b.build.variant for b in record.builds]
    own = [variants[0].format, "phi", "quantized", "phi-bot", *sorted({v.precision for v in variants})]
    own += sorted({f"{v.precision[3:]}-bit" for v in variants if v.precision.startswith("int")})
    own += ["conversational"] if chats else []
    theirs = [t for t in _listed(release.card.get("tags")) if isinstance(t, str) and _TAG.fullmatch(t)]
    untrue = _TAGS_OF_FILES | (_TAGS_OF_TOWERS if release.left_out else frozenset[str]())
    return list(dict.fromkeys([*own, *(t for t in theirs if t.lower() not in untrue)]))[: len(own) + _MOST_TAGS]


def _gated(card: Mapping[str, Json]) -> dict[str, Any]:
    """Return what a gated source asks of its readers, as far as the Hub's own rules allow it."""
    texts = {
        "extra_gated_heading": _short_text(card.get("extra_gated_heading"), 200),
        "extra_gated_description": _long_text(card.get("extra_gated_description")),
        "extra_gated_prompt": _long_text(card.get("extra_gated_prompt")),
        "extra_gated_button_content": _short_text(card.get("extra_gated_button_content"), 200),
    }
    fields = card.get("extra_gated_fields")
    named = fields.items() if isinstance(fields, dict) else ()
    kept = {name: kind for name, value in named if _short_text(name, 200) == name and (kind := _field(value))}
    return {**texts, "extra_gated_fields": dict(list(kept.items())[:_MOST_FIELDS])}


def _field(value: Json) -> Json:
    if isinstance(value, str):
        return value if value in _GATED_FIELD_TYPES else None
    if not isinstance(value, dict) or value.get("type") != "select":
        return None
    options: list[Json] = []
    for option in _listed(value.get("options"))[:300]:
        if isinstance(option, dict):
            label, chosen = _short_text(option.get("label"), 200), _short_text(option.get("value"), 200)
            options += [{"label": label, "value": chosen}] if label and chosen else []
        elif text := _short_text(option, 200):
            options.append(text)
    return {"type": "select", "options": options} if options else None


def _matching(form: re.Pattern[str], value: Json) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None


def _short_text(value: Json, most: int) -> str | None:
    text = one_line(value) if isinstance(value, str) else ""
    return text if 0 < len(text) <= most else None


def _long_text(value: Json) -> str | None:
    """Return text with its line breaks, each line made harmless."""
    if not isinstance(value, str) or len(value) > 20_000:
        return None
    return "\n".join(one_line(line) for line in value.splitlines()).strip() or None


def _first(value: Json) -> Json:
    return value[0] if isinstance(value, list) and value else value


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value] if value is not None else []
