"""Files of an artifact that verifying reads without a runtime, whatever the format."""

import json
from pathlib import Path

from bot.records.artifacts import Json


def json_object(file: Path) -> dict[str, Json]:
    """Return the object that a JSON file holds. Raises ValueError, naming the file, where it holds none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{file.name} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} is damaged: it holds no object")
    return value
