"""Which runner gets which job."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import catalogue, format_folders
from bot.config import Config
from bot.devices.here import missing_for
from bot.errors import NoRunnerError
from bot.machines.placing import demand, fits, place_jobs, placement
from bot.machines.runners import GB, Runner, built_in, chosen
from bot.records.failures import is_refusal
from bot.records.plans import Job, Plan
from tests.steps.jobs import job, release, runner, shape

MINI, TINY = 3_821_000_000, 30_000_000
STANDING = tuple(r for r in built_in() if r.standing)


def placed(
    jobs: Sequence[Job], runners: Sequence[Runner], parameters: int | None = None, config: Config | None = None
) -> Plan:
    todo = Plan(jobs=tuple(jobs), done=(), failures=())
    shapes = {j.release.content_digest: shape(parameters or j.release.parameters) for j in jobs}
    return place_jobs(todo, runners=runners, shapes=shapes, config=config or Config())


def where(found: Plan) -> dict[str, str]:
    return {v.variant.name: j.placement.runner for j in found.jobs for v in j.variants if j.placement is not None}


# ---- examples ------------------------------------------------------------------------------------------------


def test_a_free_runner_is_chosen_before_a_paid_one() -> None:
    found = placed([job(release(TINY), "gguf/q4_k_m")], STANDING)
    assert where(found) == {"gguf/q4_k_m": "github/ubuntu-24.04"}
    assert found.jobs[0].placement is not None
    assert found.jobs[0].placement.cost == 0


def test_macs_are_for_mlx_and_linux_where_there_is_none() -> None:
    mlx = job(release(TINY), "mlx/4bit")
    assert where(placed([mlx], STANDING)) == {"mlx/4bit": "github/macos-15"}
    without = chosen(STANDING, ["hf-jobs"])
    assert where(placed([mlx], without)) == {"mlx/4bit": "hf-jobs/cpu-basic"}


LONGROPE = {
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"type": "longrope", "long_factor": [1.0] * 48, "short_factor": [1.0] * 48},
    "num_attention_heads": 32,
}


def test_a_cache_for_the_longest_text_of_verifying_is_counted() -> None:
    """Phi-3.5-mini's: 7 GB hold the default set with it, each file by itself, and 5.5 only what computes in steps."""
    model = replace(release(MINI), config=release(MINI).config | LONGROPE)
    rows = ("gguf/q4_k_m", "gguf/q8_0", "onnx/cpu-int4", "openvino/int4", "mlx/4bit")

    def placed_with(memory: float) -> set[str]:
        small, large = runner("own/small", memory=memory), runner("own/large", memory=16, price=1)
        found = where(placed([job(model, name) for name in rows], [small, large]))
        return {name for name in rows if found[name] == "own/small"}

    assert placed_with(7) == set(rows)
    assert placed_with(5.5) == {"gguf/q4_k_m", "mlx/4bit"}


def test_openvino_goes_to_the_processors_that_it_was_proven_on() -> None:
    arm, x86 = runner("own/arm", architecture="arm64"), runner("own/x86", price=1)
    assert where(placed([job(release(TINY), "openvino/int4")], [arm, x86])) == {"openvino/int4": "own/x86"}


def test_more_memory_than_the_free_ones_have_is_paid_for() -> None:
    """Whoever runs a file holds all of it: here the whole model in float32."""
    found = placed([job(release(MINI), "onnx/cpu-fp32")], STANDING)
    assert found.jobs[0].estimate.memory > 15e9
    assert found.jobs[0].placement is not None
    assert found.jobs[0].placement.runner in ("hf-jobs/cpu-upgrade", "hf-jobs/cpu-xl")
    assert 0 < found.jobs[0].placement.cost < 1


@pytest.mark.skipif(missing_for("cuda") is None, reason="this machine has an NVIDIA GPU")
def test_variants_of_a_gpu_go_to_one_and_the_others_do_not(nothing_stands_in: None) -> None:
    both = job(release(TINY), "onnx/cpu-int4", "onnx/cuda-int4")
    found = placed([both], [*chosen(STANDING, ["hf-jobs"]), runner("local", memory=64)])
    assert where(found) == {"onnx/cpu-int4": "local", "onnx/cuda-int4": "hf-jobs/t4-small"}


def test_variants_that_a_processor_proves_go_where_the_others_go() -> None:
    both = job(release(TINY), "onnx/cpu-int4", "onnx/cuda-int4", "onnx/webgpu-int4")
    [found] = placed([both], [*chosen(STANDING, ["hf-jobs"]), runner("local", memory=64)]).jobs
    assert len(found.variants) == 3
    assert found.placement is not None
    assert found.placement.runner == "local"


