"""The inputs of the action: what they may hold, and what is said of anything else."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from bot.action.inputs import COMMANDS, TAKEN_BY, Inputs, read
from bot.errors import ConfigError
from tests.markdown_reader import hostile_text


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a step in a workspace with a model and a configuration."""
    workspace, temp = tmp_path / "work space", tmp_path / "temp"
    (workspace / "model").mkdir(parents=True)
    (workspace / "phi-bot.toml").touch()
    (temp / "reports").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return {"GITHUB_WORKSPACE": str(workspace), "RUNNER_TEMP": str(temp), "GITHUB_REPOSITORY": "someone/fine-tune"}


def given_inputs(environ: dict[str, str], **inputs: str) -> Inputs:
    return read(environ | {f"INPUT_{name.upper()}": value for name, value in inputs.items()})


def test_without_inputs_the_configuration_is_run_and_nothing_published(environ: dict[str, str]) -> None:
    found = given_inputs(environ)
    assert (found.command, found.models, found.publish, found.dry_run) == ("run", (), "no", None)
    assert found.cache


def test_models_are_repos_and_folders_of_the_workspace(environ: dict[str, str]) -> None:
    found = given_inputs(environ, models="microsoft/Phi-4 microsoft/phi-2@0123abc\n  ./model  \nmodel\n")
    folder = str(Path(environ["GITHUB_WORKSPACE"]).resolve() / "model")
    assert found.models == ("microsoft/Phi-4", "microsoft/phi-2@0123abc", folder, folder)


def test_a_folder_with_a_space_in_its_name_has_a_line_of_its_own(environ: dict[str, str]) -> None:
    folder = Path(environ["GITHUB_WORKSPACE"]) / "my fine tune"
    folder.mkdir()
    assert given_inputs(environ, models="microsoft/Phi-4\nmy fine tune").models == (
        "microsoft/Phi-4",
        str(folder.resolve()),
    )


def test_lists_are_separated_by_commas_spaces_and_lines(environ: dict[str, str]) -> None:
    found = given_inputs(environ, variants="gguf/q4_k_m, gguf/*\nmlx default")
    assert found.variants == ("gguf/q4_k_m", "gguf/*", "mlx", "default")


def test_a_pull_request_may_be_a_number_of_this_repository(environ: dict[str, str]) -> None:
    for text in ("7", "#7", "someone/fine-tune#7"):
        found = given_inputs(environ, command="conclude", pull_request=text)
        assert found.pull_request == "someone/fine-tune#7"


def test_reports_may_lie_where_they_were_downloaded(environ: dict[str, str]) -> None:
    folder = Path(environ["RUNNER_TEMP"]) / "reports"
    assert given_inputs(environ, command="promote", reports=str(folder)).reports == folder.resolve()


def test_an_output_folder_need_not_exist(environ: dict[str, str]) -> None:
    assert (
        given_inputs(environ, command="status", out="site").out == Path(environ["GITHUB_WORKSPACE"]).resolve() / "site"
    )


WRONG = [
    ({"command": "rm"}, "command is 'rm'", "run, plan"),
    ({"publish": "always"}, "publish is 'always'", "no, stage, yes"),
    ({"dry_run": "1"}, "dry-run is '1'", "true, false"),
    ({"cache": "no"}, "cache is 'no'", "true, false"),
    ({"models": "--help"}, "models is '--help'", "OWNER/NAME"),
    ({"models": "Phi-4"}, "models is 'Phi-4'", "OWNER/NAME"),
    ({"models": "microsoft/Phi-4@-x"}, "models is", "OWNER/NAME"),
    ({"models": "https://huggingface.co/microsoft/phi-4"}, "models is", "OWNER/NAME"),
    ({"models": "../outside"}, "models leads out of the workspace", "checkout"),
    ({"models": "/etc"}, "models leads out of the workspace", "checkout"),
    ({"models": "./gone"}, "models names a folder that does not exist", "is there a step before"),
    ({"models": "~"}, "models names a folder that does not exist", "is there a step before"),
    ({"models": "./" + "x" * 5000}, "models names a folder that does not exist", "is there a step before"),
    ({"config": "gone.toml"}, "config names a file that does not exist", "is there a step before"),
    ({"config": "../outside"}, "config leads out of the workspace", "checkout"),
    ({"config": "model"}, "config names a file that does not exist", "is there a step before"),
    ({"variants": "gguf/q4;ls"}, "variants is 'gguf/q4;ls'", "a variant"),
    ({"namespace": "-x"}, "namespace is '-x'", "organisation"),
    ({"namespace": "a/b"}, "namespace is 'a/b'", "organisation"),
    ({"endpoint": "file:///etc"}, "endpoint is 'file:///etc'", "address"),
    ({"command": "plan", "runner": "$(id)"}, "runner is '$(id)'", "runner"),
    ({"command": "conclude", "pull_request": "x#y"}, "pull-request is 'x#y'", "NUMBER"),
    ({"command": "propose", "reports": "model", "head": "main"}, "head is 'main'", "40 hex digits"),
    ({"command": "compare", "base": "model", "head": "model", "model": "../x"}, "model is '../x'", "checkout"),
    ({"command": "compare", "base": "model"}, "compare takes an input head", "docs/action.md"),
    ({"command": "comment", "pull_request": "7"}, "comment takes an input reports", "docs/action.md"),
    ({"reports": "model"}, "the command run does not take it", "promote"),
    ({"command": "status", "models": "a/b"}, "the command status does not take it", "run"),
]


@pytest.mark.parametrize(("inputs", "message", "hint"), WRONG, ids=[" ".join(row[0].values())[:40] for row in WRONG])
def test_a_wrong_input_is_named_with_its_allowed_values(
    environ: dict[str, str], inputs: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        given_inputs(environ, **inputs)
    assert message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="links take a right of their own there")
def test_a_link_out_of_the_workspace_leads_nowhere(environ: dict[str, str]) -> None:
    (Path(environ["GITHUB_WORKSPACE"]) / "link").symlink_to("../outside")
    with pytest.raises(ConfigError, match="leads out of the workspace"):
        given_inputs(environ, models="link")


NAMES = [name for name in Inputs.__dataclass_fields__ if name != "command"]


@pytest.mark.parametrize("name", NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(text=hostile_text)
def test_no_text_is_anything_but_an_input_of_its_form_or_an_error(
    environ: dict[str, str], name: str, text: str
) -> None:
    takers = TAKEN_BY.get(name.replace("_", "-"), COMMANDS)
    needed = {"reports": "model", "base": "model", "head": "model", "pull_request": "7"}
    others = {n: v for n, v in needed.items() if takers[0] in TAKEN_BY[n.replace("_", "-")] and n != name}
    try:
        found = given_inputs(environ, command=takers[0], **others, **{name: text})
    except ConfigError:
        return
    for model in found.models:
        assert not model.startswith("-")
    roots = tuple(Path(environ[root]).resolve() for root in ("GITHUB_WORKSPACE", "RUNNER_TEMP"))
    for path in (found.config, found.work, found.reports, found.base, found.out):
        assert path is None or any(path.is_relative_to(root) for root in roots)
