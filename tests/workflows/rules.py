"""The project's own rules for workflows: each a function that yields what breaks it, in words.

zizmor knows the faults that every project can have. These rules know this one: which job may hold which token, which
code it may then run, and what the action takes.
"""

import re
from collections.abc import Callable, Iterator

import yaml

from bot.action.inputs import TAKEN_BY
from tests.workflows.reading import OURS, PRIVILEGED_TRIGGERS, ROOT, Step, Workflow

Rule = Callable[[Workflow], Iterator[str]]

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))

#: The one secret of each environment. The others have none: who they are trusted as is what GitHub says of the run.
SECRETS = {"plan": "PLAN_TOKEN", "stage": "STAGE_TOKEN", "promote": "PROMOTE_TOKEN"}
KEYS = {"promote": "SIGNING_KEY"}  #: what an environment may have beside its token
ENVIRONMENTS = {*SECRETS, "package", "release", "github-pages"}

#: Where the bot's code may come from: the commit of the workflow, or, where that is the pull request's, its base.
OWN_COMMIT = "${{ job.workflow_sha }}"
OWN_REPOSITORY = "${{ job.workflow_repository }}"
BASE_OR_OWN = (
    "${{ job.workflow_repository == github.repository && github.event.pull_request.base.sha || job.workflow_sha }}"
)
DEFAULT_BRANCH = "${{ github.event.repository.default_branch }}"

_PINNED = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w./-]+)?@[0-9a-f]{40} # v\d+\.\d+\.\d+")
_NOT_A_FORK = "github.event.pull_request.head.repo.full_name == github.repository"


def has_no_rights_by_default(workflow: Workflow) -> Iterator[str]:
    """At the top stands that there are no rights, and each job says what it needs."""
    if workflow.data.get("permissions") != {}:
        yield "the workflow does not begin with `permissions: {}`"
    for job in workflow.jobs:
        if "permissions" not in job.data:
            yield f"{job.id}: says nothing of its permissions"
        if "*" in job.permissions:
            yield f"{job.id}: has all permissions"


def ends_in_time(workflow: Workflow) -> Iterator[str]:
    """Each job has a time limit; one that calls a workflow has that one's."""
    for job in workflow.jobs:
        if job.steps and "timeout-minutes" not in job.data:
            yield f"{job.id}: has no time limit"


def is_in_a_group(workflow: Workflow) -> Iterator[str]:
    """What happens to two runs at once is said."""
    found = workflow.data.get("concurrency")
    if not isinstance(found, dict) or not {"group", "cancel-in-progress"} <= found.keys():
        yield "no concurrency group that says what becomes of the run before"


def has_one_shell(workflow: Workflow) -> Iterator[str]:
    """Scripts are bash's on every system."""
    scripts = any(step.script for job in workflow.jobs for step in job.steps)
    if scripts and workflow.data.get("defaults") != {"run": {"shell": "bash"}}:
        yield "there are scripts, and their shell is not bash for all"


def is_pinned(workflow: Workflow) -> Iterator[str]:
    """What is used is of this repository, or of a full commit that a comment gives the version of."""
    for line in workflow.text.splitlines():
        found = re.fullmatch(r"\s*(?:- )?uses: (.+)", line)
        if not found:
            continue
        used = found[1].strip("'\"")
        if used.startswith("$/") or used in ("./", "./.phi-bot") or _PINNED.fullmatch(used):
            continue
        if not (workflow.is_example and re.fullmatch(rf"{OURS}(?:/\S+)?@v\d+", used)):
            yield f"{used}: neither a commit with a version beside it, nor this repository's"


def keeps_no_credentials(workflow: Workflow) -> Iterator[str]:
    """Git's token does not stay in the checkout."""
    for job in workflow.jobs:
        for step in job.checkouts:
            if step.inputs.get("persist-credentials") != "false":
                yield f"{job.id}: a checkout keeps its credentials"


def runs_no_expression(workflow: Workflow) -> Iterator[str]:
    """Nothing is put into a script: what it needs comes by the environment."""
    for job in workflow.jobs:
        for step in job.steps:
            if "${{" in step.script:
                yield f"{job.id}: an expression in a script"


def keeps_secrets_in_environments(workflow: Workflow) -> Iterator[str]:
    """A job sees the secret of its own environment alone; a call hands secrets to this project's workflows alone."""
    for job in workflow.jobs:
        if job.environment is not None and job.environment not in ENVIRONMENTS:
            yield f"{job.id}: nobody knows the environment {job.environment}"
        if job.uses:
            if job.secrets and job.calls is None:
                yield f"{job.id}: hands secrets to {job.uses}"
            if "*" in job.secrets:
                yield f"{job.id}: hands on every secret"
            continue
        own = {held[job.environment] for held in (SECRETS, KEYS) if job.environment in held}
        if job.secrets - own:
            yield f"{job.id}: takes {', '.join(sorted(job.secrets - own))}, which its environment does not give it"
    if "secrets." in yaml.safe_dump({k: v for k, v in workflow.data.items() if k not in ("jobs", "on")}):
        yield "a secret outside of the jobs"


