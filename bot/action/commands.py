"""The inputs of the action, as a command line of phi-bot."""

from pathlib import Path

from bot.action.inputs import Inputs
from bot.errors import ConfigError


def arguments(inputs: Inputs) -> list[str]:
    """Return the arguments of phi-bot. Raises ConfigError where a folder of reports holds none.

    Values stand in one word with their option, and names after ``--``, so that none of them can become an option.
    """
    match inputs.command:
        case "run":
            # `publish: no` goes for what the configuration says too: a namespace there is for other jobs.
            how = {"no": ["--no-publish"], "stage": ["--stage"], "yes": []}[inputs.publish]
            return ["run", *how, *_on(inputs), *_variants(inputs), *_common(inputs), "--json", "--", *inputs.models]
        case "plan":
            # Whoever plans what is then built for the public counts the attempts: the jobs that build may not.
            begin = [] if inputs.publish == "no" else ["--begin"]
            chosen = [*_on(inputs), *_variants(inputs), *_common(inputs)]
            return ["plan", "--matrix", *begin, *chosen, "--", *inputs.models]
        case "promote":
            reports = [] if inputs.reports is None else [f"--reports={inputs.reports}"]
            return ["promote", *reports, *_common(inputs), "--json", "--", *inputs.models]
        case "compare":
            sides = [f"--base={inputs.base}", f"--head={inputs.head}"]
            model = [] if inputs.model is None else [f"--model={inputs.model}"]
            return ["compare", *sides, *model, *_variants(inputs), *_out(inputs), *_common(inputs), "--json"]
        case "comment":
            return ["comment", *_pull(inputs), *_common(inputs), "--", str(_comparison(inputs.reports))]
        case "approve":
            return ["approve", *_common(inputs), "--json"]
        case "propose":
            return [
                "propose",
                f"--head={inputs.head}",
                *_pull(inputs),
                *_common(inputs),
                "--json",
                "--",
                *_artifacts(inputs.reports),
            ]
        case "conclude":
            return ["conclude", *_pull(inputs), *_common(inputs), "--json"]
        case "status":
            return ["status", *_out(inputs), *_common(inputs)]


def _common(inputs: Inputs) -> list[str]:
    given = {
        "config": inputs.config,
        "endpoint": inputs.endpoint,
        "namespace": inputs.namespace,
        "work": inputs.work,
    }
    found = [f"--{name}={value}" for name, value in given.items() if value is not None]
    if inputs.dry_run is not None:
        found.append("--dry-run" if inputs.dry_run else "--no-dry-run")
    return found


def _variants(inputs: Inputs) -> list[str]:
    return [f"--variants={','.join(inputs.variants)}"] if inputs.variants else []


def _on(inputs: Inputs) -> list[str]:
    return [f"--on={runner}" for runner in inputs.runner]


def _out(inputs: Inputs) -> list[str]:
    return [] if inputs.out is None else [f"--out={inputs.out}"]


def _pull(inputs: Inputs) -> list[str]:
    return [] if inputs.pull_request is None else [f"--pull={inputs.pull_request}"]


def _comparison(reports: Path | None) -> Path:
    if reports is None or not reports.is_dir():
        return reports or Path()
    return reports / "comparison.json"


def _artifacts(reports: Path | None) -> list[str]:
    """Return the folders below ``reports`` that a build left, without following links."""
    found = [] if reports is None else sorted(str(file.parent) for file in reports.rglob("build.json"))
    if not found:
        raise ConfigError(
            f"the input reports names a folder without an artifact: {reports}",
            hint="An artifact is a folder with a build.json: what `phi-bot run` leaves and its output artifacts names.",
        )
    return found
