"""From what differs to what a canary builds."""

from bot.reconvert.affected import affected, alter_builds, changes, unkeyed
from bot.reconvert.records import Difference, Fingerprint, What
from bot.reconvert.sides import Sides
from tests.reconvert.examples import fingerprint

ONE = "1" * 64
ROWS = ("gguf/a", "gguf/b", "mlx/a", "mlx/b")
DEFAULT = ("gguf/a", "mlx/a")
BASE = fingerprint(*ROWS, default=DEFAULT, importance=("gguf/b",))


def found(head: Fingerprint, *touched: Difference) -> tuple[Difference, ...]:
    return changes(Sides(base=BASE, head=head, touched=touched))


def shown(head: Fingerprint, *touched: Difference) -> list[str]:
    return [a.name for a in affected(found(head, *touched), BASE, head)]


def head(**given: dict[str, str] | dict[str, float]) -> Fingerprint:
    return fingerprint(*ROWS, default=DEFAULT, importance=("gguf/b",), **given)  # type: ignore[arg-type]


def touch(what: What, name: str = "every format") -> Difference:
    return Difference(what=what, name=name, files=("bot/a.py",))


def test_equal_sides_have_nothing_between_them() -> None:
    assert found(BASE) == ()
    assert shown(BASE) == []


def test_a_recipe_is_measured_on_its_own_row_default_or_not() -> None:
    assert shown(head(recipes={"gguf/b": ONE})) == ["gguf/b"]


def test_a_lock_and_code_are_measured_on_the_default_rows_of_their_format() -> None:
    assert shown(head(locks={"mlx": ONE})) == ["mlx/a"]
    assert shown(BASE, touch("code", "mlx")) == ["mlx/a"]


def test_a_change_of_code_common_to_all_builds_is_measured_on_all_default_rows() -> None:
    for what in ("steps", "measuring", "sample"):
        assert shown(BASE, touch(what)) == ["gguf/a", "mlx/a"]


def test_an_importance_matrix_is_measured_on_the_rows_that_take_one() -> None:
    assert shown(BASE, touch("importance")) == ["gguf/b"]


def test_a_gate_is_measured_on_the_default_rows_of_its_precision() -> None:
    assert shown(head(gates={"int4": 0.1})) == ["gguf/a", "mlx/a"]
    assert shown(head(gates={"int4": 0.2, "int3": 0.5})) == []


def test_rows_that_came_and_went_are_told_apart() -> None:
    other = fingerprint("gguf/a", "gguf/c", "mlx/a", "mlx/b", default=("gguf/a", "mlx/a"))
    rows = affected(found(other), BASE, other)
    assert [(a.name, a.before, a.after) for a in rows] == [("gguf/c", False, True), ("gguf/b", True, False)]


def test_a_change_that_affects_no_file_is_not_measured() -> None:
    for what in ("cards", "pictures", "plan", "publishing", "commands", "reports"):
        assert shown(BASE, touch(what)) == []
    assert shown(head(config={"watch.include": '["phi-4"]'})) == []


def test_a_change_that_is_said_and_seen_in_files_is_one_change() -> None:
    (change,) = found(head(locks={"mlx": ONE}), touch("lock", "mlx"))
    assert (change.what, change.before, change.after, change.files) == ("lock", "0" * 12, "1" * 12, ("bot/a.py",))


def test_planning_may_have_other_publications_built_anew() -> None:
    assert alter_builds(found(BASE, touch("plan")))
    assert not alter_builds(found(BASE, touch("publishing")))


def test_code_says_by_itself_nothing_about_build_keys() -> None:
    code = touch("code", "gguf"), touch("code", "mlx")
    assert unkeyed(found(BASE, *code)) == {"gguf", "mlx"}
    assert not alter_builds(found(BASE, *code))
    keyed = found(head(recipes={"gguf/a": ONE, "gguf/b": ONE}), *code)
    assert unkeyed(keyed) == {"mlx"}
    assert alter_builds(keyed)
