"""docs/security.md: each claim names what holds it, and that is there, and is run."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests import page_reader
from tests.page_reader import ROOT
from tests.workflows.reading import PATHS, PRIVILEGED_TRIGGERS, Workflow
from tests.workflows.test_audit import zizmor

PAGE = ROOT / "docs/security.md"


def rows(title: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in page_reader.sections(PAGE)[title].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


CLAIMS = rows("Claims, and their tests")
RULES = {found for _, held in CLAIMS for found in re.findall(r"`zizmor: ([a-z-]+)`", held)}

#: For each rule that a claim names, a workflow of ours and what would break the rule there.
BREAKS = {
    "artipacked": ("build.yml", "persist-credentials: false", "persist-credentials: true"),
    "dangerous-triggers": ("candidates.yml", "name: Candidates", "name: Candidates"),  # excused where it is meant
    "excessive-permissions": ("reconvert.yml", "    permissions:\n      contents: read # both sides\n", ""),
    "secrets-outside-env": ("candidates.yml", "    environment: promote\n", ""),
    "template-injection": ("convert.yml", '"$LABEL" ==', '"${{ github.event.label.name }}" =='),
    "unpinned-uses": ("ci.yml", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@main"),
}


@cache
def functions(path: Path) -> set[str]:
    """Return the names of the tests in a file; those that are defined under a condition too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("claim", "held"), CLAIMS, ids=[claim[:60] for claim, _ in CLAIMS])
def test_a_claim_names_its_tests(claim: str, held: str) -> None:
    named = held.split("` `")
    assert claim
    for name in (part.strip("`") for part in named):
        if name.startswith("zizmor: "):
            assert name.removeprefix("zizmor: ") in BREAKS
            continue
        path, _, function = name.partition("::")
        assert function.startswith("test_"), name
        assert function in functions(ROOT / path), name


def test_the_page_has_claims() -> None:
    assert len(CLAIMS) > 30
    assert set(BREAKS) == RULES


@pytest.mark.process
def test_a_rule_that_is_named_finds_its_violation(tmp_path: Path) -> None:
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    for rule, (name, old, new) in BREAKS.items():
        text = (ROOT / ".github/workflows" / name).read_text(encoding="utf-8")
        assert old in text, rule
        if rule == "excessive-permissions":
            text = text.replace("permissions: {}\n", "permissions: write-all\n")
        (folder / f"{rule}.yml").write_text(text.replace(old, new), encoding="utf-8")
    found = {
        (f["ident"], f["locations"][0]["symbolic"]["key"]["Local"]["verbatim_path"])
        for f in zizmor("--no-config", str(tmp_path))
    }
    for rule in BREAKS:
        assert any(ident == rule and path.endswith(f"{rule}.yml") for ident, path in found), rule


def test_exceptions_to_a_rule_that_is_named_are_where_the_claim_allows_them() -> None:
    excused = yaml.safe_load((ROOT / ".github/zizmor.yml").read_text(encoding="utf-8"))["rules"]
    assert {rule: excused[rule].get("ignore") for rule in RULES & excused.keys()} == {
        "dangerous-triggers": ["candidates.yml"],
        "unpinned-uses": None,  # the examples' version of this project
    }


def test_everything_that_a_stranger_or_a_contributor_starts_is_in_the_table() -> None:
    started = PRIVILEGED_TRIGGERS | {"pull_request"}
    said = page_reader.sections(PAGE)["Who can start what"]
    for workflow in (Workflow.read(path) for path in PATHS):
        if not workflow.is_example and started & workflow.triggers.keys():
            assert f"`{workflow.name.rpartition('/')[2]}`" in said


def test_every_attack_has_its_outcome() -> None:
    tried = rows("Attacks that were tried")
    assert len(tried) > 20
    assert all(attack and outcome for attack, outcome in tried)
    text = page_reader.sections(PAGE)["Attacks that were tried"]
    for path in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / path).is_file()
