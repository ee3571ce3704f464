"""In which order the jobs of a release are proven."""

from dataclasses import replace

from bot.plans import Job, Placement
from bot.steps.place import BYTES_A_SECOND
from bot.steps.prove import in_order
from tests.steps.jobs import job, release


def taking(name: str, proving: float, uploading: float) -> Job:
    """A job that takes so many seconds, and whose files take so many to upload."""
    made = job(release(1_000_000), name)
    return replace(
        made,
        placement=Placement(runner="local", seconds=proving, cost=0),
        estimate=replace(made.estimate, output=round(uploading * BYTES_A_SECOND)),
    )


def test_what_uploads_longest_is_proven_first_where_proving_takes_longer() -> None:
    jobs = [taking("gguf/q8_0", 100, 40), taking("mlx/4bit", 100, 80), taking("onnx/cpu-int4", 100, 60)]
    assert [j.format for j in in_order(jobs)] == ["mlx", "onnx", "gguf"]


def test_what_is_soonest_proven_comes_first_where_uploading_takes_longer() -> None:
    jobs = [taking("gguf/q8_0", 30, 300), taking("mlx/4bit", 10, 100), taking("onnx/cpu-int4", 90, 40)]
    assert [j.format for j in in_order(jobs)] == ["mlx", "gguf", "onnx"]


def test_jobs_that_were_not_placed_keep_their_order() -> None:
    jobs = [job(release(1_000_000), name) for name in ("onnx/cpu-int4", "gguf/q8_0", "mlx/4bit")]
    assert [j.format for j in in_order([replace(j, estimate=jobs[0].estimate) for j in jobs])] == [
        "onnx",
        "gguf",
        "mlx",
    ]
