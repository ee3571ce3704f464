"""In which order the jobs of a release are proven, and which failure ends them all."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bot import catalogue
from bot.config import Config
from bot.config.places import PublishTable
from bot.context import Context
from bot.errors import BuildError, DamagedWeightsError, FormatRefusedError, NotFiniteError, SourceError
from bot.hub import client
from bot.machines.placing import BYTES_A_SECOND
from bot.progress import Silent
from bot.proving import build_job
from bot.proving.job_disk import in_turns, streaming
from bot.proving.prove import in_order, prove_all
from bot.records.plans import Job, Placement
from bot.steps.plan import plan_releases
from bot.steps.watch import Reader
from bot.toolchains import Toolchain, enter
from bot.workspace import Workspace
from tests.page_reader import ROOT
from tests.source import models
from tests.steps.jobs import job, release

# In place of each toolchain's worker: one that ends as it is told, through the real harness.
WORKER = """
import sys
sys.path.insert(0, {root!r})
module = sys.argv[1]
sys.argv = sys.argv[1:]
from bot.worker.harness import *

def build(task, report):
    if "gguf" in module:
        {end}
    raise ValueError("it was tried")

main({{"build": build}})
"""


def jobs_of(
    names: list[str], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[tuple[Job, ...], Context]:
    """Jobs for variants of a model, in toolchains of which llama.cpp's ends so, and what they are built with."""
    launcher = tmp_path / "launch.py"
    launcher.write_text(WORKER.format(root=str(ROOT), end=end))
    monkeypatch.setattr(enter, "LAUNCHER", launcher)
    monkeypatch.setattr(
        build_job,
        "ensure",
        lambda name, _: Toolchain(name=name, python=Path(sys.executable), lock_digest="0" * 64, versions={}),
    )
    context = Context(
        config=Config(),
        workspace=Workspace(root=tmp_path / "work"),
        hub=client.connect("http://127.0.0.1:9", None),  # nothing of this asks a Hub
        display=Silent(),
    )
    model = models.write(tmp_path / "model", models.files())
    todo = plan_releases([Reader(hub=context.hub).named(str(model))], catalogue.select(names))
    return todo.jobs, context


@pytest.mark.process
@pytest.mark.parametrize(
    ("end", "error", "others"),
    [
        ("raise NotTaken('no such tokenizer')", FormatRefusedError, BuildError),
        ("raise KeyError('lm_head')", BuildError, BuildError),
        ("os._exit(3)", BuildError, BuildError),
        ("raise SourceProblem('model.safetensors is cut')", DamagedWeightsError, DamagedWeightsError),
        ("raise NotFinite('w holds NaN')", NotFiniteError, NotFiniteError),
    ],
)
def test_only_an_error_that_every_format_would_meet_ends_a_release(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
    error: type[BuildError],
    others: type[BuildError],
) -> None:
    todo, context = jobs_of(["gguf/q8_0", "openvino/fp16", "mlx/8bit"], end, tmp_path, monkeypatch)
    assert [j.format for j in todo] == ["gguf", "openvino", "mlx"]

    failures = {f.variant: f for f in prove_all(todo, context).failures}

    codes = {name: f.exit_code for name, f in failures.items()}
    assert codes == {
        "gguf/q8_0": error.exit_code,
        "openvino/fp16": others.exit_code,
        "mlx/8bit": others.exit_code,
    }
    tried = ["it was tried" in failures[name].message for name in ("openvino/fp16", "mlx/8bit")]
    assert tried == [others is BuildError] * 2


@pytest.mark.process
def test_weights_that_are_not_finite_are_reported_where_a_matrix_is_measured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix is measured on a file that cannot be made; the other format goes on, to its own end."""
    end = (
        "[report.failed(Variant.from_json(t['variant']), 'x has invalid data', kind='not finite')"
        " for t in task['targets']]; return"
    )
    todo, context = jobs_of(["gguf/iq4_xs", "gguf/q5_k_m", "mlx/8bit"], end, tmp_path, monkeypatch)
    failures = {f.variant: f for f in prove_all(todo, context).failures}
    assert {name: f.exit_code for name, f in failures.items()} == {
        "gguf/iq4_xs": NotFiniteError.exit_code,
        "gguf/q5_k_m": NotFiniteError.exit_code,
        "mlx/8bit": BuildError.exit_code,
    }
    assert failures["gguf/iq4_xs"].message == "gguf/q8_0: x has invalid data"
    assert failures["gguf/iq4_xs"].hint.startswith("Save the model again from a checkpoint without such numbers. ")


@pytest.mark.process
def test_a_model_that_is_at_fault_is_not_tried_in_a_later_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may hold the files of a release only one after the other."""
    end = "raise SourceProblem('model.safetensors is cut')"
    todo, context = jobs_of(["gguf/q8_0", "mlx/8bit"], end, tmp_path, monkeypatch)
    faults: dict[str, SourceError] = {}
    codes = {
        f.variant: f.exit_code for turn in todo for f in prove_all([turn], context, lambda _: None, faults).failures
    }
    assert codes == dict.fromkeys(["gguf/q8_0", "mlx/8bit"], DamagedWeightsError.exit_code)
    assert [*faults] == [todo[0].release.label]


