"""Records of other versions of the bot, and what is none."""

from pathlib import Path

import pytest

from bot.reconvert import foreign
from bot.reconvert.child import ChildError
from bot.records.artifacts import Cost, Failure, Report

FAILURE = {"release": "a/b", "variant": "gguf/a", "step": "build", "message": "m", "hint": "h"}


def test_unknown_fields_of_a_newer_version_are_left_out() -> None:
    text = f'{{"failures": [{{"mood": 1, {str(FAILURE)[1:-1]}}}], "weather": {{}}}}'.replace("'", '"')
    assert foreign.read(Report, text) == Report(failures=(Failure.from_json(FAILURE),))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"seconds": "1", "peak_memory": 2}', '{"seconds": 1}', "[" * 10**5]
)
def test_all_else_is_read_strictly(text: str) -> None:
    with pytest.raises(ChildError, match="cannot be read"):
        foreign.read(Cost, text)


def test_a_file_that_is_a_link_or_a_device_is_none(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text('{"seconds": 1.5, "peak_memory": 2, "more": 3}')
    assert foreign.read_file(Cost, tmp_path / "real.json") == Cost(seconds=1.5, peak_memory=2)
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    for name in ("link.json", "missing.json"):
        with pytest.raises(ChildError):
            foreign.read_file(Cost, tmp_path / name)
    with pytest.raises(ChildError):
        foreign.read_file(Cost, Path("/dev/zero"))
