"""What rounding each matrix costs: found once per release, by one backward pass, and shared by all formats."""

from functools import partial
from pathlib import Path

from bot.building.computing import computing
from bot.building.release_at_hand import AtHand
from bot.context import Context
from bot.formats import recipes
from bot.printable import duration, size
from bot.progress import show_event
from bot.records.artifacts import Json, Release
from bot.records.digests import digest_of
from bot.records.tasks import SensitivitiesTask
from bot.toolchains.install import ensure


def digest(release: Release) -> str:
    """Return the digest of all that decides the sensitivities: the model, the text, and what finds them."""
    return digest_of([release.content_digest, recipes.sensitivities_digest()])


def sensitivities(release: Release, given: AtHand, context: Context) -> Path:
    """Return the folder of a release's sensitivities (see bot/worker/sensitivities.py), finding them if need be.

    Raises what running a worker raises.
    """
    workspace, display = context.workspace, context.display
    folder = workspace.sensitivities(digest(release))
    if workspace.has(folder):
        return folder
    toolchain = ensure("reference", display)
    title = f"Finding what rounding each matrix of {release.label} costs"
    with computing(folder, "sensitivities", title, context) as at:
        if at is None:
            return folder
        text, states = at.scratch / recipes.TEXT, at.scratch / "states"
        text.write_text(recipes.text(), encoding="utf-8")
        states.mkdir()
        request = SensitivitiesTask(
            source=str(given.folder),
            text=str(text),
            out=str(at.out),
            scratch=str(states),
            threads=context.threads,
            streamed=given.stream is not None,
        )
        done: Json = given.run_worker(
            toolchain, "bot.worker.backward", "weigh", request, log=at.log, on_event=partial(show_event, at.task)
        )
    memory, seconds = size(done["peak_memory"]), duration(done["seconds"])
    display.say(f"Sensitivities: {done['tokens']} tokens, peak memory {memory}, {seconds}")
    return folder
