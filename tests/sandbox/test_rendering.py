"""Whatever a chat template does, it does in a child with limits. Here that is Jinja2 itself, as cards have it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bot.building.release_at_hand import fetch
from bot.errors import ChatTemplateError
from bot.hub.client import connect
from bot.records.artifacts import Json
from bot.sandbox import rendering
from bot.sandbox.rendering import EngineError, LimitError, RenderedPrompt, render
from bot.source import local_release
from bot.source.chat_template import check_limits
from bot.system import processes
from bot.worker import renderer
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.source import models
from tests.worker.hostile import MUCH_TEXT, TEMPLATES

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="these limits are of POSIX")


def chat(text: str = "Hello", name: str = "a question") -> Json:
    messages = [{"role": "user", "content": text}]
    return {"name": name, "messages": messages, "tools": None, "add_generation_prompt": True}


def given(template: str) -> Json:
    return {"template": template, "variables": {}, "now": "2026-11-22"}


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The children that were started."""
    started: list[subprocess.Popen[bytes]] = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    return started


@pytest.mark.process
def test_one_child_renders_all_conversations(children: list[subprocess.Popen[bytes]]) -> None:
    template = (
        "{% if messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}{{ messages[0].content }}"
    )
    made = render("bot.worker.jinja", given(template), [chat("a"), chat("no"), chat("c \ud83d")])
    assert made == [
        RenderedPrompt(text="a"),
        RenderedPrompt(error="TemplateError: not this"),
        RenderedPrompt(text="c \ud83d"),
    ]
    assert len(children) == 1
    assert children[0].returncode == 0


@POSIX
@pytest.mark.process
@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_over_its_limits_is_stopped_and_the_conversation_named(
    children: list[subprocess.Popen[bytes]], kind: str
) -> None:
    template = f"{{% if messages[0].content == 'now' %}}{TEMPLATES[kind]}{{% endif %}}"
    with pytest.raises(LimitError, match=r"^it (takes too much|writes too much).* \(the second\)$"):
        render("bot.worker.jinja", given(template), [chat(), chat("now", "the second"), chat()])
    assert children[0].returncode is not None


