"""The weights of several artifacts, held against their streaming source in one reading of it.

Each artifact has its own worker, for toolchains have separate environments; all read in one order (worker/order.py)
what comes once (building/streams.py). They compute a little and hold little, so they run at the same time.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from bot.building.release_at_hand import AtHand
from bot.context import Context
from bot.errors import PhiBotError
from bot.formats.registry import worker_module
from bot.progress import Silent, Task, Together, show_event
from bot.records.artifacts import Artifact, Json, Release
from bot.records.failures import interruption
from bot.records.tasks import VerifyTask
from bot.source.shape import Shape
from bot.system.together import memory, run_together
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from bot.workspace import solved_file

Found = Json | PhiBotError  #: what a worker says of the weights, or what it ended of

_MEMORY = 700_000_000  # bytes of a worker beside its largest tensor: its libraries, and parts of two tensors


def compare_weights(
    artifacts: Sequence[Artifact], release: Release, given: AtHand, reference: Path, context: Context
) -> dict[str, Found]:
    """Return what comparing the weights of artifacts of one release shows, by their build keys.

    An artifact whose worker fails holds up no other. As many are compared in one reading as this machine has memory
    for. On Ctrl-C the workers are ended. Raises what ``ensure`` does.
    """
    toolchains = {name: ensure(name, context.display) for name in {a.build.variant.format for a in artifacts}}
    found: dict[str, Found] = {}
    stream = given.stream
    assert stream is not None  # noqa: S101 - what is kept is read where it lies
    interrupted = interruption()
    for together in _readings(artifacts, given.shape):
        title = f"Comparing the weights of {len(together)} files with those of {release.label}"
        with ExitStack() as stack, context.display.task(title) as task:
            shown = Together(Silent(), task, "comparing weights", "tensors")
            # All take their places before the first one begins: what it is done with stays for the others.
            places = [replace(given, reader=stack.enter_context(stream.reader())) for _ in together]
            work = [
                partial(_compare, artifact, place, toolchains[artifact.build.variant.format], reference, context, shown)
                for artifact, place in zip(together, places, strict=True)
            ]
            results = run_together(work, lambda: stream.fail(interrupted))
            found |= {a.build.build_key: result for a, result in zip(together, results, strict=True)}
    return found


def _readings(artifacts: Sequence[Artifact], shape: Shape) -> Iterator[Sequence[Artifact]]:
    """Yield the artifacts whose workers this machine has memory for at the same time."""
    each = _MEMORY + 2 * shape.largest
    count = max(1, int(memory() // each))
    yield from (artifacts[i : i + count] for i in range(0, len(artifacts), count))


def _compare(
    artifact: Artifact,
    given: AtHand,
    toolchain: Toolchain,
    reference: Path,
    context: Context,
    shown: Together,
) -> Found:
    variant = artifact.build.variant
    request = VerifyTask(
        artifact=str(Path(artifact.folder) / "files"),
        variant=variant,
        source=str(given.folder),
        reference=str(reference),
        threads=context.threads,
        streamed=True,
        part="weights",
        solved=solved_file(artifact),
    )
    log = context.workspace.log(f"{variant.name}-verify-{artifact.build.source.content_digest[:12]}")
    with shown.task(variant.name) as task:
        try:
            return run_verify(given, toolchain, request, log, task)
        except PhiBotError as error:
            return error
        finally:
            if given.reader is not None:  # one whose worker did not begin would keep all that comes
                given.reader.close()


def run_verify(given: AtHand, toolchain: Toolchain, request: VerifyTask, log: Path, task: Task) -> Json:
    """Let a worker check an artifact, or its weights alone. Raises what ``AtHand.run_worker`` raises."""
    module, show = worker_module(toolchain.name), partial(show_event, task)
    return given.run_worker(toolchain, module, "verify", request, log=log, on_event=show)
