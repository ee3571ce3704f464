"""From what differs to what a canary builds."""

from dataclasses import replace

from bot.compare.affected import affected, alter_builds, changes, unkeyed
from bot.compare.records import Fingerprint
from tests.compare.examples import fingerprint

ONE = "1" * 64
ROWS = ("gguf/a", "gguf/b", "mlx/a", "mlx/b")
BASE = fingerprint(*ROWS, default=("gguf/a", "mlx/a"))


def shown(head: Fingerprint) -> list[str]:
    return [a.name for a in affected(changes(BASE, head), BASE, head)]


def test_equal_sides_have_nothing_between_them() -> None:
    assert changes(BASE, BASE) == ()
    assert shown(BASE) == []


def test_a_recipe_is_measured_on_its_own_row_default_or_not() -> None:
    rows = tuple(replace(v, recipe=ONE) if v.name == "gguf/b" else v for v in BASE.variants)
    assert shown(replace(BASE, variants=rows)) == ["gguf/b"]


def test_a_lock_and_code_are_measured_on_the_default_rows_of_their_format() -> None:
    for what in ("lock", "code"):
        forms = tuple(replace(f, **{what: ONE}) if f.name == "mlx" else f for f in BASE.formats)
        assert shown(replace(BASE, formats=forms)) == ["mlx/a"]


def test_what_every_build_goes_through_is_measured_on_all_default_rows() -> None:
    for head in (replace(BASE, steps=ONE), replace(BASE, measuring=ONE), replace(BASE, sample=ONE)):
        assert shown(head) == ["gguf/a", "mlx/a"]


def test_a_gate_is_measured_on_the_default_rows_of_its_precision() -> None:
    assert shown(replace(BASE, gates={"int4": 0.1})) == ["gguf/a", "mlx/a"]
    assert shown(replace(BASE, gates={"int4": 0.2, "int3": 0.5})) == []


def test_rows_that_came_and_went_are_told_apart() -> None:
    head = fingerprint("gguf/a", "gguf/c", "mlx/a", "mlx/b", default=("gguf/a", "mlx/a"))
    found = affected(changes(BASE, head), BASE, head)
    assert [(a.name, a.before, a.after) for a in found] == [("gguf/c", False, True), ("gguf/b", True, False)]


def test_a_template_and_a_configuration_are_not_measured() -> None:
    forms = tuple(replace(f, cards=ONE) for f in BASE.formats)
    assert shown(replace(BASE, formats=forms)) == []
    assert shown(replace(BASE, config={"watch.include": '["phi-4"]'})) == []


def test_code_says_by_itself_nothing_about_build_keys() -> None:
    forms = tuple(replace(f, code=ONE) for f in BASE.formats)
    found = changes(BASE, replace(BASE, formats=forms))
    assert unkeyed(found) == {"gguf", "mlx"}
    assert not alter_builds(found)
    rows = tuple(replace(v, recipe=ONE) if v.name.startswith("gguf/") else v for v in BASE.variants)
    found = changes(BASE, replace(BASE, formats=forms, variants=rows))
    assert unkeyed(found) == {"mlx"}
    assert alter_builds(found)
