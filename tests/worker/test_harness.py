"""What a worker tells the bot."""

import time
from pathlib import Path

from bot import catalogue
from bot.records.tasks import Target
from tests.worker.test_fast import Said


def target(folder: Path, name: str, size: int) -> Target:
    out = folder / name.replace("/", "-")
    out.mkdir()
    (out / "weights").write_bytes(bytes(size))
    return Target(variant=catalogue.all_variants()[name], out=str(out))


def test_the_seconds_of_a_pass_are_shared_out_by_bytes_written(tmp_path: Path) -> None:
    said = Said()
    time.sleep(0.2)
    targets = [target(tmp_path, "gguf/q4_k_m", 1000), target(tmp_path, "gguf/q8_0", 3000)]
    said.built_together(targets, {Path(targets[1].out) / "weights": "5ae1"})
    first, second = said.events
    assert (first["hashed"], second["hashed"]) == ({}, {"weights": "5ae1"})
    assert (first["variant"], second["variant"]) == ("gguf/q4_k_m", "gguf/q8_0")
    assert 0.2 <= first["seconds"] + second["seconds"] < 5
    assert abs(second["seconds"] - 3 * first["seconds"]) < 0.01


def test_an_empty_target_takes_no_time(tmp_path: Path) -> None:
    said = Said()
    said.built_together([target(tmp_path, "gguf/q8_0", 0)], {})
    assert [e["seconds"] for e in said.events] == [0]
