"""MLX in the memory of a few rows: what ``mlx_lm.convert`` writes, computed chunk by chunk, each put at its place.

mlx-lm itself reads the config, builds the model and says what becomes of each parameter; all of that is lazy, and takes
no memory. Only its last step is another one here: it computes all arrays of a file and then writes them, so that they
are all held (3.0 GB for 3.8 B parameters in 4 bits, 7.6 GB in 16). Here MLX quantizes and casts chunks of rows, which
gives the same numbers, for its groups lie in a row; and all variants take their chunk from one reading.
"""

import itertools
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bot.formats.mlx.worker import model as models
from bot.formats.mlx.worker.layout import Layout, index, layout
from bot.formats.mlx.worker.reading import Parameter
from bot.formats.mlx.worker.writing import Output, Recipe, write
from bot.records.artifacts import Json
from bot.records.tasks import BuildTask, Target
from bot.worker.calibrated import Solver, at_work_on, solver_of
from bot.worker.fast import NotCovered, require_versions
from bot.worker.feed import Feed
from bot.worker.harness import Foreseen, Reporter, error_line
from bot.worker.mapped import Mapped
from bot.worker.placed import PlacedFile

PINNED = {"mlx": "0.32.4", "mlx-lm": "0.32.2"}
_MODELS = ("phi", "phi3", "phimoe")  # whose weights mlx-lm takes as they are, or stacks experts of, and no more
_EXPERTS = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The plan of a target's files, and the parameters that they are made of."""

    target: Target
    recipe: Recipe
    parameters: tuple[Parameter, ...]
    layout: Layout
    config: dict[str, Json]
    index: dict[str, Json]

    def begin(self, scratch: Path, opened: ExitStack, solver: Solver | None) -> Output:
        """Open the files, new ones or those of a build that was killed. A calibrated target takes the ``solver``."""
        folder = Path(self.target.partial) if self.target.partial else scratch / self.target.variant.short_name
        recipe: dict[str, Json] = {"cast": self.recipe.cast, "quantized": dict(self.recipe.quantized)}
        at_work = at_work_on(self.target.variant, solver, folder)
        if at_work is not None:
            recipe["moments"] = at_work.moments
        files = {}
        for name, header in self.layout.headers.items():
            plan = {"versions": PINNED, "recipe": recipe, "header": header.hex()}
            parts = {n: (p.begin, p.begin + p.size) for n, p in self.layout.places.items() if p.file == name}
            files[name] = opened.enter_context(PlacedFile(folder, name, self.layout.sizes[name], plan, parts))
            files[name].write(header, 0)
        return Output(recipe=replace(self.recipe, solver=at_work), places=self.layout.places, files=files)

    def finish(self, output: Output, source: Path, stop: Sequence[int]) -> dict[Path, str]:
        """Leave all files in the target's folder; return the SHA-256 of those that hold weights, in hex."""
        out = Path(self.target.out)
        models.write_beside(source, out, self.config, stop)
        (out / "model.safetensors.index.json").write_text(json.dumps(self.index, indent=4), encoding="utf-8")
        return {out / name: file.finish(out / name) for name, file in output.files.items()}


def build(task: BuildTask, source: Path, report: Reporter) -> None:
    """Build all targets in one pass over the weights. One that mlx-lm cannot make fails alone.

    Raises NotCovered, NotTaken when mlx-lm cannot read the model, and OSError when the disk fills up.
    """
    require_versions(PINNED)
    scratch = Path(task.scratch)
    mapped = Mapped(Path(task.source), Feed(report) if task.streamed else None)
    plans = []
    for target in task.targets:
        try:
            plans.append(_plan(source, target, mapped, scratch))
        except (NotCovered, Foreseen):
            raise
        except Exception as error:  # noqa: BLE001 - whatever mlx-lm says of this variant
            report.failed(target.variant, f"mlx-lm failed: {error_line(error)}")
    if not plans:
        return
    stop = models.checked_stop_ids(source)
    what = f"converting to {', '.join(plan.target.variant.short_name for plan in plans)}"
    with ExitStack() as opened:
        solver = opened.enter_context(solver_of(task))
        outputs = [plan.begin(scratch, opened, solver) for plan in plans]
        write(
            outputs,
            plans[0].parameters,
            mapped,
            threads=task.threads,
            progress=lambda done, total: report.progress(what, done, total, "bytes"),
        )
        hashed: dict[Path, str] = {}
        for plan, output in zip(plans, outputs, strict=True):
            hashed |= plan.finish(output, source, stop)
    solved = {
        plan.target.variant.name: output.recipe.solver.done
        for plan, output in zip(plans, outputs, strict=True)
        if output.recipe.solver is not None
    }
    report.built_together([plan.target for plan in plans], hashed, solved)


def _plan(source: Path, target: Target, mapped: Mapped, scratch: Path) -> _Plan:
    from mlx.utils import tree_flatten

    model, config = models.lazy_model(source, target.variant)
    if config.get("model_type") not in _MODELS:
        raise NotCovered(f"it does not know models of type {config.get('model_type')}")
    quantized = _quantized(model)
    made = {f"{name.removesuffix('weight')}{part}" for name in quantized for part in ("scales", "biases")}
    found = layout(model, scratch)
    return _Plan(
        target=target,
        recipe=Recipe(cast=models.dtype(target.variant, config), quantized=quantized),
        parameters=tuple(_parameter(n, mapped) for n, _ in tree_flatten(model.parameters()) if n not in made),
        layout=found,
        config=config,
        index=index(model, found.places),
    )


def _quantized(model: Any) -> dict[str, tuple[int, int]]:
    """Return the group size and bits of each parameter that mlx-lm quantizes."""
    from mlx import nn
    from mlx.utils import tree_flatten

    found = {}
    for path, module in tree_flatten(model.leaf_modules(), is_leaf=lambda m: isinstance(m, nn.Module)):
        if "scales" in module:
            if module.mode != "affine":
                raise NotCovered(f"it does not know the quantization {module.mode}")
            found[f"{path}.weight"] = (module.group_size, module.bits)
    return found


def _parameter(name: str, mapped: Mapped) -> Parameter:
    """Return where a parameter comes from: the tensor of its name or, of the experts of a layer, all of them."""
    if name in mapped.stored:
        return Parameter(name=name, sources=(name,))
    layer, experts, matrix = name.partition(".switch_mlp.")
    kind, _, rest = matrix.partition(".")
    if experts and kind in _EXPERTS:
        numbered = (f"{layer}.experts.{n}.{_EXPERTS[kind]}.{rest}" for n in itertools.count())
        if sources := tuple(itertools.takewhile(lambda source: source in mapped.stored, numbered)):
            return Parameter(name=name, sources=sources)
    raise NotCovered(f"it does not know where {name} comes from")
