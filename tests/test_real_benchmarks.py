"""Builds of real sizes, measured: the checkpoints, what a run takes, and what is said of it, on small ones."""

import json
import os
import shutil
import signal
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.checkpoints import SHAPES, make, parameters
from benchmarks.limited import limited_memory
from benchmarks.real.__main__ import PAGE, RESULTS
from benchmarks.real.outputs import compared, digests
from benchmarks.real.results import Cell, Results, Way
from benchmarks.real.table import text
from benchmarks.real.watched import Taken, run
from benchmarks.real.ways import measure
from bot import catalogue, source
from tests.lives import lives
from tests.source import models

SMALL = replace(
    SHAPES["phi-3.5-mini"],
    hidden=64,
    layers=3,
    heads=4,
    key_value_heads=2,
    intermediate=96,
    vocabulary=500,
    config={"max_position_embeddings": 4096, "tie_word_embeddings": False},
)
TAKEN = Taken(
    code=0,
    seconds=10.0,
    cpu_seconds=15.0,
    resident=4 * 10**9,
    anonymous=3 * 10**9,
    disk=2 * 10**9,
    read=0,
    written=10**9,
    from_disk=0,
    to_disk=0,
)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """What a checkpoint has beside its weights."""
    return models.write(tmp_path / "sample", models.files(modeling_phi3__py=None))


@pytest.mark.parametrize(
    ("name", "count"), [("phi-3.5-mini", 3_821_079_552), ("phi-4-mini", 3_836_021_760), ("phi-4", 14_659_507_200)]
)
def test_shapes_have_as_many_parameters_as_the_published_models(name: str, count: int) -> None:
    assert parameters(SHAPES[name]) == count


def test_a_checkpoint_is_one_that_the_bot_takes(beside: Path, tmp_path: Path) -> None:
    folder = make(SMALL, beside, tmp_path / "made", layers=2, shard=70_000)
    source.check(folder)
    shards = sorted(p.name for p in folder.glob("*.safetensors"))
    assert len(shards) > 1
    tensors = {name: tensor for shard in shards for name, tensor in source.read_header(folder / shard).items()}
    assert sum(t.end - t.begin for t in tensors.values()) == 2 * parameters(SMALL, 2)
    assert tensors["model.layers.1.self_attn.qkv_proj.weight"].shape == (64 + 2 * 2 * 16, 64)
    assert max((folder / shard).stat().st_size for shard in shards) < 70_000 + 5_000


