"""Who can write to the staging repo, or to a pull request on the Hub, tries what no check of a single record sees."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.errors import UnsafeFileNameError
from bot.hub import client
from bot.records.artifacts import Artifact
from tests.reconvert import test_conclude
from tests.reconvert.test_conclude import world as reconversion
from tests.source import models
from tests.steps import proven
from tests.steps.test_promote import STAGING, World, api, config, proven_again, rewrite, why, world
from tests.steps.test_publish import no_plots

__all__ = ["api", "config", "no_plots", "reconversion", "world"]

pytestmark = pytest.mark.usefixtures("no_plots")

PUBLISHED = "Phi-9-mini-q8_0.gguf"
EVIL = b"weights that nobody measured"


def renamed(artifact: Artifact, name: str, content: bytes = EVIL) -> Artifact:
    """Let an artifact be one file of another name and content."""
    files = Path(artifact.folder) / "files"
    for file in files.iterdir():
        file.unlink()
    (files / name).write_bytes(content)
    entry = {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return proven_again(rewrite(artifact, "build.json", lambda build: build.update(files=[entry])))


def test_a_new_build_does_not_take_the_place_of_the_file_of_another_one(world: World, api: HfApi) -> None:
    world.stage(world.build("gguf/q8_0"))
    (published,) = world.promote().publications
    world.stage(renamed(world.build("gguf/q4_k_m"), PUBLISHED))
    assert why(world.promote()) == f"{PUBLISHED} is a file of gguf/q4_k_m and of gguf/q8_0"
    assert Path(api.hf_hub_download(published.repo_id, PUBLISHED)).read_bytes() != EVIL


def test_two_new_builds_do_not_share_a_file(world: World) -> None:
    world.stage(world.build("gguf/q8_0"), renamed(world.build("gguf/q4_k_m"), PUBLISHED))
    report = world.promote()
    assert report.publications == ()
    assert {f.message for f in report.failures} == {f"{PUBLISHED} is a file of gguf/q4_k_m and of gguf/q8_0"}


def test_a_proposal_does_not_take_the_place_of_the_file_of_another_build(
    reconversion: test_conclude.World, api: HfApi
) -> None:
    report = reconversion.propose(renamed(reconversion.build("gguf/q4_k_m"), PUBLISHED))
    assert report.proposals == ()
    assert report.failures[0].message == f"{PUBLISHED} is a file of gguf/q4_k_m and of gguf/q8_0"


def other_weights(world: Any, api: HfApi, *, create_pr: bool, revision: str | None = None) -> str:
    """Put other weights into the watched repo, beside its main branch, and return their commit."""
    weights = models.safetensors(models.TENSORS, fill=2)
    commit = api.create_commit(
        proven.MODEL,
        [CommitOperationAdd("model.safetensors", weights)],
        commit_message="Better weights",
        create_pr=create_pr,
        revision=revision,
    )
    return str(commit.oid)


def test_weights_of_a_strangers_pull_request_are_not_the_models(world: World, api: HfApi) -> None:
    """Anybody can open a pull request on a public repo of the Hub, and its commit is one of that repo."""
    commit = other_weights(world, api, create_pr=True)
    world.release = client.connect(world.hub.url, world.hub.token).release(proven.MODEL, commit)
    assert world.release.commit == commit
    world.stage(world.build())
    assert "is not what microsoft/Phi-9-mini has on its main branch" in why(world.promote())


def test_weights_of_yesterday_do_not_take_the_place_of_those_of_today(world: World, api: HfApi) -> None:
    staged = world.build()
    other_weights(world, api, create_pr=False)
    world.stage(staged)
    assert "on its main branch" in why(world.promote())


def test_words_that_changed_on_the_models_card_hold_up_nothing(world: World, api: HfApi) -> None:
    world.stage(world.build())
    api.upload_file(repo_id=proven.MODEL, path_in_repo="README.md", path_or_fileobj=b"New words.")
    assert world.promote().failures == ()


def test_weights_of_a_strangers_pull_request_are_not_proposed(reconversion: test_conclude.World, api: HfApi) -> None:
    commit = other_weights(reconversion, api, create_pr=True)
    reconversion.release = reconversion.client.release(proven.MODEL, commit)
    report = reconversion.propose(reconversion.build("gguf/q4_k_m"))
    assert report.proposals == ()
    assert "on its main branch" in report.failures[0].message


@pytest.mark.parametrize(
    ("variant", "name", "value"),
    [
        ("mlx/4bit", "config.json", {"text_config": {"auto_map": {"AutoModel": "evil/repo--m.M"}}}),
        ("mlx/4bit", "config.json", {"model_file": "../evil.py"}),
        ("mlx/4bit", "preprocessor_config.json", {"auto_map": {"AutoProcessor": "evil/repo--m.M"}}),
        ("mlx/4bit", "generation_config.json", {"custom_generate": "evil/repo"}),
        (
            "onnx/cpu-int4",
            "genai_config.json",
            {"model": {"decoder": {"custom_ops_library": "x.so"}}},
        ),
    ],
)
def test_a_configuration_that_asks_for_code_anywhere_in_it(
    world: World, variant: str, name: str, value: dict[str, Any]
) -> None:
    artifact, content = world.build(variant), json.dumps(value).encode()
    (Path(artifact.folder) / "files" / name).write_bytes(content)
    entry = {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def change(build: dict[str, Any]) -> None:
        build["files"] = [*(f for f in build["files"] if f["path"] != name), entry]

    world.stage(proven_again(rewrite(artifact, "build.json", change)))
    assert "asks for code" in why(world.promote())


def test_a_folder_of_staging_that_is_none_holds_up_no_other(world: World, api: HfApi) -> None:
    world.stage(world.build())
    for name in ("0" * 32, "$(touch x)", "a b"):
        api.upload_file(repo_id=STAGING, path_in_repo=f"{name}/build.json", path_or_fileobj=b"{}")
    report = world.promote()
    assert [b.build.variant.name for p in report.publications for b in p.builds] == ["gguf/q4_k_m"]


def test_a_name_that_misleads_ends_it_with_the_name_escaped(world: World, api: HfApi) -> None:
    world.stage(world.build())
    api.upload_file(repo_id=STAGING, path_in_repo="\u202egpj.fugg", path_or_fileobj=b"{}")
    with pytest.raises(UnsafeFileNameError, match=r"\\u202egpj.fugg"):
        world.promote()


def test_another_revision_is_published_where_somebody_names_it(world: World, api: HfApi) -> None:
    api.create_branch(proven.MODEL, branch="v2")
    commit = other_weights(world, api, create_pr=False, revision="v2")
    world.release = client.connect(world.hub.url, world.hub.token).release(proven.MODEL, commit)
    world.stage(world.build())
    assert "on its main branch" in why(world.promote(proven.MODEL))
    assert world.promote(f"{proven.MODEL}@v2").failures == ()


@pytest.mark.parametrize("name", ["files", "notices", "build.json", "evidence.json", "prompt.json", "release.json"])
def test_a_candidate_that_links_elsewhere_hands_on_nothing_of_it(
    reconversion: test_conclude.World, tmp_path: Path, name: str
) -> None:
    """What a pull request's code left is unpacked where a token is."""
    artifact = reconversion.build("gguf/q4_k_m")
    here, elsewhere = Path(artifact.folder) / name, tmp_path / "elsewhere"
    here.rename(elsewhere)
    here.symlink_to(elsewhere)
    report = reconversion.propose(artifact)
    assert report.proposals == ()
    assert "link" in report.failures[0].message


def long_detail(evidence: dict[str, Any]) -> None:
    evidence["checks"][0]["detail"] = "a" * 4_000_000


def test_evidence_like_a_book_does_not_make_a_record_that_nobody_reads(world: World, api: HfApi) -> None:
    """A record above 10 MB is not read, and a repo without a readable one is never touched again."""
    names = ("gguf/q4_k_m", "gguf/q8_0", "gguf/q5_k_m")
    world.stage(*(proven_again(rewrite(world.build(name), "evidence.json", long_detail)) for name in names))
    report = world.promote()
    assert report.publications == ()
    assert {f.message.rpartition(" ")[2] for f in report.failures} == {"record"}
    assert not api.repo_exists(test_conclude.REPO)


def test_evidence_like_a_book_is_not_proposed(reconversion: test_conclude.World) -> None:
    artifact = reconversion.build("gguf/q4_k_m")
    report = reconversion.propose(proven_again(rewrite(artifact, "evidence.json", long_detail)))
    assert report.proposals == ()
    assert "too large" in report.failures[0].message
