"""GGUF straight from the checkpoint: the bytes of llama.cpp's own tools, without the file in between."""

import json
import resource
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bot
from benchmarks.checkpoints import SHAPES, make
from bot import catalogue
from bot.errors import BuildError
from bot.families import FAMILIES
from bot.progress import Silent
from bot.records import Json, Variant
from bot.tasks import BuildTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure
from tests.workers.checkpoints import Weights, change_weights, in_shards, in_types, with_newer_keys
from tests.workers.running import Built, build, copy_of, prepare, rows, run_build

pytestmark = pytest.mark.toolchain

ROWS = rows("gguf")
Q2_K, Q4_K_S, Q4_K_M, Q8_0, F16, BF16, F32 = (
    catalogue.all_variants()[f"gguf/{n}"] for n in ("q2_k", "q4_k_s", "q4_k_m", "q8_0", "f16", "bf16", "f32")
)
_ALWAYS = ("phi-2", "phi-3.5-moe")  # the other architectures; the sample is of Phi-3's
FAMILY_NAMES = [
    pytest.param(name, marks=[] if name in _ALWAYS else pytest.mark.sweep)
    for name, family in FAMILIES.items()
    if not family.needs_code
]


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def large(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer of Phi-3.5-mini at its true size: 310 million weights, all zero."""
    folder = tmp_path_factory.mktemp("large") / "source"
    return make(SHAPES["phi-3.5-mini"], sample, folder, layers=1, sparse=True)


def test_every_row_is_what_llama_cpps_tools_write(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    assert_twins(toolchain, sample, ROWS, tmp_path)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_is_what_llama_cpps_tools_write(
    toolchain: Toolchain, sample_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    assert_twins(toolchain, sample_of(family), [Q2_K, Q4_K_M, Q8_0, F16, BF16, F32], tmp_path)


@pytest.mark.parametrize(
    "kind_of",
    [lambda _: "F16", lambda _: "F32", lambda name: "BF16" if "layers.1." in name else "F16"],
    ids=["F16", "F32", "mixed"],
)
def test_weights_of_every_type_are_what_llama_cpps_tools_write(
    toolchain: Toolchain, sample: Path, tmp_path: Path, kind_of: Callable[[str], str]
) -> None:
    source = in_types(copy_of(sample, tmp_path / "source"), kind_of)
    assert_twins(toolchain, source, [Q4_K_M, Q8_0, F16, BF16, F32], tmp_path)


def test_shards_and_newer_keys_are_what_llama_cpps_tools_write(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    source = in_shards(with_newer_keys(copy_of(sample, tmp_path / "source")))
    assert_twins(toolchain, source, [Q4_K_M, Q8_0, BF16], tmp_path)


def test_weights_of_a_real_size_stream_through(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    variants = [Q8_0, F16]
    whole = build(toolchain, large, variants, tmp_path / "whole", log=tmp_path / "log")
    streamed = build(toolchain, large, variants, tmp_path / "job", log=tmp_path / "log", streamed=True)
    assert_same(streamed, whole, variants)


def test_it_takes_a_fraction_of_the_memory_that_llama_cpps_tools_take(
    toolchain: Toolchain, large: Path, tmp_path: Path
) -> None:
    with data_limit(600 << 20):
        built = build(toolchain, large, [Q8_0], tmp_path / "job", log=tmp_path / "log")
        with pytest.raises(BuildError, match="allocate"):
            build(toolchain, large, [Q8_0], tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert sum(map(len, built.files(Q8_0.name).values())) > 300e6
    (said,) = (e for e in built.events if e["event"] == "built")
    assert said["peak_memory"] < 400 << 20


def test_no_converted_file_is_written(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    """The peak of what the scratch folder takes, seen from inside at every step of the pass."""
    seen = """
import os
from pathlib import Path
from bot.workers.gguf import layout
task = Path(sys.argv[2]).parent
quantize = layout.quantize
def looking(*args, **kwargs):
    found = quantize(*args, **kwargs)
    print(sum(f.stat().st_blocks * 512 for f in task.rglob("*.skeleton")), file=sys.stderr)
    return found
layout.quantize = looking
"""
    built = prepare(tmp_path / "job", [Q8_0])
    done = run_changed(seen, toolchain, large, [Q8_0], built)
    (taken,) = (int(line) for line in done.stderr.splitlines() if line.isdigit())
    assert 0 < taken < 4 << 20


@pytest.mark.parametrize("writes", [10, *(pytest.param(n, marks=pytest.mark.sweep) for n in (0, 57))])
def test_a_killed_build_goes_on_from_what_was_whole(
    toolchain: Toolchain, sample: Path, tmp_path: Path, writes: int
) -> None:
    variants = [Q4_K_M, F16]
    whole = build(toolchain, sample, variants, tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", variants)
    done = run_changed(KILLED_AFTER.format(writes=writes), toolchain, sample, variants, killed)
    assert done.returncode == -9
    assert all(killed.files(v.name) == {} for v in variants)

    run_build(toolchain, sample, variants, killed, log=tmp_path / "log")
    assert_same(killed, whole, variants)
    first = next(e for e in killed.events if e["event"] == "progress" and e["what"].startswith("writing"))
    assert (first["done"] > first["total"] / 3) == (writes >= 40)


def test_variants_of_which_one_is_further_along_go_on_together(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    variants = [Q4_K_M, F16]
    whole = build(toolchain, sample, variants, tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", variants)
    run_changed(KILLED_AFTER.format(writes=20), toolchain, sample, [F16], killed)
    run_build(toolchain, sample, variants, killed, log=tmp_path / "log")
    assert_same(killed, whole, variants)


def test_what_was_begun_for_other_weights_of_the_same_name_is_thrown_away(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    """A folder stands for one build key; but a file of another layout is seen to be another."""
    whole = build(toolchain, sample, [F16], tmp_path / "whole", model="Another", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [F16])
    run_changed(KILLED_AFTER.format(writes=20), toolchain, sample, [F16], killed)
    partial = tmp_path / "killed" / "partial" / "f16"
    for file in partial.iterdir():
        file.rename(partial / file.name.replace("Phi-sample", "Another"))
    run_build(toolchain, sample, [F16], killed, model="Another", log=tmp_path / "log")
    assert_same(killed, whole, [F16])


@pytest.mark.parametrize("bits", [0xFF80, 0x7F81], ids=["infinity", "signaling nan"])
def test_what_is_no_number_is_refused_where_the_quantizer_refuses_it(
    toolchain: Toolchain, sample: Path, tmp_path: Path, bits: int
) -> None:
    def change(weights: Weights) -> None:
        kind, shape, data = weights["model.layers.2.mlp.down_proj.weight"]
        weights["model.layers.2.mlp.down_proj.weight"] = kind, shape, data[:500] + struct.pack("<H", bits) + data[502:]

    source = change_weights(copy_of(sample, tmp_path / "source"), change)
    variants = [Q4_K_M, Q8_0, F16, BF16, F32]
    fast = build(toolchain, source, variants, tmp_path / "fast", log=tmp_path / "log")
    stock = build(toolchain, source, variants, tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert fast.failures == stock.failures
    assert fast.failures == dict.fromkeys((Q4_K_M.name, Q8_0.name), "tensor 'blk.2.ffn_down.weight' has invalid data")
    assert_same(fast, stock, variants)
    assert not [p.name for p in (tmp_path / "fast" / "partial").rglob("*") if p.suffix in (".part", ".journal")]


def test_types_that_need_an_importance_matrix_are_refused_as_the_quantizer_refuses_them(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    variants = [*map(variant_of, ("IQ1_S", "IQ2_XXS", "Q2_K_S")), Q8_0]
    fast = build(toolchain, sample, variants, tmp_path / "fast", log=tmp_path / "log")
    stock = build(toolchain, sample, variants, tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert fast.failures == stock.failures
    assert fast.failures == dict.fromkeys([v.name for v in variants[:-1]], "this quantization requires an imatrix!")
    assert_same(fast, stock, variants)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            "del entries['blk.1.ffn_up.weight']",
            "Missing importance matrix for tensor blk.1.ffn_up.weight in a very low-bit quantization",
        ),
        (
            "entries['blk.1.ffn_up.weight'] = entries['blk.1.ffn_up.weight'][1:].copy()",
            "imatrix size 255 is different from tensor size 256 for blk.1.ffn_up.weight",
        ),
        ("entries['blk.1.ffn_up.weight'][3] = np.nan", "imatrix contains non-finite value nan"),
    ],
    ids=["missing", "other size", "no number"],
)
def test_a_matrix_that_does_not_fit_is_refused_as_the_quantizer_refuses_it(
    toolchain: Toolchain, sample: Path, tmp_path: Path, damage: str, reason: str
) -> None:
    variants = [variant_of("IQ2_XS", imatrix=True), Q8_0]
    fast, stock = prepare(tmp_path / "fast", variants), prepare(tmp_path / "stock", variants)
    for built, is_stock in ((fast, False), (stock, True)):
        done = run_changed(MATRIX.format(damage=damage), toolchain, sample, variants, built, stock=is_stock)
        (failed,) = (e for e in events_of(done) if e["event"] == "failed")
        assert (failed["variant"], failed["message"]) == (variants[0].name, reason)
    assert_same(fast, stock, variants)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "from bot.workers.gguf import direct; direct.PINNED['llama-cpp-python'] = '0.1'",
            "llama-cpp-python is 0.3.36, and it was compared with 0.1",
        ),
        (
            "import re; from bot.workers.gguf import layout; layout._TENSOR = re.compile('another log')",
            "a dry run of llama.cpp's quantizer does not name each tensor once",
        ),
        (
            "import re; from bot.workers.gguf import layout; layout._TOTAL = re.compile('([0-9.]+) MiB')",
            "a dry run of llama.cpp's quantizer comes to another size",
        ),
    ],
    ids=["another version", "another log", "another size"],
)
def test_what_it_does_not_know_goes_the_stock_way(
    toolchain: Toolchain, sample: Path, tmp_path: Path, change: str, reason: str
) -> None:
    stock = build(toolchain, sample, [Q8_0], tmp_path / "stock", log=tmp_path / "log", stock=True)
    built = prepare(tmp_path / "job", [Q8_0])
    events = events_of(run_changed(change, toolchain, sample, [Q8_0], built))
    assert [e["message"] for e in events if e["event"] == "note"] == [f"Stock path: {reason}"]
    assert [e["variant"] for e in events if e["event"] == "built"] == [Q8_0.name]
    assert_same(built, stock, [Q8_0])


def test_tensors_that_are_no_floats_go_the_stock_way(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    def change(weights: Weights) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("I64", [1], bytes(8))

    source = change_weights(copy_of(sample, tmp_path / "source"), change)
    built = build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")
    (note,) = (e["message"] for e in built.events if e["event"] == "note")
    assert note.startswith("Stock path: model.safetensors: model.layers.0.self_attn.rotary_emb.inv_freq is stored as")
    assert built.names == [Q8_0.name]


KILLED_AFTER = """
import os
from bot.workers import placed
placed._MARK_BYTES = 0  # so that each tensor is worth a mark
write, left = placed.Placed.write, [{writes}]
def writing(*args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return write(*args)
placed.Placed.write = writing
"""
MATRIX = """
import numpy as np
from bot.workers.gguf import importance
from bot.workers.gguf.imatrix import Matrix
widths = dict(attn_qkv=256, attn_output=256, ffn_up=256, ffn_down=512)
names = [(f"blk.{{i}}.{{part}}.weight", width) for i in range(4) for part, width in widths.items()]
entries = {{name: np.linspace(0.1, 2, width, dtype=np.float32) for name, width in names}}
{damage}
importance.read = lambda _: Matrix(file="imatrix.gguf", dataset="a text", chunks=3, entries=entries)
"""
_WORKER = """
import os, sys
del os.environ["PHI_BOT_HOLDS_STDIN"]  # it is ours
sys.path.insert(0, sys.argv.pop(1))
exec(sys.argv.pop(1))
from bot.workers.gguf.build import build
from bot.workers.harness import main
main({"build": build})
"""


def run_changed(
    change: str, toolchain: Toolchain, source: Path, variants: list[Variant], built: Built, *, stock: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a worker in which some code was run first, as ``run_build`` runs others."""
    folder = next(iter(built.folders.values())).parent
    targets = tuple(
        Target(variant=v, out=str(built.folders[v.name]), partial=str(folder / "partial" / v.short_name))
        for v in variants
    )
    task = BuildTask(
        source=str(source),
        model_name="Phi-sample",
        targets=targets,
        scratch=str(folder / "scratch"),
        threads=2,
        stock=stock,
        importance="imatrix.gguf" if any(v.options.get("imatrix") for v in variants) else "",
    )
    (folder / "task.json").write_text(json.dumps(task.to_json()))
    root = Path(bot.__file__).parent.parent
    done = subprocess.run(
        [toolchain.python, "-I", "-c", _WORKER, root, change, "build", folder / "task.json"],
        capture_output=True,
        text=True,
        env=child_environment(str(folder)),
    )
    assert done.returncode in (0, -9), done.stderr
    return done


def events_of(done: subprocess.CompletedProcess[str]) -> list[Json]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def data_limit(size: int) -> Iterator[None]:
    """Let the processes that the block starts have so much memory of their own at most, in bytes."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def variant_of(kind: str, **options: Json) -> Variant:
    options["ftype"] = kind
    return Variant(name=f"gguf/{kind.lower()}", precision="int2", bits_per_weight=2, summary="No row", options=options)


def assert_twins(toolchain: Toolchain, source: Path, variants: list[Variant], folder: Path) -> None:
    """The fast path was taken, and left the bytes of the stock one."""
    fast = build(toolchain, source, variants, folder / "fast", log=folder / "log")
    stock = build(toolchain, source, variants, folder / "stock", log=folder / "log", stock=True)
    assert not [e for e in fast.events if e["event"] == "note" and e["message"].startswith("Stock")]
    assert [e["message"] for e in stock.events if e["event"] == "note"] == ["Stock path: as asked for"]
    assert set(fast.names) == set(stock.names) == {v.name for v in variants}
    assert_same(fast, stock, variants)


def assert_same(found: Built, expected: Built, variants: list[Variant]) -> None:
    """The files of all variants are the same; a comparison of bytes would print them."""
    for variant in variants:
        one, other = found.files(variant.name), expected.files(variant.name)
        assert list(one) == list(other)
        assert [name for name in one if one[name] != other[name]] == []