def test_the_file_has_to_fit_into_the_memory_of_the_gpu(nothing_stands_in: None) -> None:
    flavors = [*chosen(STANDING, ["hf-jobs"])]
    found = placed([job(release(14_660_000_000), "onnx/cuda-fp16")], flavors)
    taken = {r.name: r for r in flavors}[where(found)["onnx/cuda-fp16"]]
    assert taken.accelerator_memory >= 40 * GB
    [failure] = placed(
        [job(release(MINI), "onnx/cuda-fp16")], [runner("own/small", memory=300, gpu=True, disk=5)]
    ).failures
    assert "an NVIDIA GPU of" in failure.message


def test_a_job_that_fits_nowhere_says_its_needs() -> None:
    found = placed([job(release(MINI), "onnx/cpu-fp32")], chosen(STANDING, ["github"]))
    assert found.jobs == ()
    [failure] = found.failures
    assert (failure.variant, failure.step, failure.exit_code) == ("onnx/cpu-fp32", "plan", NoRunnerError.exit_code)
    assert "needs Linux x86_64 or Linux arm64 or macOS arm64 or Windows x86_64 with" in failure.message
    assert "GB of memory and" in failure.message
    assert "the largest runner known, github/windows-2025, has 16.0 GB and 14.0 GB" in failure.message
    assert failure.hint.startswith("hf-jobs/cpu-")


def test_for_browsers_no_runner_will_do(nothing_stands_in: None) -> None:
    [failure] = placed([job(release(TINY), "onnx/webgpu-int4")], STANDING).failures
    assert "a runtime for webgpu, which no runner has" in failure.message
    assert is_refusal(failure)


def test_without_a_machine_of_its_kind_a_variant_is_refused_as_on_the_machine_at_hand(nothing_stands_in: None) -> None:
    [failure] = placed([job(release(TINY), "onnx/dml-int4")], chosen(STANDING, ["hf-jobs"])).failures
    assert "needs Windows x86_64 with" in failure.message
    assert "none of the runners is such a machine" in failure.message
    assert "github/windows-2025 would do" in failure.hint
    assert is_refusal(failure)


def test_variants_that_do_not_fit_on_a_disk_together_are_built_one_by_one() -> None:
    many = job(release(MINI), "gguf/q4_k_m", "gguf/q5_k_m", "gguf/q6_k", "gguf/q8_0")
    one = max(demand(job(release(MINI), v.variant.name)).disk for v in many.variants)
    found = placed([many], [runner("own/small", disk=one / GB + 0.1, memory=64)])
    assert [len(j.variants) for j in found.jobs] == [1, 1, 1, 1]
    assert found.failures == ()
    assert len(placed([many], [runner("own/large", disk=100, memory=64)]).jobs) == 1


def roomy_and_narrow(wanted: Job, price: float = 0.0) -> tuple[Runner, Runner]:
    """A runner with room for the source, which costs so much, and one without."""
    kept, streamed = demand(wanted).disk, demand(replace(wanted, source="streamed")).disk
    assert streamed < kept - 25 * GB
    roomy = runner("own/roomy", disk=kept / GB + 1, memory=64, price=price)
    return roomy, runner("own/narrow", disk=streamed / GB + 1, memory=64)


def test_a_source_is_kept_where_there_is_room_and_streams_where_there_is_not() -> None:
    wanted = job(release(14_660_000_000), "gguf/q4_k_m")
    roomy, narrow = roomy_and_narrow(wanted)
    [kept], [streamed] = placed([wanted], [roomy]).jobs, placed([wanted], [narrow]).jobs
    assert (kept.source, streamed.source) == ("kept", "streamed")
    assert demand(streamed).moved > 2 * demand(kept).moved  # it comes again for the reference and for verifying


def test_streaming_at_no_cost_is_taken_before_a_disk_that_costs() -> None:
    wanted = job(release(14_660_000_000), "gguf/q4_k_m")
    [found] = placed([wanted], roomy_and_narrow(wanted, price=1)).jobs
    assert (found.placement.runner if found.placement else "", found.source) == ("own/narrow", "streamed")


def test_nothing_streams_where_files_have_no_holes_nor_from_a_folder() -> None:
    narrow = runner("own/mac", disk=20, memory=64, system="macos", architecture="arm64")
    assert placed([job(release(14_660_000_000), "gguf/q4_k_m")], [narrow]).jobs == ()
    local = replace(release(14_660_000_000), folder="/models/phi", commit=None)
    assert placed([job(local, "gguf/q4_k_m")], [runner("own/narrow", disk=20, memory=64)]).jobs == ()