@pytest.mark.process
@POSIX
@pytest.mark.parametrize(
    "template", ["{{ '%1000000000d' % 1 }}", "{{ 'x' | center(10**10) }}", "{{ 'a' * 10**10 }}", MUCH_TEXT]
)
def test_the_child_stays_within_its_memory(template: str) -> None:
    code = "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)"
    program = f"""
import sys
from bot.sandbox.rendering import LimitError, render
try:
    render("bot.worker.jinja", {given(template)!r}, [{chat()!r}])
except LimitError as error:
    print(error)
{code}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said, megabytes = ended.stdout.splitlines()
    assert said.startswith(("it takes too much memory", "it writes too much"))
    assert int(megabytes) < 700


def looping(folder: Path) -> Path:
    """Make a model whose template loops where it is given tools."""
    template = "{% if tools %}" + TEMPLATES["time"] + "{% endif %}{{ raise_exception('no') }}"
    config = json.dumps({"tokenizer_class": "LlamaTokenizer", "chat_template": template})
    return models.write(folder, models.files(tokenizer_config__json=config.encode()))


@POSIX
@pytest.mark.process
def test_a_template_that_loops_is_known_before_a_toolchain_is_entered(tmp_path: Path) -> None:
    release = local_release(looping(tmp_path / "model"))
    workspace = Workspace(root=tmp_path / "work")
    with pytest.raises(ChatTemplateError, match=r"cannot be rendered: it takes too much time \(a tool\)$"):
        fetch(release, context_of(hub=connect("http://127.0.0.1:9", None), workspace=workspace))
    assert not workspace.staged(release).exists()


@POSIX
@pytest.mark.process
def test_a_template_is_rendered_once_for_its_limits_unless_it_passes_them(
    tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    def model(name: str, template: str) -> Path:
        config = json.dumps({"chat_template": template}).encode()
        return models.write(tmp_path / name, models.files(tokenizer_config__json=config))

    of_this_test = "{# a template of this test #}"
    for name in ("original", "fine-tune"):
        check_limits(model(name, of_this_test))
    assert len(children) == 1
    check_limits(model("another", of_this_test + "{{ messages }}"))
    assert len(children) == 2
    for _ in range(2):
        with pytest.raises(ChatTemplateError):
            check_limits(looping(tmp_path / f"looping-{len(children)}"))
    assert len(children) == 4


@pytest.mark.process
def test_a_template_may_refuse_a_conversation(tmp_path: Path) -> None:
    config = json.dumps({"chat_template": "{{ raise_exception('never') }}"}).encode()
    check_limits(models.write(tmp_path, models.files(tokenizer_config__json=config)))


@pytest.mark.process
def test_one_that_does_not_end_is_stopped_where_the_system_counts_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "WALL_SECONDS", 2.0)
    with pytest.raises(LimitError, match=r"^it takes more than 2 seconds \(a question\)$"):
        render("bot.worker.jinja", given(TEMPLATES["time"]), [chat()])


@pytest.mark.process
def test_one_that_grows_is_stopped_where_the_system_keeps_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "OWN_BYTES", 100 << 20)
    with pytest.raises(LimitError, match=r"^it takes too much memory"):
        render("bot.worker.jinja", given(TEMPLATES["memory"]), [chat()])


@pytest.mark.process
def test_an_engine_that_cannot_be_loaded_is_not_the_templates_fault(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match=r"\(bot.worker.no_such_engine\) could not be loaded: .*No module named"):
        render("bot.worker.no_such_engine", {}, [chat()])
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.process
def test_a_child_sees_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "the-secret")
    monkeypatch.setenv("PYTHONPATH", "/the-secret")
    seen: list[dict[str, str]] = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **kwargs: Json) -> None:
            seen.append(kwargs["env"])
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", Seen)
    render("bot.worker.jinja", given("{{ messages }}"), [chat()])
    assert "the-secret" not in str(seen)
    assert seen[0]["HOME"] != os.environ.get("HOME")


@pytest.mark.process
@POSIX
@pytest.mark.parametrize(
    ("escape", "end"),
    [
        ("open('/etc/passwd')", "Too many open files"),
        ("socket.socket()", "Too many open files"),
        ("subprocess.run(['true'])", "Too many open files"),
        ("bytearray(10**9)", "" if sys.platform == "darwin" else "MemoryError"),
    ],
)
def test_code_that_gets_out_of_the_sandbox_finds_limits(escape: str, end: str) -> None:
    program = f"import socket, subprocess; from bot.worker import renderer; renderer.limit(); {escape}"
    assert end in subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr


def test_the_longest_text_is_taken_and_no_longer_one() -> None:
    longest = "x" * renderer.CHARACTERS
    assert renderer.answer_of(lambda _, __: longest, chat()) == {"text": longest}
    assert "exceeded" in renderer.answer_of(lambda _, __: longest + "x", chat())


@pytest.mark.process
def test_memory_of_a_process_is_seen_from_outside_without_files_that_it_maps(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    with file.open("wb") as made:
        made.truncate(400 << 20)
    code = f"""
import mmap, sys
held = bytearray(b"x" * (200 << 20))
with open({str(file)!r}, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    sum(mapped[at] for at in range(0, len(mapped), 4096))
    print("ready", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 200 << 20 < processes.own_memory(process.pid) < 300 << 20
        process.kill()
    assert processes.own_memory(process.pid) == 0


@pytest.mark.process
@POSIX
def test_memory_of_a_group_is_that_of_all_its_processes() -> None:
    child = "import sys; held = bytearray(b'x' * (100 << 20)); print('ready', flush=True); sys.stdin.read()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    before = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 100 << 20 < processes.group_memory(process.pid) < 200 << 20
        assert process.stdin is not None
        process.stdin.close()
    assert processes.group_memory(process.pid) == 0
    assert time.monotonic() - before < 60
