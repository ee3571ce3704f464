"""Statements on the way to the Hub: in the commit of the files, signed by who publishes, kept by who comes later."""

from dataclasses import replace
from pathlib import Path

import pytest

from bot.config import Config
from bot.config.places import PublishTable, SignTable
from bot.config.tables import BuildTable, WatchTable
from bot.errors import ConfigError
from bot.hub import client
from bot.localhub import RunningHub
from bot.publishing.envelopes import public_key_of
from bot.publishing.rights import writable_plan
from bot.publishing.statements import STATEMENTS_FILE, Statement, read_statements
from bot.records.artifacts import Report
from bot.records.plans import Plan
from bot.steps.promote import promote
from bot.steps.publish import publish
from bot.steps.stage import stage
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.publishing.keys import key_pair
from tests.steps import proven
from tests.steps.test_publish import no_plots as no_plots

REPO = "me/Phi-9-mini-GGUF"

pytestmark = pytest.mark.usefixtures("no_plots")


class Publisher:
    """A machine with a key, or without one, that publishes a small model."""

    def __init__(self, hub: RunningHub, folder: Path) -> None:
        self.hub, self.folder = client.connect(hub.url, hub.token), folder
        self.release = proven.release(hub)
        self.config = Config(
            watch=WatchTable(authors=("microsoft",)),
            build=BuildTable(work=folder / "work"),
            publish=PublishTable(namespace="me"),
        )

    def by(self, key: Path | None) -> Config:
        return replace(self.config, publish=replace(self.config.publish, sign=SignTable(key=key)))

    def publish(self, name: str, key: Path | None) -> Report:
        artifact = proven.artifact(self.folder / "artifacts", self.release, name)
        config = self.by(key)
        return publish([artifact], context_of(config, workspace=Workspace(root=config.build.work), hub=self.hub))

    def stated(self) -> dict[str, Statement]:
        found = self.hub.read_files(REPO, (STATEMENTS_FILE,))
        assert found is not None
        statements, problems = read_statements(found[0][STATEMENTS_FILE])
        assert problems == ()
        return {s.subjects[0].path: s for s in statements}


@pytest.fixture
def publisher(hub: RunningHub, tmp_path: Path) -> Publisher:
    return Publisher(hub, tmp_path)


def test_each_published_file_has_a_statement_that_its_key_signed(publisher: Publisher, tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    (publication,) = publisher.publish("gguf/q8_0", pem).publications
    listed = publisher.hub.files(REPO)
    assert listed is not None
    ((path, stated),) = publisher.stated().items()
    assert listed[0] == publication.commit
    assert listed[1][path].digest == f"sha256:{stated.subjects[0].sha256}"
    assert public_key_of(public).verifies(stated.envelope)
    sources = stated.content["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {d["name"]: next(iter(d["digest"].values())) for d in sources}
    there = {f"source/{f.path}": f.digest.partition(":")[2] for f in publisher.release.files}
    assert there["source/model.safetensors"] == digests["source/model.safetensors"]
    assert digests.items() - there.items() == {
        ("source", publisher.release.commit),
        ("toolchain gguf", publication.builds[0].build.toolchain.lock_digest),
    }


def test_a_second_file_leaves_the_first_ones_statement_as_it_is(publisher: Publisher, tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    publisher.publish("gguf/q8_0", pem)
    (before,) = publisher.stated().values()
    publisher.publish("gguf/q6_k", None)
    both = publisher.stated()
    assert len(both) == 2
    assert both[before.subjects[0].path].line == before.line
    assert [public_key_of(public).verifies(s.envelope) for s in both.values()].count(True) == 1


def test_the_machine_that_promotes_signs_and_not_the_one_that_stages(publisher: Publisher, tmp_path: Path) -> None:
    (mine, my_public), (theirs, their_public) = key_pair(tmp_path), key_pair(tmp_path, "builder")
    artifact = proven.artifact(tmp_path / "artifacts", publisher.release, "gguf/q8_0")
    assert stage([artifact], context_of(publisher.by(theirs), hub=publisher.hub)).failures == ()
    config = publisher.by(mine)
    work = Workspace(root=config.build.work)
    assert promote((), context_of(config, workspace=work, hub=publisher.hub)).failures == ()
    (stated,) = publisher.stated().values()
    assert public_key_of(my_public).verifies(stated.envelope)
    assert not public_key_of(their_public).verifies(stated.envelope)


def test_what_is_not_a_key_ends_it_before_anything_is_built_or_published(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("not a key")
    with pytest.raises(ConfigError, match=r"key\.pem holds no"):
        publisher.publish("gguf/q8_0", tmp_path / "key.pem")
    assert publisher.hub.files(REPO) is None
    context = context_of(publisher.by(tmp_path / "key.pem"), hub=publisher.hub)
    with pytest.raises(ConfigError, match=r"key\.pem holds no"):
        writable_plan(Plan(jobs=(), done=(), failures=()), "repos", ("local",), context)