def test_a_job_on_the_machine_at_hand_costs_nothing_and_moves_nothing() -> None:
    wanted = demand(job(release(TINY), "gguf/q4_k_m"))
    here, there = runner("local", memory=64), runner("own/x", memory=64)
    assert placement(wanted, here).seconds < placement(wanted, there).seconds


def test_headers_tell_more_than_sizes() -> None:
    """What is planned by the sizes of files alone is estimated anew."""
    tiny = job(release(TINY), "gguf/q4_k_m")
    guessed, known = placed([tiny], STANDING), placed([tiny], STANDING, parameters=10 * TINY)
    assert known.jobs[0].estimate.output > 5 * guessed.jobs[0].estimate.output


# ---- whatever there is to do -------------------------------------------------------------------------------------

NAMES = [v for v in catalogue.all_variants() if v != "onnx/webgpu-int4"]
some_of_a_format = st.one_of(
    *(
        st.lists(
            st.sampled_from([v for v in catalogue.all_variants() if v.startswith(f"{f}/")]),
            min_size=1,
            max_size=4,
            unique=True,
        )
        for f in format_folders.names()
    )
)
parameters = st.sampled_from([TINY, 500_000_000, MINI, 14_660_000_000])


@st.composite
def any_job(draw: st.DrawFn) -> Job:
    picked = draw(some_of_a_format)
    which = draw(st.sampled_from(["A", "B", "C"]))
    count = draw(parameters)
    return job(release(count, name=f"Phi-{which}-{count}"), *picked)


@st.composite
def any_runner(draw: st.DrawFn) -> Runner:
    system, architecture = draw(
        st.sampled_from([("linux", "x86_64"), ("linux", "arm64"), ("macos", "arm64"), ("windows", "x86_64")])
    )
    return runner(
        f"own/{draw(st.integers(0, 10**6))}",
        system=system,
        architecture=architecture,
        cores=draw(st.integers(1, 64)),
        memory=draw(st.floats(1, 300)),
        disk=draw(st.floats(5, 300)),
        gpu=draw(st.booleans()),
        price=draw(st.sampled_from([0.0, 0.01, 0.5, 3.0])),
    )


any_jobs = st.lists(any_job(), max_size=5)
any_runners = st.lists(any_runner(), max_size=6, unique_by=lambda r: r.name)


@given(any_jobs, any_runners)
def test_no_variant_is_lost_and_none_is_built_twice(jobs: list[Job], runners: list[Runner]) -> None:
    found = placed(jobs, runners)
    before = sorted((j.release.label, v.variant.name) for j in jobs for v in j.variants)
    after = [(j.release.label, v.variant.name) for j in found.jobs for v in j.variants]
    assert sorted([*after, *((f.release, f.variant) for f in found.failures)]) == before


@given(any_jobs, any_runners)
def test_every_job_is_on_the_cheapest_runner_that_fits_it(jobs: list[Job], runners: list[Runner]) -> None:
    by_name = {r.name: r for r in runners}
    found = placed(jobs, runners)
    for one in found.jobs:
        assert one.placement is not None
        wanted = demand(one)
        assert fits(wanted, by_name[one.placement.runner])
        able = [r for r in runners if fits(wanted, r) and (one.source == "kept" or r.system == "linux")]
        assert one.placement.cost == min(placement(wanted, r).cost for r in able)


@given(any_jobs, any_runners)
def test_a_job_that_is_placed_nowhere_fits_nowhere(jobs: list[Job], runners: list[Runner]) -> None:
    refused = {(f.release, f.variant) for f in placed(jobs, runners).failures}
    for one in jobs:
        for v in one.variants:
            if (one.release.label, v.variant.name) in refused:
                alone = job(one.release, v.variant.name)
                assert not any(fits(demand(alone), r) for r in runners)


@given(any_jobs, any_runners, st.randoms(use_true_random=False))
def test_the_order_of_jobs_and_runners_decides_nothing(jobs: list[Job], runners: list[Runner], rng: object) -> None:
    others, machines = list(jobs), list(runners)
    rng.shuffle(others)  # type: ignore[attr-defined]
    rng.shuffle(machines)  # type: ignore[attr-defined]

    def as_a_set(found: Plan) -> list[str]:
        return sorted(str(j.to_json()) for j in (*found.jobs, *found.failures))

    assert as_a_set(placed(jobs, runners)) == as_a_set(placed(others, machines))
