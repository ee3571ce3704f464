"""What `phi-bot describe` says of this code: all that published files depend on."""

from dataclasses import replace

import pytest

from bot import catalogue
from bot.config import Config
from bot.reconvert.describe import describe


def test_every_row_is_described_and_one_that_takes_a_size_at_one_size() -> None:
    said = describe(Config())
    assert [row.name for row in said.variants] == [*catalogue.all_variants(), "gguf/fit:1GB"]
    assert said.gates.keys() == {v.precision for v in catalogue.all_variants().values()}


def test_another_option_of_a_row_that_takes_a_size_is_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe(Config()).variants[-1]
    other = {name: replace(row, options=row.options | {"new": 1}) for name, row in catalogue.sized_rows().items()}
    monkeypatch.setattr(catalogue, "sized_rows", lambda: other)
    after = describe(Config()).variants[-1]
    assert (before.name, before.recipe) != (after.name, after.recipe)
    assert before.name == after.name