def keeps_caches_from_rights(workflow: Workflow) -> Iterator[str]:
    """A job takes things from a cache only if it can change nothing but the staging repo, and no stranger starts it."""
    strangers = bool({"pull_request", *PRIVILEGED_TRIGGERS} & workflow.triggers.keys())
    for job in workflow.jobs:
        harmless = not (job.environment or job.writes) or (job.environment == "stage" and job.writes <= {"id-token"})
        for step in job.steps:
            if harmless and not strangers and step.inputs.get("publish") != "yes":
                continue
            cached = step.inputs.get("cache")
            if re.match(r"actions/cache[@/]", step.uses) or (not step.is_ours and cached is not None):
                yield f"{job.id}: takes from a cache"
            if step.is_ours and cached != "false":
                yield f'{job.id}: does not say cache: "false"'


def trusts_no_pull_request(workflow: Workflow) -> Iterator[str]:
    """A pull request's workflow has no secret, and no right but to comment, which it does with the base's code."""
    if "pull_request" not in workflow.triggers:
        return
    for job in workflow.jobs:
        if job.uses:
            if job.secrets:
                yield f"{job.id}: hands on secrets"
            continue
        if job.secrets or job.environment:
            yield f"{job.id}: has a secret or an environment"
        if not job.writes:
            continue
        if job.writes != {"pull-requests"}:
            yield f"{job.id}: may do more than comment: {', '.join(sorted(job.writes))}"
        if _NOT_A_FORK not in str(job.data.get("if", "")):
            yield f"{job.id}: has a right, and runs for forks"
        for step in job.checkouts:
            if (step.inputs.get("repository"), step.inputs.get("ref")) != (OWN_REPOSITORY, BASE_OR_OWN):
                yield f"{job.id}: has a right, and fetches other code than the base's"
        if any(step.script for step in job.steps):
            yield f"{job.id}: has a right, and a script of the pull request's"


def fetches_no_head_with_rights(workflow: Workflow) -> Iterator[str]:
    """What a stranger can start with the base's rights runs the default branch's code, and keeps data away from it."""
    if not PRIVILEGED_TRIGGERS & workflow.triggers.keys():
        return
    for job in workflow.jobs:
        for step in job.checkouts:
            if step.inputs.get("ref") != DEFAULT_BRANCH or "repository" in step.inputs:
                yield f"{job.id}: fetches other code than the default branch's"
            if "allow-unsafe-pr-checkout" in step.inputs:
                yield f"{job.id}: turns off what keeps a checkout from a stranger's code"
        for step in job.steps:
            if step.script:
                yield f"{job.id}: runs a script"
            if step.is_of("actions/download-artifact") and not step.inputs.get("path", "").startswith(
                "${{ runner.temp }}/"
            ):
                yield f"{job.id}: puts a stranger's files among its own"


def promotes_without_building(workflow: Workflow) -> Iterator[str]:
    """No job both reads model files and can publish."""
    for job in workflow.jobs:
        for step in job.steps:
            if not step.is_ours:
                continue
            command = step.inputs.get("command", "run")
            if command == "run" and job.environment not in (None, "stage"):
                yield f"{job.id}: builds in the environment {job.environment}"
            if command == "run" and job.environment == "stage" and step.inputs.get("publish") != "stage":
                yield f"{job.id}: holds a token, and does more than stage"
            if command == "plan" and (job.environment == "plan") != (step.inputs.get("publish") == "stage"):
                yield f"{job.id}: counts attempts without a token for it, or has one and does not count"
            if command in ("promote", "propose", "conclude") and job.environment != "promote":
                yield f"{job.id}: publishes outside of the environment promote"


def fetches_the_bot_at_its_own_commit(workflow: Workflow) -> Iterator[str]:
    """The bot in ``.phi-bot`` is of the commit of the workflow, or of what is more trusted than that."""
    for job in workflow.jobs:
        there = [s for s in job.checkouts if s.inputs.get("path") == ".phi-bot"]
        if any(step.uses == "./.phi-bot" for step in job.steps) and len(there) != 1:
            yield f"{job.id}: does not fetch the bot once"
        for step in there:
            found = (step.inputs.get("repository"), step.inputs.get("ref"))
            if found not in ((OWN_REPOSITORY, OWN_COMMIT), (OWN_REPOSITORY, BASE_OR_OWN), (None, DEFAULT_BRANCH)):
                yield f"{job.id}: fetches the bot from {found}"


