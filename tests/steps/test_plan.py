"""What is to be built: recipes against what is published. Converts nothing."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

import bot
from bot import catalogue, source
from bot.devices.here import missing_for
from bot.errors import BuildError, ForeignRepoError, UnsupportedArchitectureError
from bot.formats import recipes
from bot.hub import client
from bot.hub.client import Hub
from bot.hub.namespace import Namespace
from bot.localhub import RunningHub
from bot.records.artifacts import Release
from bot.records.failures import failure, is_refusal
from bot.records.plans import Plan, PublishedRepo, SourceState
from bot.state.memory import Memory
from bot.steps.plan import PlanInputs, current_keys, plan, require_work
from bot.steps.watch import Reader, source_state
from tests.source import models

CONFIG = models.CONFIG | {"hidden_size": 3072, "num_attention_heads": 32, "num_hidden_layers": 2, "vocab_size": 32064}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    folder = tmp_path / "Phi-9"
    folder.mkdir()
    for name, content in models.files().items():
        (folder / name).write_bytes(content)
    found = source.local_release(folder)
    return Release.from_json(found.to_json() | {"config": CONFIG})


class Given(Reader):
    """Knows the releases that it is given, and counts what it is asked for."""

    def __init__(self, hub: Hub, *releases: Release) -> None:
        super().__init__(hub=hub)
        self.given = {r.repo_id: r for r in releases}
        self.asked: list[str] = []

    def release(self, sighting: SourceState) -> Release:
        self.asked.append(sighting.repo_id)
        return self.given[sighting.repo_id]


NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


def plan_of(hub: RunningHub, releases: Sequence[Release], *names: str, **known: Any) -> Plan:
    connected = client.connect(hub.url, hub.token)
    there = connected.namespace("me")
    settings: dict[str, Any] = {"namespace": "me", "there": there, "now": NOW} | known
    what = PlanInputs(**settings)
    reader = Given(connected, *releases)
    return plan([source_state(r) for r in releases], catalogue.select(names), reader=reader, known=what)[0]


def planned(hub: RunningHub, release: Release, *names: str) -> Plan:
    return plan_of(hub, [release], *names)


def test_one_job_a_format_with_its_repos(hub: RunningHub, release: Release) -> None:
    todo = planned(hub, release, "default")
    assert {j.format: sorted({v.repo_id for v in j.variants}) for j in todo.jobs} == {
        "gguf": ["me/Phi-9-GGUF"],
        "onnx": ["me/Phi-9-onnx"],
        "openvino": ["me/Phi-9-int4-ov"],
        "mlx": ["me/Phi-9-mlx-4bit"],
    }
    assert (todo.done, todo.failures) == ((), ())


def test_the_same_release_gives_the_same_keys_and_another_one_gives_others(hub: RunningHub, release: Release) -> None:
    def keys(of: Release) -> list[str]:
        return [v.build_key for j in planned(hub, of, "default").jobs for v in j.variants]

    other = Release.from_json(release.to_json() | {"content_digest": "0" * 64})
    assert keys(release) == keys(release)
    assert not set(keys(release)) & set(keys(other))
    assert len(set(keys(release))) == len(keys(release))


@pytest.mark.skipif(missing_for("cuda") is None, reason="this machine has an NVIDIA GPU")
def test_variants_that_cannot_be_proven_here_are_left_out_and_named(
    hub: RunningHub, release: Release, nothing_stands_in: None
) -> None:
    todo = planned(hub, release, "onnx/cpu-int4", "onnx/cuda-int4")
    assert [v.variant.name for j in todo.jobs for v in j.variants] == ["onnx/cpu-int4"]
    assert [(f.variant, f.step) for f in todo.failures] == [("onnx/cuda-int4", "plan")]
    assert "NVIDIA GPU" in todo.failures[0].message


def test_a_model_that_fits_nowhere_is_an_error_of_its_own(hub: RunningHub, release: Release) -> None:
    llama = Release.from_json(release.to_json() | {"config": CONFIG | {"architectures": ["LlamaForCausalLM"]}})
    with pytest.raises(UnsupportedArchitectureError, match=r"none of the variants can be built: .*LlamaForCausalLM"):
        require_work(planned(hub, llama, "default"))


def test_one_model_that_fits_nowhere_holds_up_no_other(hub: RunningHub, release: Release) -> None:
    llama = Release.from_json(release.to_json() | {"config": CONFIG | {"architectures": ["LlamaForCausalLM"]}})
    todo = plan_of(hub, [llama, dataclasses.replace(release, repo_id="me/other")], "gguf")
    require_work(todo)
    assert [j.format for j in todo.jobs] == ["gguf"]
    assert all(is_refusal(f) for f in todo.failures)


def test_a_repo_that_is_not_ours_is_left_alone_and_holds_up_no_other(hub: RunningHub, release: Release) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("me/Phi-9-onnx")
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="model.onnx", repo_id="me/Phi-9-onnx")
    todo = planned(hub, release, "default")
    assert [j.format for j in todo.jobs] == ["gguf", "openvino", "mlx"]
    assert [(f.variant, f.exit_code) for f in todo.failures] == [("onnx/cpu-int4", ForeignRepoError.exit_code)]


# ---- what is published, and what is remembered -----------------------------------------------------------------


def shelf(*repos: PublishedRepo) -> Namespace:
    return Namespace(shelved={r.repo_id: r for r in repos}, foreign=frozenset())


def published(job_plan: Plan, *, content: str, key: str | None = None, changed: str = "2026-01-01") -> Namespace:
    """Return the namespace in which everything that a plan builds is published, under other keys if one is given."""
    repos: dict[str, PublishedRepo] = {}
    for job in job_plan.jobs:
        for v in job.variants:
            old = repos.get(v.repo_id)
            repos[v.repo_id] = PublishedRepo(
                repo_id=v.repo_id,
                commit="0" * 40,
                changed=changed,
                private=False,
                source=job.release.label,
                builds={**(old.builds if old else {}), v.variant.name: key or v.build_key},
                contents={**(old.contents if old else {}), v.variant.name: content},
            )
    return Namespace(shelved=repos, foreign=frozenset())


def test_a_variant_published_with_its_key_is_done_and_its_release_is_not_read(
    hub: RunningHub, release: Release
) -> None:
    there = published(planned(hub, release, "default"), content=release.content_digest)
    reader = Given(client.connect(hub.url, hub.token))
    known = PlanInputs(namespace="me", there=there, now=NOW)
    todo, refusals = plan([source_state(release)], catalogue.select(["default"]), reader=reader, known=known)
    assert (todo.jobs, todo.failures, refusals, reader.asked) == ((), (), {}, [])
    assert len(todo.done) == len(catalogue.select(["default"]))


def test_other_content_is_a_changed_release_and_another_recipe_is_outdated(hub: RunningHub, release: Release) -> None:
    new = planned(hub, release, "mlx/4bit")
    for content, reason in ((release.content_digest, "outdated"), ("9" * 64, "changed")):
        there = published(new, content=content, key="8" * 64)
        todo = plan_of(hub, [release], "mlx/4bit", there=there)
        assert [v.reason for j in todo.jobs for v in j.variants] == [reason]


@pytest.mark.parametrize(
    ("policy", "built", "postponed"), [("now", ["me/a", "me/b"], 0), ("slowly", ["me/b"], 1), ("never", [], 2)]
)
def test_outdated_publications_are_built_as_the_policy_says(
    hub: RunningHub, release: Release, policy: str, built: list[str], postponed: int
) -> None:
    both = [dataclasses.replace(release, repo_id=name) for name in ("me/a", "me/b")]
    there: dict[str, PublishedRepo] = {}
    for one, changed in zip(both, ("2026-02-01", "2026-01-01"), strict=True):
        new = plan_of(hub, [one], "mlx/4bit")
        there |= published(new, content=one.content_digest, key="8" * 64, changed=changed).shelved
    todo = plan_of(hub, both, "mlx/4bit", there=shelf(*there.values()), outdated=policy)
    assert [j.release.repo_id for j in todo.jobs] == built
    assert [p.why for p in todo.postponed] == ["outdated"] * postponed


def test_outdated_publications_wait_while_there_is_something_new(hub: RunningHub, release: Release) -> None:
    old, new = (dataclasses.replace(release, repo_id=name) for name in ("me/old", "me/new"))
    there = published(plan_of(hub, [old], "mlx/4bit"), content=old.content_digest, key="8" * 64)
    todo = plan_of(hub, [old, new], "mlx/4bit", there=there, outdated="slowly")
    assert [j.release.repo_id for j in todo.jobs] == ["me/new"]
    assert [p.release for p in todo.postponed] == [old.label]


def test_a_failed_variant_waits_and_the_rest_goes_on(hub: RunningHub, release: Release) -> None:
    (job,) = planned(hub, release, "gguf/q4_k_m", "gguf/q8_0").jobs
    broken = failure(release.label, "gguf/q8_0", "build", BuildError("it broke", hint="Look."))
    memory = Memory().begun(release.label, job.variants[1:], now=NOW, most=3)
    memory = memory.ended(job.variants[1:], [broken], now=NOW, most=3)
    todo = plan_of(hub, [release], "gguf/q4_k_m", "gguf/q8_0", memory=memory)
    assert [v.variant.name for j in todo.jobs for v in j.variants] == ["gguf/q4_k_m"]
    assert [(p.planned.variant.name, p.why) for p in todo.postponed] == [("gguf/q8_0", "failed")]
    later = plan_of(hub, [release], "gguf/q8_0", memory=memory, now=NOW + dt.timedelta(days=1))
    assert [v.variant.name for j in later.jobs for v in j.variants] == ["gguf/q8_0"]


def test_a_refusal_that_is_remembered_needs_no_look_at_the_release(hub: RunningHub, release: Release) -> None:
    llama = Release.from_json(release.to_json() | {"config": CONFIG | {"architectures": ["LlamaForCausalLM"]}})
    known = PlanInputs(namespace="me", now=NOW)
    rows = catalogue.select(["gguf"])
    connected = client.connect(hub.url, hub.token)
    first, refusals = plan([source_state(llama)], rows, reader=Given(connected, llama), known=known)
    memory = Memory().with_refusals(refusals, bot_version=bot.__version__)
    reader = Given(connected)
    second, _ = plan([source_state(llama)], rows, reader=reader, known=dataclasses.replace(known, memory=memory))
    assert second.failures == first.failures
    assert reader.asked == []


def test_a_source_that_cannot_be_used_has_no_jobs(hub: RunningHub) -> None:
    broken = SourceState(repo_id="microsoft/Phi-9", commit="0" * 40, content_digest=None, problem="no config")
    known = PlanInputs(namespace="me", now=NOW)
    reader = Given(client.connect(hub.url, hub.token))
    todo, _ = plan([broken], catalogue.select(["default"]), reader=reader, known=known)
    assert todo == Plan(jobs=(), done=(), failures=())
    assert current_keys([broken]) == frozenset()


def test_a_size_has_a_precision_as_soon_as_the_release_is_read(hub: RunningHub, release: Release) -> None:
    weights = release.parameters
    (job,) = planned(hub, release, f"gguf/fit:{weights * 5 / 8e6:.6f}MB").jobs
    (one,) = job.variants
    assert (one.variant.precision, round(one.variant.bits_per_weight)) == ("int4", 5)
    assert one.build_key == recipes.key_of(release.content_digest, one.variant)
    there = published(planned(hub, release, one.variant.name), content=release.content_digest)
    assert [v.variant.name for v in plan_of(hub, [release], one.variant.name, there=there).done] == [one.variant.name]


@pytest.mark.parametrize(("bits", "word"), [(2, "small"), (9, "large")])
def test_a_size_that_is_not_possible_is_refused_before_anything_is_built(
    hub: RunningHub, release: Release, bits: int, word: str
) -> None:
    todo = planned(hub, release, f"gguf/fit:{release.parameters * bits / 8e6:.6f}MB")
    assert todo.jobs == ()
    (refused,) = todo.failures
    assert f"too {word} for gguf/fit: of this model it takes from about" in refused.message


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "config.json does not name torch_dtype, so it is not known how many weights the model has"),
        ({"dtype": "float64"}, "config.json names 'float64' as torch_dtype"),
        ({"dtype": "float32"}, ""),
        ({"torch_dtype": "torch.float16"}, ""),
    ],
)
def test_a_size_is_refused_where_the_weights_cannot_be_counted(
    hub: RunningHub, release: Release, declared: dict[str, str], said: str
) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "torch_dtype"} | declared
    other = dataclasses.replace(release, config=config)
    todo = planned(hub, other, f"gguf/fit:{other.parameters * 5 / 8e6:.6f}MB", "gguf/q8_0")
    assert [f.message.startswith(said) for f in todo.failures] == [True] * bool(said)
    names = [v.variant.precision for job in todo.jobs for v in job.variants]
    assert names == ["int8"] if said else ["int8", "int4"]


def test_keys_of_sizes_that_are_asked_for_are_current_and_so_are_calibrated_ones(release: Release) -> None:
    (size,) = catalogue.select(["gguf/fit:4.2GB"])
    calibrated = recipes.with_calibration(catalogue.all_variants()["gguf/q4_k_m"])
    sighting = source_state(release)
    for variant, asked, current in ((size, [size], True), (size, [], False), (calibrated, [], True)):
        key = recipes.key_of(release.content_digest, variant)
        assert (key in current_keys([sighting], asked)) == current


def test_a_key_is_current_whether_a_matrix_is_tried_or_not(release: Release) -> None:
    row = catalogue.all_variants()["gguf/q4_k_m"]
    keys = current_keys([source_state(release)])
    for variant in (row, recipes.with_trial(row)):
        assert recipes.key_of(release.content_digest, variant) in keys
    other = dataclasses.replace(row, options={"ftype": "Q4_K_M", "imatrix": True})
    assert recipes.key_of(release.content_digest, other) not in keys
