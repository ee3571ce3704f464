"""docs/github.md says what is asked of GitHub: no more and no less, and by which description that is tested."""

import json
import re
from pathlib import Path

from tests.github_server import ROUTES

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs/github.md").read_text(encoding="utf-8")


def test_the_requests_that_are_described_are_those_that_are_known() -> None:
    described = re.findall(r"^\| `([A-Z]+) (/\S+)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(described) == sorted([*ROUTES, ("POST", "/graphql")])


def test_the_version_of_githubs_description_is_the_installed_one() -> None:
    package = json.loads((HERE / "contract/package.json").read_text(encoding="utf-8"))
    assert f"`@octokit/openapi` {package['dependencies']['@octokit/openapi']}" in PAGE
