"""The documentation says of the workflows what they are."""

from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from tests import page_reader
from tests.workflows.reading import OURS, PATHS, ROOT, Workflow
from tests.workflows.rules import SECRETS

PAGE = ROOT / "docs/pipeline.md"
OWN = [w for w in map(Workflow.read, PATHS) if not w.is_example]


def tables(section: str) -> list[list[str]]:
    """The rows of the table in a section of the page."""
    (rows,) = page_reader.tables(page_reader.sections(PAGE)[section])
    return rows


def test_every_workflow_is_described() -> None:
    assert {row[0].strip("`") for row in tables("The workflows")} == {w.name.rpartition("/")[2] for w in OWN}


def test_the_table_of_rights_equals_that_of_the_workflows() -> None:
    rights = {
        (w.name.rpartition("/")[2], job.id): (
            ", ".join(f"{name}: {right}" for name, right in job.permissions.items()),
            job.environment or "",
        )
        for w in OWN
        for job in w.jobs
        if job.steps
    }
    said = {
        (name.strip("`"), job.strip("`")): (asked, environment.strip("`"))
        for name, job, asked, environment, _ in tables("Rights of each job")
    }
    assert said == rights


def test_the_environments_and_their_secrets_are_said() -> None:
    said = {row[0].strip("`"): row[1].strip("`") for row in tables("Setting it up")}
    assert SECRETS.items() <= said.items()
    named = {job.environment for w in OWN for job in w.jobs if job.environment}
    assert named == {name.strip("` ") for names in said for name in names.split(",")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/README.md")), ids=lambda p: p.parent.name)
def test_steps_shown_in_an_example_are_in_its_workflows(path: Path) -> None:
    workflows = [Workflow.read(p) for p in path.parent.glob(".github/workflows/*.yml")]
    steps = [(s.uses, s.data.get("with")) for w in workflows for job in w.jobs for s in job.steps]
    blocks = [t.content for t in MarkdownIt().parse(path.read_text(encoding="utf-8")) if t.info == "yaml"]
    for block in blocks:
        for shown in yaml.safe_load(block):
            assert (shown["uses"], shown["with"]) in steps
    assert blocks or all(job.uses.startswith(OURS) for w in workflows for job in w.jobs)
