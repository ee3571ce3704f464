"""Nothing of a format's name stands outside its folder, its card, its documentation and its tests."""

import re

import pytest

from bot import format_folders
from tests.names import said, shared_files

NAMES = re.compile("|".join(format_folders.names()), re.IGNORECASE)

#: Where a name may stand all the same, and why. Whoever takes the reason away takes the line away.
ALLOWED = {
    "action.yml": "says to people what the Action makes, with examples of variants",
    "bot/config/phi-bot.schema.json": "made of the help texts",
    "bot/config/places.py": "a help text with an example of a repo's name",
    "bot/config/tables.py": "help texts with examples of variants",
    "bot/localhub/metadata.py": "the real Hub's own knowledge of files, which the embedded one mirrors",
    "bot/localhub/store.py": "the real Hub's own knowledge of files, which the embedded one mirrors",
    "bot/source/adapters.py": "which files of a stranger's repo are weights, whatever is built here",
    "templates/estimates.md.j2": "a page of the documentation: what was measured, in sentences",
}


@pytest.mark.parametrize("name", sorted(shared_files().keys() - ALLOWED.keys()))
def test_a_shared_file_names_no_format(name: str) -> None:
    assert said(shared_files()[name], NAMES) == []


@pytest.mark.parametrize("name", ALLOWED)
def test_an_exception_is_still_needed(name: str) -> None:
    assert said(shared_files()[name], NAMES)