def taking(name: str, proving: float, uploading: float) -> Job:
    """A job that takes so many seconds, and whose files take so many to upload."""
    made = job(release(1_000_000), name)
    return replace(
        made,
        placement=Placement(runner="local", seconds=proving, cost=0),
        estimate=replace(made.estimate, output=round(uploading * BYTES_A_SECOND)),
    )


def test_the_longest_upload_is_proven_first_where_proving_takes_longer() -> None:
    jobs = [taking("gguf/q8_0", 100, 40), taking("mlx/4bit", 100, 80), taking("onnx/cpu-int4", 100, 60)]
    assert [j.format for j in in_order(jobs)] == ["mlx", "onnx", "gguf"]


def test_the_quickest_proof_comes_first_where_uploading_takes_longer() -> None:
    jobs = [taking("gguf/q8_0", 30, 300), taking("mlx/4bit", 10, 100), taking("onnx/cpu-int4", 90, 40)]
    assert [j.format for j in in_order(jobs)] == ["mlx", "gguf", "onnx"]


def test_jobs_that_were_not_placed_keep_their_order() -> None:
    jobs = [job(release(1_000_000), name) for name in ("onnx/cpu-int4", "gguf/q8_0", "mlx/4bit")]
    assert [j.format for j in in_order([replace(j, estimate=jobs[0].estimate) for j in jobs])] == [
        "onnx",
        "gguf",
        "mlx",
    ]


# ---- on a small disk -----------------------------------------------------------------------------------------------

MINI = release(3_821_000_000)
DEFAULT_SET = [
    job(MINI, "gguf/q4_k_m", "gguf/q8_0"),
    job(MINI, "onnx/cpu-int4"),
    job(MINI, "openvino/int4"),
    job(MINI, "mlx/4bit"),
]


@pytest.mark.parametrize(
    ("free", "namespace", "turns"),
    [
        (60e9, "me", ["gguf onnx openvino mlx"]),
        (14e9, "me", ["gguf onnx openvino", "mlx"]),
        (8e9, "me", ["gguf", "onnx openvino", "mlx"]),
        (1e9, "me", ["gguf", "onnx", "openvino", "mlx"]),  # none of which fits: building each says so
        (14e9, None, ["gguf onnx openvino mlx"]),  # nothing is published, so nothing can be removed
    ],
    ids=lambda value: str(value) if not isinstance(value, list) else "",
)
def test_what_the_disk_does_not_hold_together_is_made_and_published_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, namespace: str | None, turns: list[str]
) -> None:
    """Beside the files there are at most 1.75 GB of the source, which streams."""
    monkeypatch.setattr(Workspace, "free", lambda _: int(free))
    nobody = client.connect("http://127.0.0.1:9", None)
    workspace = Workspace(root=tmp_path / "work")
    config = Config(publish=PublishTable(namespace=namespace))
    context = Context(config=config, workspace=workspace, hub=nobody, display=Silent())
    assert [" ".join(j.format for j in turn) for turn in in_turns(DEFAULT_SET, context)] == turns


def test_a_source_that_an_earlier_turn_fetched_takes_its_room_in_the_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "free", lambda _: 8_000_000_000)
    workspace = Workspace(root=tmp_path / "work")
    nobody = client.connect("http://127.0.0.1:9", None)
    config = Config(publish=PublishTable(namespace="me"))
    context = Context(config=config, workspace=workspace, hub=nobody, display=Silent())
    turns = in_turns(DEFAULT_SET, context)
    found = [next(turns)]
    workspace.staged(MINI).mkdir(parents=True)
    found += turns
    assert [" ".join(j.format for j in turn) for turn in found] == ["gguf", "onnx openvino", "mlx"]


@pytest.mark.parametrize(("free", "source"), [(60e9, "kept"), (16e9, "streamed")])
def test_a_source_streams_where_the_files_of_a_turn_leave_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, source: str
) -> None:
    """Beside the files of each format alone it had room: the first would fetch it, and the last would find no room."""
    monkeypatch.setattr(Workspace, "free", lambda _: int(free))
    workspace = Workspace(root=tmp_path / "work")
    nobody = client.connect("http://127.0.0.1:9", None)
    config = Config(publish=PublishTable(namespace="me"))
    context = Context(config=config, workspace=workspace, hub=nobody, display=Silent())
    assert streaming(DEFAULT_SET, context) == []
    (turn,) = in_turns(DEFAULT_SET, context)
    assert {job.source for job in turn} == {source}
    assert streaming(turn, context) == ([*turn] if source == "streamed" else [])
