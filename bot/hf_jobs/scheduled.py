"""The job by which a bot runs on the Hub by itself, on a schedule or when a watched author changes."""

import dataclasses
from dataclasses import dataclass

from bot.context import Context
from bot.hf_jobs.run import KIND, environment, phi_bot
from bot.hub.jobs import JobOrder, token_of
from bot.hub.scheduled import labels
from bot.machines.runners import Runner
from bot.publishing.rights import payer, require, state_repo
from bot.records.digests import digest_of

HOURS = 6  # that one run may take; the jobs that it started go on, and the next run finds them


@dataclass(frozen=True, kw_only=True)
class ScheduledBot:
    """The job, who pays for it, whose token it gets, and what one run costs at most, in US dollars."""

    order: JobOrder
    payer: str
    account: str
    most: float


def scheduled_bot(purpose: str, context: Context, *, on: str, runner: Runner) -> ScheduledBot:
    """Return the job that runs phi-bot with this configuration: ``on`` is where its own jobs are built.

    Raises ConfigError without a namespace or for a runner that is none of Hugging Face Jobs, and TokenError.
    """
    config, hub = context.config, context.hub
    namespace = config.namespace("a bot that runs by itself needs a namespace to publish in")
    if hub.publishers is None:
        require(hub, [state_repo(config, namespace)])
    hub.check_jobs(payer(config))
    here = dataclasses.replace(config, hub=dataclasses.replace(config.hub, endpoint=hub.endpoint))
    command = phi_bot(("run", "--on", on), here)
    told = environment(here)
    account = hub.whoami()
    order = JobOrder(
        name=f"phi-bot {purpose} {namespace}",
        digest=digest_of({"purpose": purpose, "command": list(command), "environment": told}),
        image=config.hf_jobs.image,
        command=command,
        environment=told,
        secrets={"HF_TOKEN": token_of(hub)},
        flavor=runner.name.removeprefix(KIND),
        seconds=HOURS * 3600,
        labels=labels(purpose, namespace),
    )
    return ScheduledBot(order=order, payer=payer(config), account=account, most=HOURS * runner.price)