def test_the_same_seed_gives_the_same_weights_and_sparse_ones_take_no_room(beside: Path, tmp_path: Path) -> None:
    one, same, other = (
        make(SMALL, beside, tmp_path / name, seed=seed) / "model.safetensors"
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    sparse = make(replace(SMALL, vocabulary=50_000), beside, tmp_path / "sparse", sparse=True) / "model.safetensors"
    assert one.read_bytes() == same.read_bytes() != other.read_bytes()
    assert sparse.stat().st_size > 12 * 10**6
    assert sparse.stat().st_blocks * 512 < 10**5


@pytest.mark.process
def test_the_cost_of_a_command_includes_all_its_processes(tmp_path: Path) -> None:
    child = "import time; a = bytearray(b'x') * (100 << 20); time.sleep(1.5)"
    code = f"""
import os, subprocess, sys, time
began = time.process_time()
child = subprocess.Popen([sys.executable, "-c", {child!r}])
a = bytearray(b"x") * (200 << 20)
open("large", "wb").write(bytes(50 << 20))
child.wait()
os.remove("large")
while time.process_time() < began + 0.5:
    pass
"""
    (tmp_path / "here").mkdir()
    taken = run([sys.executable, "-c", code], folder=tmp_path / "here", log=tmp_path / "log", environment={})
    assert taken.code == 0
    assert 1 < taken.seconds < 30
    assert 0.5 < taken.cpu_seconds < 5
    assert 300 << 20 < taken.anonymous < 400 << 20
    assert taken.anonymous < taken.resident < 500 << 20
    assert 50 << 20 <= taken.disk < 60 << 20
    assert 50 << 20 <= taken.written < 60 << 20


@pytest.mark.process
def test_a_command_that_fails_says_its_code(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    assert run(command, folder=tmp_path / "here", log=tmp_path / "log", environment={}).code == 3


@pytest.mark.process
def test_a_command_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    code = "import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
    taken = run(
        [sys.executable, "-c", code], folder=tmp_path / "here", log=tmp_path / "log", environment={}, kill_after=2
    )
    assert taken.code == -signal.SIGKILL
    assert 2 < taken.seconds < 30
    child = int((tmp_path / "log").read_text())
    until = time.monotonic() + 10
    while lives(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not lives(child)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="groups of processes are root's")
def test_a_command_may_have_so_much_memory_and_its_group_goes_afterwards(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    code = "from bot.system.machine import memory; print(memory())"
    with limited_memory(300 << 20) as prefix:
        group = Path(prefix[-1]).parent
        taken = run(
            [*prefix, sys.executable, "-c", code],
            folder=tmp_path / "here",
            log=tmp_path / "log",
            environment={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": os.environ["PATH"]},
        )
    assert taken.code == 0
    assert int((tmp_path / "log").read_text()) == 300 << 20
    assert not group.exists()


def test_the_tensors_of_gguf_files_are_compared_apart_from_their_headers(tmp_path: Path) -> None:
    for name, title, tensor in (("one", "a", b"same"), ("other", "a longer title", b"same"), ("third", "a", b"else")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.gguf").write_bytes(_gguf(title, tensor))
    one, other, third = (digests(tmp_path / name) for name in ("one", "other", "third"))
    assert compared(one, other) == (True, ["model.gguf"])
    assert compared(one, third) == (False, ["model.gguf"])


def test_files_that_hold_weights_have_to_be_on_both_sides() -> None:
    ours = {"model.onnx": "a", "model.onnx.data": "b", "genai_config.json": "c"}
    assert compared(ours, ours) == (True, [])
    assert compared(ours, ours | {"genai_config.json": "d", "README.md": "e"}) == (True, ["genai_config.json"])
    assert compared({"model.onnx": "a"}, ours) == (False, [])
    assert compared({}, {}) == (False, [])


def test_a_row_that_did_not_fit_is_extrapolated_from_fewer_layers() -> None:
    half = replace(TAKEN, seconds=6.0, resident=3 * 10**9)
    cells = [_cell("raw", 4, half), _cell("raw", 8, TAKEN), _cell("raw", 32, None), _cell("phi-bot", 32, TAKEN)]
    page = text(Results(machine="two cores", taken="2026-01-01", commit="0" * 12, toolchains={}, cells=tuple(cells)))
    guessed = (
        "| `mlx/4bit` | ≈ by hand | 34.0 | 15.0 | 10.00 | 3.00 | 2.00 | 0.00 | 1.00 | not run: too little memory |"
    )
    assert guessed in page
    assert "| `mlx/4bit` | phi-bot | 10.0 (0.29) | 15.0 (1.00) | 4.00 (0.40) |" in page


def test_a_measurement_too_large_for_the_disk_is_not_begun(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(SMALL, beside, tmp_path / "made", layers=2)
    full = type(shutil.disk_usage(tmp_path))(1000, 1000, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    cell = measure("small", 2, [catalogue.all_variants()["mlx/4bit"]], "phi-bot", 0, model, tmp_path / "cell")
    assert cell.taken is None
    assert cell.why == "takes 0 GB of disk, of which 0 are free"


def test_the_page_is_of_the_results_beside_it() -> None:
    results = Results.from_json(json.loads(RESULTS.read_text(encoding="utf-8")))
    assert PAGE.read_text(encoding="utf-8") == text(results)


@pytest.mark.toolchain
@pytest.mark.parametrize(
    "name",
    [
        "mlx/4bit",
        "gguf/q8_0",
        pytest.param("onnx/cpu-int4", marks=pytest.mark.sweep),
        pytest.param("openvino/int4", marks=pytest.mark.sweep),
    ],
)
def test_phi_bot_makes_the_weights_that_the_tools_make_by_hand(name: str, sample: Path, tmp_path: Path) -> None:
    variants = [catalogue.all_variants()[name]]
    raw, ours = (measure("sample", 4, variants, w, 0, sample, tmp_path / w) for w in _WAYS)
    assert (raw.why, ours.why) == ("", "")
    same, others = compared(ours.files[name], raw.files[name])
    assert same
    assert set(others) <= _OWN
    assert raw.output > 10**6
    assert ours.taken is not None
    assert ours.taken.resident > 30 * 10**6
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


_WAYS: tuple[Way, Way] = ("raw", "phi-bot")
_OWN = {"model.gguf", "config.json", "generation_config.json", "genai_config.json", "tokenizer_config.json"}
_OWN |= {f"openvino_{name}" for name in ("config.json", "tokenizer.xml", "detokenizer.xml")}


def _cell(way: Way, layers: int, taken: Taken | None) -> Cell:
    files = {"mlx/4bit": {"model.safetensors": "a"}} if taken else {}
    return Cell(
        shape="phi",
        layers=layers,
        variants=("mlx/4bit",),
        way=way,
        round=0,
        taken=taken,
        output=0,
        files=files,
        load=0.0,
        why="" if taken else "too little memory",
    )


def _gguf(title: str, tensor: bytes) -> bytes:
    """A GGUF file of a name, a list of names, a number and one tensor."""

    def string(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 3)
    header += string("general.name") + struct.pack("<I", 8) + string(title)
    header += string("tokens") + struct.pack("<IIQ", 9, 8, 2) + string("one") + string(title)
    header += string("layers") + struct.pack("<II", 4, 2)
    header += string("weight") + struct.pack("<IQIQ", 1, 4, 24, 0)
    return header + bytes(-len(header) % 32) + tensor
