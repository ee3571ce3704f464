"""The matrix of a GitHub workflow."""

import json
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bot.config import Config
from bot.machines.github_matrix import MOST, matrix
from bot.machines.placing import demand, place_jobs
from bot.machines.runners import GB, Runner, built_in, chosen
from bot.records.plans import Job, Plan
from tests.steps.jobs import job, release, runner

TINY = 30_000_000
GITHUB = chosen(built_in(), ["github"])


def plan(*jobs: Job, runners: tuple[Runner, ...] = GITHUB) -> Plan:
    return place_jobs(Plan(jobs=jobs, done=(), failures=()), runners=runners, shapes={}, config=Config())


def test_one_download_serves_all_formats_that_run_on_the_same_machine() -> None:
    one = release(TINY)
    todo = plan(*(job(one, name) for name in ("gguf/q4_k_m", "onnx/cpu-int4", "openvino/int4", "mlx/4bit")))
    found = matrix(todo, runners=GITHUB)
    assert found.left_out == ()
    assert list(found.entries) == [
        {
            "name": "Phi-3.5-mini-instruct (gguf, onnx, openvino)",
            "runs_on": '["ubuntu-24.04"]',
            "on": "local",
            "release": f"microsoft/Phi-3.5-mini-instruct@{'c' * 40}",
            "variants": "gguf/q4_k_m,onnx/cpu-int4,openvino/int4",
            "timeout_minutes": "30",
        },
        {
            "name": "Phi-3.5-mini-instruct (mlx)",
            "runs_on": '["macos-15"]',
            "on": "local",
            "release": f"microsoft/Phi-3.5-mini-instruct@{'c' * 40}",
            "variants": "mlx/4bit",
            "timeout_minutes": "30",
        },
    ]


def test_jobs_are_together_only_as_long_as_the_disk_holds_them() -> None:
    one = release(2_000_000_000)
    jobs = [job(one, "gguf/q4_k_m"), job(one, "openvino/int4"), job(one, "onnx/cpu-int8")]
    disk = max(demand(j).disk for j in jobs) / GB + 0.2
    machine = runner("github/small", memory=100, disk=disk)
    found = matrix(plan(*jobs, runners=(machine,)), runners=(machine,))
    assert len(found.entries) > 1
    assert ",".join(e["variants"] for e in found.entries) == "gguf/q4_k_m,openvino/int4,onnx/cpu-int8"


def test_entries_beyond_githubs_limit_are_left_out_and_named() -> None:
    todo = plan(*(job(release(TINY, name=f"Phi-{n}"), "gguf/q4_k_m") for n in range(MOST + 2)))
    found = matrix(todo, runners=GITHUB)
    assert len(found.entries) == MOST == 255
    assert found.left_out == tuple(
        f"gguf/q4_k_m of microsoft/Phi-{n}@cccccccccccc: a matrix has 255 entries at most" for n in (255, 256)
    )


def test_a_runner_of_ones_own_is_asked_for_by_its_labels() -> None:
    own = replace(runner("own/big"), labels=("self-hosted", "big"))
    found = matrix(plan(job(release(TINY), "gguf/q4_k_m"), runners=(own,)), runners=(own,))
    assert json.loads(found.entries[0]["runs_on"]) == ["self-hosted", "big"]


def test_hugging_face_jobs_are_followed_from_a_small_runner() -> None:
    flavors = chosen(built_in(), ["hf-jobs"])
    [entry] = matrix(plan(job(release(TINY), "gguf/q4_k_m"), runners=flavors), runners=flavors).entries
    assert (entry["runs_on"], entry["on"]) == ('["ubuntu-24.04"]', "hf-jobs/cpu-basic")


def test_jobs_that_no_workflow_can_run_are_left_out_and_named() -> None:
    nameless = replace(runner("own/big"), labels=())
    unnamed = matrix(plan(job(release(TINY), "gguf/q4_k_m"), runners=(nameless,)), runners=(nameless,))
    assert unnamed.entries == ()
    assert "no workflow can ask for own/big" in unnamed.left_out[0]
    folder = matrix(plan(job(release(TINY, commit=None), "gguf/q4_k_m")), runners=GITHUB)
    assert folder.entries == ()
    assert "it is not a release on a Hub" in folder.left_out[0]


def test_a_long_job_gets_more_time_but_no_more_than_github_gives() -> None:
    slow = runner("github/slow", cores=1, memory=100_000, disk=10_000)
    [entry] = matrix(plan(job(release(10**12), "gguf/q4_k_m"), runners=(slow,)), runners=(slow,)).entries
    assert entry["timeout_minutes"] == "360"


@given(st.text(max_size=30))
def test_names_from_strangers_are_safe_in_yaml_json_and_a_shell(name: str) -> None:
    todo = plan(job(release(TINY, name=name), "gguf/q4_k_m"))
    found = matrix(todo, runners=GITHUB)
    assert len(found.entries) + len(found.left_out) == 1
    for entry in found.entries:
        assert all(type(v) is str for v in entry.values())
        assert re.fullmatch(r"[A-Za-z0-9._/@-]+", entry["release"])
        assert re.fullmatch(r"[A-Za-z0-9._ (),-]+", entry["name"])
    assert json.loads(json.dumps(list(found.entries))) == list(found.entries)


def test_a_variant_with_a_size_goes_into_an_entry() -> None:
    todo = plan(job(release(TINY), "gguf/fit:4.2GB", "gguf/q8_0"))
    assert [e["variants"] for e in matrix(todo, runners=GITHUB).entries] == ["gguf/q8_0,gguf/fit:4.2GB"]
