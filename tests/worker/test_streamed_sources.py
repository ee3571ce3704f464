"""A source that streams gives the same reference and the same evidence as one that is kept."""

import json
from pathlib import Path

import pytest

from bot import catalogue
from bot.building.release_at_hand import AtHand
from bot.errors import HubUnreachableError
from bot.formats.registry import all_formats
from bot.hub.headers import TensorRange
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.records.tasks import ReferenceTask, VerifyTask
from bot.toolchains.install import ensure
from bot.worker.tensors import Tensors
from tests.worker.running import build, failures, measure, streaming

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("warm_toolchains")]


def test_a_reference_is_the_same(sample: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "reference"
    out.mkdir()
    with streaming(sample, tmp_path / "source") as stream:
        given = AtHand(folder=tmp_path / "source", stream=stream)
        task = ReferenceTask(source=str(given.folder), out=str(out), threads=2, streamed=True)
        found = ensure("reference", Silent())
        given.run_worker(found, "bot.worker.reference", "compute", task, log=tmp_path / "log", on_event=lambda _: None)
        weights = sum(s.stat().st_size for s in sample.glob("*.safetensors"))
        assert 0.9 * weights < stream.fetched < 1.5 * weights  # each tensor once, and the embedding again as the head
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in reference.iterdir()}


def verified(given: AtHand, artifact: Path, variant: str, reference: Path, log: Path) -> Json:
    row = catalogue.all_variants()[variant]
    config = json.loads((given.folder / "config.json").read_text())
    task = VerifyTask(
        artifact=str(artifact),
        variant=row,
        source=str(given.folder),
        reference=str(reference),
        threads=2,
        read_differently=tuple(all_formats()[row.format].read_differently(config)),
        streamed=True,
    )
    found = ensure(row.format, Silent())
    return given.run_worker(found, f"bot.formats.{row.format}.worker", "verify", task, log=log, on_event=lambda _: None)


@pytest.mark.parametrize("variant", ["gguf/q8_0", "mlx/4bit"])
def test_evidence_is_the_same(sample: Path, reference: Path, tmp_path: Path, variant: str) -> None:
    row, log = catalogue.all_variants()[variant], tmp_path / "log"
    toolchain = ensure(row.format, Silent())
    artifact = build(toolchain, sample, [row], tmp_path / "job", log=log).folders[variant]
    kept = measure(toolchain, artifact, row, sample, reference, log)
    with streaming(sample, tmp_path / "source") as stream:
        streamed = verified(AtHand(folder=tmp_path / "source", stream=stream), artifact, variant, reference, log)
    assert failures(streamed) == {}
    assert streamed["checks"] == kept["checks"]  # the largest error in the weights among them
    assert streamed["distances"] == kept["distances"]


def test_a_refusal_of_the_hub_is_not_the_artifacts_fault(sample: Path, reference: Path, tmp_path: Path) -> None:
    row = catalogue.all_variants()["mlx/4bit"]
    toolchain = ensure("mlx", Silent())
    artifact = build(toolchain, sample, [row], tmp_path / "job", log=tmp_path / "log").folders[row.name]
    with streaming(sample, tmp_path / "source") as stream:

        def refuse(place: TensorRange, take: object) -> None:
            raise HubUnreachableError(f"{place.file.path} does not come", hint="Try again.")

        stream._read = refuse
        given = AtHand(folder=tmp_path / "source", stream=stream)
        with pytest.raises(HubUnreachableError, match="does not come"):
            verified(given, artifact, row.name, reference, tmp_path / "log")


def test_each_tensor_is_asked_for_once_while_it_is_read_in_parts(sample: Path) -> None:
    asked: list[str] = []

    class Feed:
        def order(self, names: list[str]) -> None:
            asked.append(f"order of {len(names)}")

        def need(self, name: str) -> None:
            asked.append(name)

        def release(self, name: str) -> None:
            asked.append(f"-{name}")

    tensors = Tensors(sample, Feed())  # type: ignore[arg-type]
    first, second = list(tensors.names())[:2]
    tensors.order([first, second])
    for start in range(3):
        tensors.read(first, start, start + 1)
    tensors.read(second)
    assert asked == ["order of 2", first, f"-{first}", second]
