"""A configuration that travels as text is the same one at its end."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import config
from bot.config import Config
from bot.config.places import SignTable
from bot.config.text import text_of
from tests.filled import filled

FULL = """
[hub]
endpoint = "http://127.0.0.1:8080"

[run]
dry_run = true

[watch]
authors = ["microsoft", "me"]
exclude = ["*-\\"odd\\"*", "t\\u007fb"]
minimum_age = 1.5

[build]
variants = ["gguf/q4_k_m", "mlx"]
work = "here"
threads = 3

[verify.cost]
int4 = 0.125

[plan]
max_jobs = 4

[hf_jobs]
setup = "pip install 'phi-bot[hub]' && echo \\"done\\""

[publish]
namespace = "me"
private = true

[runner.big-one]
system = "linux"
cores = 64
memory = 512
disk = 4000
"""


def read(text: str, folder: Path) -> Config:
    path = folder / "phi-bot.toml"
    path.write_text(text)
    return config.load(path, environ={})


@pytest.mark.parametrize("text", ["", FULL], ids=["nothing set", "much set"])
def test_a_written_configuration_reads_as_the_same(text: str, tmp_path: Path) -> None:
    given = read(text, tmp_path)
    again = read(text_of(given), tmp_path)
    own = read("", tmp_path).build  # the folder and the threads are the reader's own
    assert again == dataclasses.replace(
        given, build=dataclasses.replace(given.build, work=own.work, threads=own.threads)
    )


@given(st.deferred(lambda: filled(Config)))
def test_whatever_may_be_set_is_read_again(given: Config) -> None:
    found = config.load(None, environ={config.TEXT_VARIABLE: text_of(given)})
    own = Config().build
    build = dataclasses.replace(given.build, work=Path.cwd() / own.work, threads=own.threads)
    publish = dataclasses.replace(given.publish, sign=SignTable())
    assert found == dataclasses.replace(given, build=build, publish=publish)


def test_nothing_of_this_machine_is_in_it(tmp_path: Path) -> None:
    text = text_of(read(FULL, tmp_path))
    assert str(tmp_path) not in text
    assert "threads" not in tomllib.loads(text)["build"]


def test_it_is_read_where_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given = read(FULL, tmp_path)
    found = config.load(None, environ={config.TEXT_VARIABLE: text_of(given)})
    assert (found.publish, found.verify, found.runner) == (given.publish, given.verify, given.runner)