def hands_the_action_what_it_takes(workflow: Workflow) -> Iterator[str]:
    """Inputs of the action are those that it has, for the command; outputs that are read are those that it writes."""
    for job in workflow.jobs:
        ours = [step for step in job.steps if step.is_ours]
        for step in ours:
            command = step.inputs.get("command", "run")
            for name in step.inputs:
                if name not in ACTION["inputs"]:
                    yield f"{job.id}: the action has no input {name}"
                elif command not in TAKEN_BY.get(name, (command,)):
                    yield f"{job.id}: {command} takes no {name}"
        for step in ours:
            for name in re.findall(rf"steps\.{re.escape(str(step.data.get('id')))}\.outputs\.([\w-]+)", job.text):
                if name not in ACTION["outputs"]:
                    yield f"{job.id}: the action has no output {name}"


def describes_its_inputs(workflow: Workflow) -> Iterator[str]:
    """Inputs, secrets and outputs are described, inputs have a type, and those that are read are there."""
    for kind in ("inputs", "secrets", "outputs"):
        for trigger, name, about in workflow.declared(kind):
            if not about.get("description"):
                yield f"{trigger}: {kind[:-1]} {name} has no description"
            if kind == "inputs" and "type" not in about:
                yield f"{trigger}: input {name} has no type"
    known = {name for _, name, _ in workflow.declared("inputs")}
    for name in set(re.findall(r"\binputs\.([\w-]+)", yaml.safe_dump(workflow.data["jobs"]))) - known:
        yield f"there is no input {name}"


def calls_what_is_there(workflow: Workflow) -> Iterator[str]:
    """A called workflow takes the inputs and secrets that it gets, and the caller has the rights that it asks for."""
    for job in workflow.jobs:
        if job.calls is None:
            continue
        path = ROOT / ".github/workflows" / job.calls
        if not path.exists():
            yield f"{job.id}: there is no {job.calls}"
            continue
        called = Workflow.read(path)
        for kind, key in (("inputs", "with"), ("secrets", "secrets")):
            given = job.data.get(key, {})
            known = {name for trigger, name, _ in called.declared(kind) if trigger == "workflow_call"}
            for name in set(given if isinstance(given, dict) else {}) - known:
                yield f"{job.id}: {job.calls} takes no {kind[:-1]} {name}"
        for right in sorted(asked(called)):
            if not _covers(job.permissions.get(right[0]), right[1]):
                yield f"{job.id}: {job.calls} asks for {right[0]}: {right[1]}"


def asked(workflow: Workflow) -> set[tuple[str, str]]:
    """Return the rights that the jobs of a workflow ask for, and those of what they call."""
    return {right for job in workflow.jobs for right in job.permissions.items()}


def _covers(given: str | None, asked_for: str) -> bool:
    order = (None, "none", "read", "write")
    return order.index(given) >= order.index(asked_for)


def chooses_runners_by_plan(workflow: Workflow) -> Iterator[str]:
    """A runner is GitHub's, of a fixed version, or what the plan says; a stranger's code gets GitHub's own."""
    for job in workflow.jobs:
        found = str(job.data.get("runs-on", ""))
        if found == "${{ fromJSON(matrix.runs_on) }}":
            continue
        systems = job.data["strategy"]["matrix"].get("os", []) if found == "${{ matrix.os }}" else [found]
        for system in systems if not job.uses else ():
            if not re.fullmatch(r"(?:ubuntu|macos|windows)-[0-9.]+(?:-arm)?", system):
                yield f"{job.id}: runs on {system}"
    if "pull_request" in workflow.triggers:
        for step in _plans(workflow):
            if step.inputs.get("runner") != "github":
                yield "a stranger's code could come to a machine of one's own"


def _plans(workflow: Workflow) -> Iterator[Step]:
    for job in workflow.jobs:
        yield from (s for s in job.steps if s.is_ours and s.inputs.get("command") == "plan")


RULES: tuple[Rule, ...] = (
    has_no_rights_by_default,
    ends_in_time,
    is_in_a_group,
    has_one_shell,
    is_pinned,
    keeps_no_credentials,
    runs_no_expression,
    keeps_secrets_in_environments,
    keeps_caches_from_rights,
    trusts_no_pull_request,
    fetches_no_head_with_rights,
    promotes_without_building,
    fetches_the_bot_at_its_own_commit,
    hands_the_action_what_it_takes,
    describes_its_inputs,
    calls_what_is_there,
    chooses_runners_by_plan,
)
