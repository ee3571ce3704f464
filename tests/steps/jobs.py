"""Jobs and runners for tests of planning."""

from typing import Literal

from bot import catalogue
from bot.machines.estimate import estimate
from bot.machines.runners import GB, Runner
from bot.records.artifacts import Release, SourceFile
from bot.records.plans import Job, PlannedVariant
from bot.source.shape import Shape

CONFIG = {
    "architectures": ["Phi3ForCausalLM"],
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "torch_dtype": "bfloat16",
    "vocab_size": 32064,
}


def shape(parameters: int) -> Shape:
    """The shape of a model of so many parameters, with the vocabulary of Phi-3."""
    largest = min(3072 * 32064, parameters)
    count = {"BF16": parameters}
    return Shape(parameters=count, bytes=2 * parameters, largest=largest, layers=32, vocabulary=32064)


def release(parameters: int, *, name: str = "Phi-3.5-mini-instruct", commit: str | None = "c" * 40) -> Release:
    """A release of so many parameters in bfloat16."""
    weights = SourceFile(path="model.safetensors", size=2 * parameters, digest=f"sha256:{'0' * 64}")
    return Release(
        repo_id=f"microsoft/{name}",
        commit=commit,
        content_digest=f"{abs(hash((name, parameters))):064x}"[-64:],
        files=(weights,),
        config=CONFIG,
    )


def job(of: Release, *names: str, reason: Literal["new", "changed", "outdated"] = "new") -> Job:
    """A job that builds variants of one format, as the plan has it."""
    rows = catalogue.select(names)
    return Job(
        release=of,
        format=rows[0].format,
        variants=tuple(
            PlannedVariant(variant=v, build_key="0" * 64, repo_id="me/x", path_in_repo="", reason=reason) for v in rows
        ),
        toolchain_digest="0" * 64,
        estimate=estimate(shape(of.parameters), rows, of.config),
    )


def runner(
    name: str,
    *,
    system: str = "linux",
    architecture: str = "x86_64",
    cores: int = 4,
    memory: float = 16,
    disk: float = 50,
    gpu: bool = False,
    price: float = 0.0,
) -> Runner:
    """A runner, with memory and disk in GB."""
    return Runner.from_json(
        {
            "name": name,
            "kind": name.split("/")[0],
            "system": system,
            "architecture": architecture,
            "cores": cores,
            "memory": round(memory * GB),
            "disk": round(disk * GB),
            "accelerator": "nvidia" if gpu else "none",
            "accelerator_memory": 16 * GB if gpu else 0,
            "price": price,
            "labels": [name.split("/")[-1]] if name.startswith("github") else [],
        }
    )
