"""OpenVINO in little memory: the bytes of the export itself, for every family and row, made without its weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot import catalogue
from bot.building.release_at_hand import AtHand
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.source import read_header
from bot.toolchains import Toolchain
from bot.toolchains.enter import WholeSourceError
from bot.toolchains.install import ensure
from tests.worker import checkpoints
from tests.worker.limits import data_limit
from tests.worker.running import build, copy_of, prepare, rows, run_build, streaming, task_of
from tests.worker.stock import assert_as_stock, assert_same
from tests.worker.twins import assert_goes_stock, assert_twins, empty, families, killing, run_with

pytestmark = pytest.mark.toolchain

ROWS = rows("openvino")
INT4, CHANNELS, INT8, FP16, FP32 = (
    catalogue.all_variants()[f"openvino/{n}"] for n in ("int4", "int4-cw", "int8", "fp16", "fp32")
)
_ALWAYS = ("phi-3.5-mini",)  # two tables of rotations
COVERED = families(always=_ALWAYS, covered=lambda name: not name.endswith("moe"))


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("openvino", Silent())


def row(name: str, **options: str | float | bool) -> Variant:
    """A variant that the catalogue has no row of."""
    return Variant(
        name=f"openvino/{name}", precision="int4", bits_per_weight=4.5, summary="One of our own", options=options
    )


@pytest.mark.parametrize("family", COVERED)
def test_every_row_of_every_family_equals_the_exports_files(
    toolchain: Toolchain, drawn_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    assert_twins(toolchain, drawn_of(family), ROWS, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda source: checkpoints.in_shards(checkpoints.with_newer_keys(source)), id="shards and newer keys"
        ),
        pytest.param(  # the config says bfloat16, and so they are loaded
            lambda source: checkpoints.in_types(source, lambda _: "F16"), id="half", marks=pytest.mark.sweep
        ),
        pytest.param(
            lambda source: checkpoints.in_types(source, lambda name: "F32" if "norm" in name else "BF16"),
            id="mixed types",
            marks=pytest.mark.sweep,
        ),
    ],
)
def test_checkpoints_in_other_forms_equal_the_exports_files(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, change: Callable[[Path], Path]
) -> None:
    assert_twins(toolchain, change(copy_of(drawn, tmp_path / "source")), [INT4, FP16], tmp_path)


@pytest.mark.sweep
def test_other_ratios_groups_and_symmetries_equal_the_exports_files(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    variants = [
        row("symmetric", weight_format="int4", group_size=32, ratio=1.0, sym=True),
        row("int8-symmetric", weight_format="int8", sym=True),
    ]
    assert_twins(toolchain, drawn, variants, tmp_path)


@pytest.mark.parametrize(
    "variants", [[INT4, FP16], pytest.param([INT4, INT8, FP16, FP32], marks=pytest.mark.sweep)], ids=len
)
def test_a_source_that_streams_gives_the_same_and_comes_once_for_all_variants(
    toolchain: Toolchain, large: Path, tmp_path: Path, variants: list[Variant]
) -> None:
    """Its weights are too large to be there all the time, and nothing reads one that is not held."""
    log = tmp_path / "log"
    whole = build(toolchain, large, variants, tmp_path / "whole", log=log)
    streamed = prepare(tmp_path / "job", variants)
    task = replace(task_of(tmp_path / "source", variants, streamed, threads=2, stock=False), streamed=True)
    with streaming(large, tmp_path / "source") as stream:
        given = AtHand(folder=tmp_path / "source", stream=stream)
        given.run_worker(
            toolchain, "bot.formats.openvino.worker", "build", task, log=log, on_event=streamed.events.append
        )
        headers = [read_header(file) for file in large.glob("*.safetensors")]
        assert stream.fetched == sum(t.end - t.begin for header in headers for t in header.values())
    assert streamed.names == [v.name for v in variants]
    assert_same(streamed, whole)


def test_several_variants_take_a_fraction_of_the_memory_that_the_export_takes_for_one(
    toolchain: Toolchain, large: Path, tmp_path: Path
) -> None:
    variants = [INT4, INT8]
    with data_limit(850 << 20):
        lean = build(toolchain, large, variants, tmp_path / "lean", log=tmp_path / "log")
        short = build(toolchain, large, [INT8], tmp_path / "short", log=tmp_path / "log", stock=True)
    assert list(short.failures) == [INT8.name]
    assert_as_stock(lean, toolchain, large, variants, tmp_path / "stock")
    assert lean.names == [v.name for v in variants]
    assert all(e["peak_memory"] < 1.2e9 for e in lean.events if e["event"] == "built")


@pytest.mark.sweep
def test_every_row_of_a_real_width_equals_the_exports_files(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    for variant in ROWS:
        assert_twins(toolchain, large, [variant], tmp_path / variant.short_name)


@pytest.mark.parametrize(
    ("variant", "written"),
    [(INT4, 200), *(pytest.param(*p, marks=pytest.mark.sweep) for p in ((INT4, 0), (FP16, 200)))],
    ids=str,
)
def test_a_killed_build_goes_on_from_its_complete_parts(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, variant: Variant, written: int
) -> None:
    whole = build(toolchain, drawn, [variant], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [variant])
    killer = killing("formats.openvino.worker.writing", "_append", after=written)
    run_with(READY + killer, toolchain, drawn, [variant], killed, threads=1)
    empty(killed)
    run_build(toolchain, drawn, [variant], killed, log=tmp_path / "log")
    assert_same(killed, whole)
    first = next(e for e in killed.progress if e["what"].startswith("writing"))
    assert (first["done"] > 0) == (written > 0)


def test_a_killed_job_goes_on_with_each_of_its_files(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    """Also where a mark was due in one of them alone, so that it is further."""
    variants = [INT8, FP16]
    whole = build(toolchain, drawn, variants, tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", variants)
    one_marks = """
