"""What workers may take: every one has limits, and no honest one comes near them."""

import ast
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot
from bot import catalogue
from bot.errors import ConfigError
from bot.machines import worker_limits
from bot.machines.estimate_models import expected
from bot.records.artifacts import Record, Variant
from bot.records.tasks import BuildTask, ImportanceTask, ReferenceTask, Target, VerifyTask
from bot.source.shape import Shape
from bot.system import machine
from bot.toolchains.watch import WorkerLimits

VARIANTS = tuple(catalogue.all_variants().values())
PLENTY = 10**15

shapes = st.builds(
    lambda count, layers, vocabulary: Shape(
        parameters={"BF16": count},
        bytes=2 * count,
        largest=min(count, 3072 * vocabulary),
        layers=layers,
        vocabulary=vocabulary,
    ),
    st.integers(10**5, 10**11),
    st.integers(1, 200),
    st.integers(1, 500_000),
)


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(worker_limits.VARIABLE, raising=False)
    monkeypatch.setattr(machine, "memory", lambda: PLENTY)


def build(*variants: Variant, streamed: bool = False) -> BuildTask:
    targets = tuple(Target(variant=v, out="") for v in variants)
    return BuildTask(source="", model_name="", targets=targets, scratch="", threads=2, streamed=streamed)


def verify(variant: Variant) -> VerifyTask:
    return VerifyTask(artifact="", variant=variant, source="", reference="", threads=2)


REFERENCE = ReferenceTask(source="", out="", threads=2)


@given(shape=shapes, variant=st.sampled_from(VARIANTS))
def test_an_honest_worker_is_far_inside_on_a_machine_ten_times_slower(shape: Shape, variant: Variant) -> None:
    """A toolchain's own way may hold the model in float32 twice, for which no estimate is made."""
    for task, what, of in ((build(variant), "build", variant), (verify(variant), "verify", variant)):
        found = worker_limits.task_limits(task, shape)
        assert found.seconds >= 10 * 5 * expected(what, shape, of, "cpu_seconds")  # type: ignore[arg-type]
        assert found.seconds >= 7200
        assert found.memory >= 3 * expected(what, shape, of, "memory")  # type: ignore[arg-type]
        assert found.memory >= 4 * 2 * shape.bytes
    found = worker_limits.task_limits(REFERENCE, shape)
    assert found.seconds >= 10 * 5 * expected("reference", shape, None, "cpu_seconds")
    assert found.memory >= 3 * expected("reference", shape, None, "memory")


@given(shape=shapes)
def test_more_work_may_take_more(shape: Shape) -> None:
    one, more = worker_limits.task_limits(build(VARIANTS[0]), shape), worker_limits.task_limits(build(*VARIANTS), shape)
    assert more.seconds >= one.seconds
    assert more.memory >= one.memory
    streamed = worker_limits.task_limits(build(VARIANTS[0], streamed=True), shape)
    assert streamed.seconds == pytest.approx(one.seconds + shape.bytes / 100_000)


@pytest.mark.parametrize(
    ("task", "gigabytes", "hours"),
    [(build(catalogue.all_variants()["gguf/q4_k_m"]), 5, 2), (REFERENCE, 5, 2), (VERIFY := verify(VARIANTS[0]), 5, 2)],
    ids=["build", "reference", "verify"],
)
def test_a_small_model_that_runs_wild_does_not_take_the_machine(task: Record, gigabytes: float, hours: float) -> None:
    sample = Shape(parameters={"BF16": 10**6}, bytes=2 * 10**6, largest=10**5, layers=2, vocabulary=32064)
    found = worker_limits.task_limits(task, sample)
    assert found.memory < gigabytes * 1e9
    assert found.seconds <= hours * 3600


def test_a_worker_is_ended_before_the_machine_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_limits, "_all_memory", lambda: 10e9)
    shape = Shape(parameters={"BF16": 10**10}, bytes=2 * 10**10, largest=10**9, layers=40, vocabulary=200_064)
    matrix = ImportanceTask(variant=VARIANTS[0], model="", text="", name="", out="", threads=2)
    for task in (REFERENCE, matrix):
        assert worker_limits.task_limits(task, shape).memory == 9_500_000_000


def test_memory_of_this_machine_counts_with_its_swap() -> None:
    assert machine.memory() <= worker_limits._all_memory()


def test_a_person_can_multiply_them(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = worker_limits.default_limits()
    monkeypatch.setenv(worker_limits.VARIABLE, "2.5")
    assert worker_limits.default_limits() == WorkerLimits(seconds=2.5 * usual.seconds, memory=round(2.5 * usual.memory))


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "nan", "inf", "1e9"])
def test_a_limit_that_is_not_a_factor_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(worker_limits.VARIABLE, text)
    with pytest.raises(ConfigError, match=r"^PHI_BOT_WORKER_LIMITS is ") as caught:
        worker_limits.default_limits()
    assert "above 0" in caught.value.hint


def test_a_format_that_nobody_measured_has_limits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape(parameters={"BF16": 10**9}, bytes=2 * 10**9, largest=10**8, layers=40, vocabulary=200_064)
    fifth = Variant.from_json(VARIANTS[0].to_json() | {"name": "fifth/int4"})
    found = worker_limits.task_limits(verify(fifth), shape)
    assert math.isfinite(found.seconds)
    assert found.memory > 16e9


def test_every_worker_has_limits() -> None:
    """Whoever starts one says which, but for what hands them on."""
    root = Path(bot.__file__).parent
    calls = [
        (path.name, {k.arg for k in node.keywords})
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Supervision"
    ]
    assert len(calls) >= 4
    assert [name for name, given in calls if "limits" not in given] == []
