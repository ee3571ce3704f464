"""Every workflow keeps every rule, and every rule finds a workflow that breaks it."""

import re

import pytest

from tests.workflows import rules
from tests.workflows.reading import PATHS, ROOT, Workflow
from tests.workflows.rules import RULES, Rule

WORKFLOWS = [Workflow.read(path) for path in PATHS]


def test_the_workflows_are_found() -> None:
    names = {w.name.rpartition("/")[2] for w in WORKFLOWS}
    assert {"watch.yml", "build.yml", "promote.yml", "reconvert.yml", "candidates.yml", "release.yml"} <= names
    assert sum(w.is_example for w in WORKFLOWS) >= 4


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
def test_a_workflow_keeps_a_rule(workflow: Workflow, rule: Rule) -> None:
    assert list(rule(workflow)) == []


# Each breaks one rule of a workflow that keeps it: a file, what is taken out of it, and what is put there instead.
BREAKS = [
    (rules.has_no_rights_by_default, "ci.yml", "permissions: {}", "permissions: read-all"),
    (rules.has_no_rights_by_default, "ci.yml", "    permissions:\n      contents: read # the code\n", ""),
    (rules.has_no_rights_by_default, "ci.yml",
     "permissions:\n      contents: read # the code", "permissions: write-all"),
    (rules.ends_in_time, "promote.yml", "    timeout-minutes: 60\n", ""),
    (rules.is_in_a_group, "watch.yml", "  cancel-in-progress: false\n", ""),
    (rules.has_one_shell, "ci.yml", "shell: bash", "shell: sh"),
    (rules.is_pinned, "ci.yml", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7"),
    (rules.is_pinned, "ci.yml", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@3d3c42e5aac5"),
    (rules.is_pinned, "ci.yml", "90b1 # v7.0.1", "90b1"),
    (rules.is_pinned, "build.yml", "uses: ./.phi-bot", "uses: ./elsewhere"),
    (rules.is_pinned, "promote.yml", "uses: ./.phi-bot", "uses: phi-bot/phi-bot@v1"),
    (rules.keeps_no_credentials, "reconvert.yml", "          persist-credentials: false\n", ""),
    (rules.runs_no_expression, "convert.yml",
     '"$LABEL" == convert:all', '"${{ github.event.label.name }}" == convert:all'),
    (rules.keeps_secrets_in_environments, "build.yml", "secrets.STAGE_TOKEN", "secrets.PROMOTE_TOKEN"),
    (rules.keeps_secrets_in_environments, "build.yml", "    environment: stage\n", ""),
    (rules.keeps_secrets_in_environments, "build.yml", "environment: stage", "environment: ${{ inputs.config }}"),
    (rules.keeps_secrets_in_environments, "build.yml", "${{ secrets.STAGE_TOKEN }}", "${{ toJSON(secrets) }}"),
    (rules.keeps_secrets_in_environments, "watch.yml",
     "$/.github/workflows/build.yml", "someone/else/.github/workflows/x.yml@v1"),
    (rules.keeps_secrets_in_environments, "build.yml",
     "    shell: bash", "    shell: bash\nenv:\n  T: ${{ secrets.STAGE_TOKEN }}"),
    (rules.keeps_secrets_in_environments, "watch.yml",
     "    secrets:\n      STAGE_TOKEN: ${{ secrets.STAGE_TOKEN }}\n", "    secrets: inherit\n"),
    (rules.keeps_caches_from_rights, "promote.yml", '          cache: "false"\n', ""),
    (rules.keeps_caches_from_rights, "candidates.yml", 'cache: "false"', 'cache: "true"'),
    (rules.keeps_caches_from_rights, "convert.yml", '          cache: "false"\n', ""),
    (rules.keeps_caches_from_rights, "ci.yml", "python-version: ${{ matrix.python }}", "cache: pip"),
    (rules.keeps_caches_from_rights, "build.yml", "publish: stage", 'publish: "yes"'),
    (rules.keeps_caches_from_rights, "release.yml", "uses: actions/download-artifact@", "uses: actions/cache/restore@"),
    (rules.trusts_no_pull_request, "reconvert.yml",
     "    timeout-minutes: 180", "    timeout-minutes: 180\n    environment: stage"),
    (rules.trusts_no_pull_request, "reconvert.yml", "contents: read # both sides", "id-token: write # both sides"),
    (rules.trusts_no_pull_request, "convert.yml", "contents: read # the head", "pull-requests: write # the head"),
    (rules.trusts_no_pull_request, "reconvert.yml",
     "github.event.pull_request.head.repo.full_name == github.repository", "true"),
    (rules.trusts_no_pull_request, "convert.yml", 'cache: "false"', "cache: ${{ secrets.STAGE_TOKEN }}"),
    (rules.trusts_no_pull_request, "reconvert.yml",
     "base.sha || job.workflow_sha }}", "head.sha || job.workflow_sha }}"),
    (rules.trusts_no_pull_request, "reconvert.yml", "        uses: ./.phi-bot", "        run: ./comment"),
    (rules.fetches_no_head_with_rights, "candidates.yml",
     "github.event.repository.default_branch }}\n", "github.event.workflow_run.head_sha }}\n"),
    (rules.fetches_no_head_with_rights, "candidates.yml",
     "          ref: ${{ github.event.repository.default_branch }}\n", ""),
    (rules.fetches_no_head_with_rights, "candidates.yml",
     "        with:\n          ref:",
     "        with:\n          repository: ${{ github.event.workflow_run.head_repository.full_name }}\n          ref:"),
    (rules.fetches_no_head_with_rights, "candidates.yml",
     "          path: .phi-bot\n", "          path: .phi-bot\n          allow-unsafe-pr-checkout: true\n"),
    (rules.fetches_no_head_with_rights, "candidates.yml", "path: ${{ runner.temp }}/candidates", "path: .phi-bot"),
    (rules.fetches_no_head_with_rights, "candidates.yml", "uses: ./.phi-bot", "run: make"),
    (rules.promotes_without_building, "promote.yml", "command: promote", "command: run"),
    (rules.promotes_without_building, "build.yml", "publish: stage", 'publish: "yes"'),
    (rules.promotes_without_building, "watch.yml", "          publish: stage\n", ""),
    (rules.promotes_without_building, "convert.yml", "command: plan", "command: plan\n          publish: stage"),
    (rules.promotes_without_building, "build.yml", "command: run", "command: promote"),
    (rules.fetches_the_bot_at_its_own_commit, "watch.yml", "${{ job.workflow_sha }}", "main"),
    (rules.fetches_the_bot_at_its_own_commit, "watch.yml", "          path: .phi-bot\n", ""),
    (rules.hands_the_action_what_it_takes, "build.yml", "variants: ${{", "variant: ${{"),
    (rules.hands_the_action_what_it_takes, "status.yml",
     "command: status", "command: status\n          runner: github"),
    (rules.hands_the_action_what_it_takes, "build.yml", "steps.build.outputs.report", "steps.build.outputs.reports"),
    (rules.describes_its_inputs, "watch.yml",
     "        description: The configuration, a path in the calling repository\n", ""),
    (rules.describes_its_inputs, "build.yml", "        type: string\n", ""),
    (rules.describes_its_inputs, "build.yml", "inputs.config", "inputs.configuration"),
    (rules.calls_what_is_there, "watch.yml", "workflows/build.yml", "workflows/builds.yml"),
    (rules.calls_what_is_there, "watch.yml", "      reports: true", "      reporting: true"),
    (rules.calls_what_is_there, "watch.yml", "      STAGE_TOKEN: ${{", "      PROMOTE_TOKEN: ${{"),
    (rules.calls_what_is_there, "watch.yml",
     "      issues: write # an issue for each release, where the configuration asks for it\n", ""),
    (rules.calls_what_is_there, "watch.yml",
     "id-token: write # a Trusted Publisher of the staging repo", "id-token: none # none"),
    (rules.chooses_runners_by_plan, "promote.yml", "runs-on: ubuntu-24.04", "runs-on: ubuntu-latest"),
    (rules.chooses_runners_by_plan, "promote.yml", "runs-on: ubuntu-24.04", "runs-on: self-hosted"),
    (rules.chooses_runners_by_plan, "ci.yml", "windows-2025", "windows-latest"),
    (rules.chooses_runners_by_plan, "convert.yml", "          runner: github\n", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "name", "old", "new"), BREAKS, ids=[f"{b[0].__name__}-{i}" for i, b in enumerate(BREAKS)]
)
def test_a_rule_finds_a_violation(rule: Rule, name: str, old: str, new: str) -> None:
    text = (ROOT / ".github/workflows" / name).read_text(encoding="utf-8")
    assert old in text
    found = list(rule(Workflow(name=f".github/workflows/{name}", text=text.replace(old, new))))
    assert found, f"{rule.__name__} does not see it"


def test_every_rule_is_broken_by_something() -> None:
    assert {rule for rule, *_ in BREAKS} == set(RULES)


def test_exceptions_are_in_one_place() -> None:
    for workflow in WORKFLOWS:
        assert not re.search(r"zizmor:\s*ignore", workflow.text), workflow.name