from bot.worker.growing import GrowingFile
mark = GrowingFile.mark
GrowingFile.mark = lambda file, *state, **now: "int8" in str(file._journal.part) and mark(file, *state, **now)
"""
    killer = killing("formats.openvino.worker.writing", "_append", after=200)
    assert run_with(READY + killer + one_marks, toolchain, drawn, variants, killed, threads=1).killed
    journals = sorted(p.parent.name for p in (tmp_path / "killed").rglob("*.journal"))
    assert journals == ["int8"]
    empty(killed)
    run_build(toolchain, drawn, variants, killed, log=tmp_path / "log")
    assert_same(killed, whole)
    first = next(e for e in killed.progress if e["what"] == "writing int8, fp16")
    assert 0 < first["done"] < first["total"]


def test_a_variant_that_it_does_not_know_goes_the_exports_own_way_and_the_others_do_not(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    """Whether that is known from its options, or only as its numbers are read."""
    unknown = row("nf4", weight_format="nf4", group_size=64, ratio=1.0)

    def change(weights: checkpoints.Weights) -> None:
        kind, shape, data = weights["model.layers.1.mlp.down_proj.weight"]
        weights["model.layers.1.mlp.down_proj.weight"] = (kind, shape, data[:-2] + b"\1\0")

    source = checkpoints.change_weights(copy_of(drawn, tmp_path / "source"), change)
    variants = [unknown, INT8, FP32]
    built = build(toolchain, source, variants, tmp_path / "job", log=tmp_path / "log")
    assert built.notes == [
        "Stock path: weights are compressed as nf4",
        "Stock path: model.layers.1.mlp.down_proj.weight has denormal numbers",
    ]
    assert built.names == [INT8.name, unknown.name, FP32.name]
    assert_as_stock(built, toolchain, source, variants, tmp_path / "stock")


def test_a_source_that_streams_is_fetched_whole_for_a_variant_that_it_does_not_know(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    unknown = row("nf4", weight_format="nf4", group_size=64, ratio=1.0)
    with pytest.raises(WholeSourceError, match="weights are compressed as nf4"):
        build(toolchain, drawn, [unknown, INT8], tmp_path / "job", log=tmp_path / "log", streamed=True)
    assert [list((tmp_path / "job" / v.short_name).iterdir()) for v in (unknown, INT8)] == [[], []]


@pytest.mark.parametrize(
    ("change", "variant", "reason"),
    [
        ("lean.PINNED['openvino'] = '1.0'", INT4, "openvino is 2026.4.1, and it was compared with 1.0"),
        pytest.param(
            "",
            row("nf4", weight_format="nf4", group_size=64, ratio=1.0),
            "weights are compressed as nf4",
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            "from bot.formats.openvino.worker import graph; graph.MODELS = ('phi',)",
            INT8,
            "a model of the type phi3 puts its weights together as it loads them",
            marks=pytest.mark.sweep,
        ),
    ],
    ids=["another version", "another kind of number", "another model"],
)
def test_an_unknown_model_goes_the_exports_own_way(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, change: str, variant: Variant, reason: str
) -> None:
    assert_goes_stock(READY + change, toolchain, drawn, variant, tmp_path, reason, threads=1)


@pytest.mark.parametrize(
    ("change", "variant"),
    [
        ("weight = planning._standins.at(next(iter(planning._standins.sizes))); weight[0]", INT4),
        ("weight = planning._standins.at(next(iter(planning._standins.sizes))); weight[0]; weight[-1]", FP32),
    ],
    ids=["16 bits", "32 bits"],
)
def test_an_export_that_looks_at_a_weight_is_found_out(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, change: str, variant: Variant
) -> None:
    built = prepare(tmp_path / "job", [variant])
    ran = run_with(READY + LOOKING.format(change=change), toolchain, drawn, [variant], built, threads=1)
    assert ran.notes == ["Stock path: the export looks at the weights"]
    assert ran.names == [variant.name]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        pytest.param(
            1, "model.layers.1.mlp.down_proj.weight has denormal numbers", id="denormal", marks=pytest.mark.sweep
        ),
        pytest.param(None, "has many numbers that are the same", id="the same"),
    ],
)
def test_numbers_that_openvino_would_change_in_32_bits_go_the_exports_own_way(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, number: int | None, reason: str
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"

    def change(weights: checkpoints.Weights) -> None:
        kind, shape, data = weights[name]
        changed = data[:-2] + number.to_bytes(2, "little") if number else data[:2] * (len(data) // 2)
        weights[name] = (kind, shape, changed)

    source = checkpoints.change_weights(copy_of(drawn, tmp_path / "source"), change)
    built = build(toolchain, source, [FP32], tmp_path / "job", log=tmp_path / "log")
    (note,) = built.notes
    assert note.endswith(reason)
    assert_as_stock(built, toolchain, source, [FP32], tmp_path / "stock")


@pytest.mark.parametrize("variants", [[INT4, FP16], pytest.param([INT8], marks=pytest.mark.sweep)], ids=len)
def test_equal_weights_are_written_once(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, variants: list[Variant]
) -> None:
    """As OpenVINO does, for those that are equal throughout and not for those that only begin alike."""
    names = [f"model.layers.{n}.mlp.down_proj.weight" for n in range(3)]

    def change(weights: checkpoints.Weights) -> None:
        kind, shape, data = weights[names[0]]
        weights[names[1]] = (kind, shape, data)
        weights[names[2]] = (kind, shape, data[:-2] + b"\x80\x3f")

    source = checkpoints.change_weights(copy_of(drawn, tmp_path / "source"), change)
    assert_twins(toolchain, source, variants, tmp_path)


# As the worker's own modules do before they import the toolchain.
READY = """
from bot.formats.openvino.worker import lean, runtime
runtime.send_nothing()
from bot.worker.checkpoint import forbid_remote_code
forbid_remote_code()
"""
LOOKING = """
from bot.formats.openvino.worker import graph
save = graph.StandInExport._saved
def looked(planning, *args):
    {change}
    return save(planning, *args)
graph.StandInExport._saved = looked
"""
