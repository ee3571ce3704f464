"""The metadata head of a local model's README.md, as far as cards inherit it."""

from pathlib import Path
from typing import Any

import yaml

from bot.records.artifacts import Json

_HEAD_BYTES = 100_000
_INHERITED = ("license", "license_name", "language", "pipeline_tag")


def inherited(card: dict[str, Json], base: dict[str, Json]) -> dict[str, Json]:
    """Return a card with what it leaves out and its base says. A licence is taken whole, or not at all."""
    keys = [k for k in _INHERITED if "license" not in card or not k.startswith("license")]
    more = {k: base[k] for k in keys if k in base and k not in card}
    link: Any = base.get("license_link")
    if "license" in more and isinstance(link, str) and link.startswith("https://"):  # another names a file of the base
        more["license_link"] = link
    return card | more


def read_card(folder: Path) -> dict[str, Json]:
    """Return the metadata of a folder's README.md: text, lists and objects; {} where there is none that can be read.

    What is inherited is all text, so nothing is guessed to be a date or a truth value (``no`` stays Norwegian).
    """
    path = folder / "README.md"
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        text = file.read(_HEAD_BYTES).decode("utf-8", errors="replace").replace("\r\n", "\n")
    if not text.startswith("---\n") or "\n---" not in text[3:]:
        return {}
    try:
        head = yaml.load(text[4 : text.index("\n---", 3) + 1], Loader=_TextLoader)  # noqa: S506 - builds text only
    except (yaml.YAMLError, RecursionError):
        return {}
    return head if isinstance(head, dict) and all(isinstance(k, str) for k in head) else {}


class _TextLoader(yaml.BaseLoader):
    """Refuses aliases: a few lines of them expand to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)
