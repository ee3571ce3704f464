"""What tools of the field say of the workflows: zizmor finds nothing but what is excused, and the schemas are kept."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import page_reader
from tests.workflows.reading import PATHS, ROOT, Workflow

pytestmark = pytest.mark.process

BIN = Path(sys.executable).parent
CONFIG = ROOT / ".github/zizmor.yml"
EXAMPLES = sorted(ROOT.glob("examples/*/"))
AUDITED = (".github", "action.yml", *(str(e.relative_to(ROOT)) for e in EXAMPLES))


def zizmor(*arguments: str) -> list[dict[str, Any]]:
    """Return what zizmor finds, with all that it can find without the network."""
    done = subprocess.run(
        [BIN / "zizmor", "--offline", "--strict-collection", "--persona=auditor", "--format=json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0 or done.stdout.startswith("["), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def places(findings: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return the rule and the file of each finding."""
    return {(f["ident"], f["locations"][0]["symbolic"]["key"]["Local"]["verbatim_path"]) for f in findings}


@cache
def unexcused() -> set[tuple[str, str]]:
    """What there is to find if nothing is excused."""
    return places(zizmor("--no-config", *AUDITED))


def exceptions() -> set[tuple[str, str]]:
    """The rule and the file of each exception."""
    found = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["rules"]
    return {(rule, f".github/workflows/{name}") for rule, about in found.items() for name in about.get("ignore", ())}


def test_nothing_is_found_except_the_excused() -> None:
    assert zizmor("--config", str(CONFIG), *AUDITED) == []


def test_each_exception_excuses_something() -> None:
    assert exceptions() <= unexcused()


def test_an_exception_excuses_nothing_by_its_name_elsewhere() -> None:
    names = {(rule, path.rpartition("/")[2]) for rule, path in exceptions()}
    excused = {(rule, path) for rule, path in unexcused() if (rule, path.rpartition("/")[2]) in names}
    assert excused == exceptions()


def test_examples_are_let_off_for_nothing_but_the_version_of_this_project() -> None:
    assert {rule for rule, path in unexcused() if path.startswith("examples/")} == {"unpinned-uses"}


def test_zizmor_sees_a_bad_workflow(tmp_path: Path) -> None:
    workflow = tmp_path / ".github/workflows/bad.yml"
    workflow.parent.mkdir(parents=True)
    text = (ROOT / ".github/workflows/convert.yml").read_text(encoding="utf-8")
    workflow.write_text(text.replace('"$LABEL" ==', '"${{ github.event.label.name }}" =='), encoding="utf-8")
    assert "template-injection" in {f["ident"] for f in zizmor("--no-config", str(tmp_path))}


def schema_complaints(schema: str, *files: Path) -> str:
    """Return what is wrong by one of the schemas that come with check-jsonschema; empty if nothing is."""
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_workflows_are_workflows_by_their_schema(tmp_path: Path) -> None:
    assert schema_complaints("github-workflows", *PATHS) == ""
    bad = tmp_path / "bad.yml"
    bad.write_text(PATHS[0].read_text(encoding="utf-8").replace("runs-on:", "runs_on:"), encoding="utf-8")
    assert "runs_on" in schema_complaints("github-workflows", bad)


def test_the_action_is_an_action_by_its_schema() -> None:
    assert schema_complaints("github-actions", ROOT / "action.yml") == ""


def test_dependabots_files_follow_its_schema() -> None:
    files = (ROOT / ".github/dependabot.yml", *ROOT.glob("examples/*/.github/dependabot.yml"))
    assert len(files) >= 2
    assert schema_complaints("dependabot", *files) == ""


def test_dependabot_looks_where_there_is_something() -> None:
    manifests = {"pip": "requirements.txt", "npm": "package.json", "github-actions": "action.yml"}
    for update in yaml.safe_load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))["updates"]:
        assert (ROOT / update["directory"].strip("/") / manifests[update["package-ecosystem"]]).exists(), update


def test_the_documentation_names_each_exception() -> None:
    text = page_reader.sections(ROOT / "docs/pipeline.md")["Exceptions for zizmor"]
    for rule in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["rules"]:
        assert f"`{rule}`" in text, rule


def label(text: str, folder: Path) -> tuple[int, str]:
    """Run the script that reads a label, as a runner does. Return its exit code and the outputs that it wrote."""
    workflow = Workflow.read(ROOT / ".github/workflows/convert.yml")
    (script,) = (s.script for job in workflow.jobs for s in job.steps if s.data.get("id") == "label")
    out = folder / "outputs"
    out.write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=ROOT,
        env=os.environ | {"LABEL": text, "GITHUB_OUTPUT": str(out)},
        capture_output=True,
        check=False,
        timeout=30,
    )
    return done.returncode, out.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="the script runs on Linux")
def test_a_label_names_a_model(tmp_path: Path) -> None:
    assert label("convert:microsoft/Phi-4-mini-instruct", tmp_path) == (0, "models=microsoft/Phi-4-mini-instruct\n")
    assert label("convert:all", tmp_path) == (0, "models=microsoft/Phi-4-mini-instruct\n")


@pytest.mark.skipif(sys.platform == "win32", reason="the script runs on Linux")
@pytest.mark.parametrize(
    "text",
    [
        "convert:",
        "convert:Phi-4",
        "convert:a/b/c",
        "convert:../b",
        "convert:a/b c/d",
        "convert:a/$(touch x)",
        "convert:a/`touch x`",
        'convert:a/"; touch x; "',
        "convert:a/b\nmodels=c/d",
        "convert:a/b\r",
        "convert:-a/b",
        "convert:a/%0A",
    ],
)
def test_a_label_that_names_none_ends_the_job(text: str, tmp_path: Path) -> None:
    assert label(text, tmp_path) == (1, "")
