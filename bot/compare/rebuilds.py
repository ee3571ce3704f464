"""What merging would have built anew in a namespace, and what that costs: the bot's own planning, on both sides."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bot import temporary
from bot.compare import child, foreign
from bot.compare.child import ChildError, Code
from bot.compare.records import Rebuild, Rebuilds
from bot.record import Record

_SCRIPT = Path(__file__).with_name("planning.py")
_SECONDS = 900.0
_REASON = 500  # characters


@dataclass(frozen=True, kw_only=True)
class _Planned(Record):
    """What bot/compare/planning.py prints."""

    models: tuple[str, ...] = ()
    due: tuple[str, ...] = ()  # each a release's content digest and a variant
    jobs: tuple[Rebuild, ...] = ()
    problem: str = ""


def rebuilds(base: Code, head: Code, namespace: str) -> Rebuilds:
    """Return what the head would build in a namespace and the base would not, with estimates and runners.

    What is to be built there in any case, as a release of yesterday, is no work of the change. That the Hub cannot be
    read, or that a side cannot plan, is said in ``problem``.
    """
    try:
        before = _plan(base, namespace, ())
        after = _plan(head, namespace, before.due)
    except ChildError as error:
        return Rebuilds(namespace=namespace, problem=str(error)[:_REASON])
    return Rebuilds(
        namespace=namespace,
        jobs=after.jobs,
        watched=tuple(sorted(set(after.models) - set(before.models))),
        unwatched=tuple(sorted(set(before.models) - set(after.models))),
    )


def _plan(code: Code, namespace: str, known: Sequence[str]) -> _Planned:
    with temporary.folder("plan-") as folder:
        task = folder / "task.json"
        asked = {"namespace": namespace, "work": str(folder), "except": list(known)}
        task.write_text(json.dumps(asked), encoding="utf-8")
        done = child.run(code, [str(_SCRIPT), str(task)], seconds=_SECONDS, network=True)
    if done.returncode != 0:
        raise ChildError(child.said(done))
    planned = foreign.read(_Planned, done.stdout)
    if planned.problem:
        raise ChildError(planned.problem)
    return planned
