"""What builds of several formats are held to alike: tests of each call these with its toolchain and its variants."""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pytest

from bot.errors import DamagedTokenizerError, DamagedWeightsError, SourceError
from bot.records.artifacts import Json, Variant
from bot.toolchains import Toolchain
from tests.worker.running import Built, build, copy_of, damage_last_shard, distances, failures, measure


def assert_nothing_of_the_machine_is_in(built: Built, source: Path) -> None:
    """No file names the folder that it was built in, or the one that it was built from."""
    for name, folder in built.folders.items():
        for content in built.files(name).values():
            assert str(folder.parent).encode() not in content
            assert str(source).encode() not in content


def assert_generate_the_same(measured: Iterable[Json]) -> None:
    """All variants that were measured generate the same texts, and none of those is empty."""
    first, *others = ([g["text"] for g in m["generations"]] for m in measured)
    assert others == [first] * len(others)
    assert all(first)


def assert_verified_greedily(
    measured: Json, variant: Variant, toolchain: Toolchain, sample: Path, reference: Path, folder: Path
) -> None:
    """A variant of a source that asks for sampling is made to generate what the ``measured`` one of the sample does."""
    source, log = copy_of(sample, folder / "source"), folder / "log"
    file = source / "generation_config.json"
    config = json.loads(file.read_text()) | {"do_sample": True, "temperature": 1.5, "top_p": 0.95, "top_k": 50}
    file.chmod(0o644)
    file.write_text(json.dumps(config))
    sampling = build(toolchain, source, [variant], folder / "job", log=log)
    asked = measure(toolchain, sampling.folders[variant.name], variant, sample, reference, log)
    assert [g["ids"] for g in asked["generations"]] == [g["ids"] for g in measured["generations"]]


def assert_predicts_what_the_original_does(
    toolchain: Toolchain, variant: Variant, source: Path, reference: Path, folder: Path, *, sides: Collection[str]
) -> Json:
    """A variant in float32 is the original on the ``sides`` of the switch that there are; return what was measured."""
    built = build(toolchain, source, [variant], folder / "job", log=folder / "log")
    measured = measure(toolchain, built.folders[variant.name], variant, source, reference, folder / "log")
    assert "predictions" not in failures(measured)  # which say nothing of windows that could not be read
    found = distances(measured)
    assert set(found) == set(sides)
    for distance in found.values():
        assert abs(distance.figures.mean_kl) < 1e-6
        assert distance.figures.top1_agreement > 0.99
    return measured


def assert_fails_alone(
    toolchain: Toolchain, impossible: Variant, other: Variant, source: Path, folder: Path, said: str
) -> None:
    """A variant that cannot be made leaves nothing, and the other one of its job is built."""
    built = build(toolchain, source, [impossible, other], folder / "job", log=folder / "log")
    assert built.names == [other.name]
    assert built.failures[impossible.name].startswith(said)
    assert list(built.folders[impossible.name].iterdir()) == []


def assert_truncated_weights_are_named(
    toolchain: Toolchain, variants: Sequence[Variant], sample: Path, folder: Path
) -> None:
    """A source whose weights end too early is at fault, and nothing is left."""
    source = copy_of(sample, folder / "source")
    damage_last_shard(source)
    _assert_at_fault(toolchain, variants, source, folder, DamagedWeightsError, r"^model\.safetensors is damaged: ")


def assert_a_missing_tokenizer_is_named(
    toolchain: Toolchain, variants: Sequence[Variant], sample: Path, folder: Path
) -> None:
    """A source without a tokenizer is at fault, and nothing is left."""
    source = copy_of(sample, folder / "source")
    (source / "tokenizer.json").unlink()
    (source / "tokenizer.model").unlink()
    _assert_at_fault(toolchain, variants, source, folder, DamagedTokenizerError, r"^the tokenizer cannot be read: ")


def assert_nothing_is_kept_at_home(
    toolchain: Toolchain,
    variant: Variant,
    sample: Path,
    reference: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Building and verifying leave no file in the home folder."""
    home = folder / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    built = build(toolchain, sample, [variant], folder / "job", log=folder / "log")
    measure(toolchain, built.folders[variant.name], variant, sample, reference, folder / "log")
    assert [p for p in home.rglob("*") if p.is_file()] == []


def _assert_at_fault(
    toolchain: Toolchain, variants: Sequence[Variant], source: Path, folder: Path, error: type[SourceError], said: str
) -> None:
    with pytest.raises(error, match=said):
        build(toolchain, source, variants, folder / "job", log=folder / "log")
    assert [list((folder / "job" / v.short_name).iterdir()) for v in variants] == [[]] * len(variants)
