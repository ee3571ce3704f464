import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.errors import DamagedTokenizerError
from bot.printable import one_line
from bot.progress import Silent
from bot.source.chat_template import ChatFormat, TemplateRenderError, chat_format, render_prompt
from bot.toolchains.install import ensure
from bot.worker import jinja
from bot.worker.renderer import answer_of
from tests.pages.cards.examples import CHAT
from tests.worker.running import run_python

HELLO = [{"role": "user", "content": "Hello"}]


def answered(template: str, **special_tokens: str) -> dict[str, str]:
    """Return what the child would answer, without a child and its limits."""
    render = jinja.engine({"template": template, "variables": special_tokens, "now": "2026-11-22"})
    answer: dict[str, str] = answer_of(render, {"messages": HELLO, "tools": None, "add_generation_prompt": True})
    return answer


def rendered(template: str, **special_tokens: str) -> str:
    """Return what a template makes of one user message."""
    return render_prompt(ChatFormat(template=template, special_tokens=special_tokens), HELLO)


# ---- reading -------------------------------------------------------------------------------------------------


def test_a_template_is_read_from_the_tokenizer_config(tmp_path: Path) -> None:
    config = {"chat_template": "{{ messages }}", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert chat_format(tmp_path) == ChatFormat(
        template="{{ messages }}", special_tokens={"bos_token": "<s>", "eos_token": "</s>"}
    )


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    assert chat_format(tmp_path) == ChatFormat(template="plain")


def test_a_file_of_its_own_goes_first(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old", "bos_token": "<s>"}))
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "older"}))
    (tmp_path / "chat_template.jinja").write_text("new")
    assert chat_format(tmp_path) == ChatFormat(template="new", special_tokens={"bos_token": "<s>"})


def test_the_json_file_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "only"}))
    assert chat_format(tmp_path) == ChatFormat(template="only")


@pytest.mark.parametrize(
    "config", [{}, {"chat_template": None}, {"chat_template": " "}, {"chat_template": [1, {"name": 2}]}]
)
def test_a_base_model_has_none(tmp_path: Path, config: dict[str, object]) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert chat_format(tmp_path) is None


def test_a_folder_without_any_of_the_files_has_none(tmp_path: Path) -> None:
    assert chat_format(tmp_path) is None


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(DamagedTokenizerError, match=r"tokenizer_config\.json is"):
        chat_format(tmp_path)


def test_a_chat_format_is_a_record() -> None:
    assert ChatFormat.from_json(json.loads(json.dumps(CHAT.to_json()))) == CHAT


# ---- rendering -----------------------------------------------------------------------------------------------


def test_a_prompt_ends_where_the_model_answers() -> None:
    assert render_prompt(CHAT, HELLO) == "<|user|>\nHello<|end|>\n<|assistant|>\n"


TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}{{ m.role ~ ': ' ~ m['content'] }}{% endfor %}{{ eos_token }}",
    "{%- for m in messages %}\n    {%- if loop.first %}\n  [{{ m.content | trim }}]\n  {%- endif %}\n{%- endfor %}\n",
    "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{{ messages | tojson }} {{ messages | tojson(indent=2) }} {{ 'é<' | tojson }}",
    "{% set ns = namespace(found=false) %}{% for m in messages %}{% set ns.found = true %}{% endfor %}{{ ns.found }}",
    "a{% generation %}b{{ messages[0].content }}{% endgeneration %}c",
    "{% if tools %}tools{% endif %}{% if not documents %}none{% endif %}{% if nothing is defined %}x{% endif %}",
    "{% macro say(what) %}<{{ what }}>{% endmacro %}{{ say(messages[0]['content']) }}",
    "{{ messages[0].content.split('l')[-1] }} {{ messages[0].get('name', 'nobody') }} {{ dict(a=1).a }}",
]
EXPECTED = [
    "<s>user: Hello</s>",
    "  [Hello]",
    "012",
    '[{"role": "user", "content": "Hello"}] [\n  {\n    "role": "user",\n    "content": "Hello"\n  }\n] "é<"',
    "True",
    "abHelloc",
    "none",
    "<Hello>",
    "o nobody 1",
]


@pytest.mark.parametrize(("template", "expected"), list(zip(TEMPLATES, EXPECTED, strict=True)))
def test_templates_are_rendered_as_transformers_does(template: str, expected: str) -> None:
    assert answered(template, bos_token="<s>", eos_token="</s>") == {"text": expected}


@pytest.mark.toolchain
def test_transformers_renders_the_same() -> None:
    program = (
        "import json, sys; from transformers.utils.chat_template_utils import render_jinja_template as render;"
        "print(json.dumps([render([json.loads(sys.argv[2])], chat_template=t, add_generation_prompt=True,"
        " bos_token='<s>', eos_token='</s>')[0][0] for t in json.loads(sys.argv[1])]))"
    )
    ended = run_python(ensure("reference", Silent()), program, json.dumps(TEMPLATES), json.dumps(HELLO))
    assert json.loads(ended) == EXPECTED


def test_the_date_is_the_one_given() -> None:
    chat_format = ChatFormat(template="{{ strftime_now('%d %B %Y') }}")
    assert render_prompt(chat_format, HELLO, now=datetime(2026, 11, 22, tzinfo=UTC)) == "22 November 2026"


def test_chance_gives_the_same_each_time() -> None:
    assert rendered("{{ range(9999) | random }}") == rendered("{{ range(9999) | random }}")


# ---- templates that mean harm --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('No system role') }}", "TemplateError: No system role"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages[7].content }}", "UndefinedError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ namespace(__class__=1) }}", "begins with an underscore"),
        ("{% set ns = namespace() %}{% set ns._secret = 1 %}", "begins with an underscore"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% import 'os' as os %}", "no loader"),
        ("{{ range(10**9) | list }}", "OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply"),
    ],
)
def test_a_failing_template_says_why(template: str, reason: str) -> None:
    assert reason in one_line(answered(template)["error"])


def test_an_error_is_one_short_line() -> None:
    with pytest.raises(TemplateRenderError) as caught:
        rendered("{{ raise_exception('No\nsystem\x1b[31m role ' ~ 'x' * 999) }}")
    message = str(caught.value)
    assert message.startswith("TemplateError: No system [31m role xxx")
    assert message.isprintable()
    assert len(message) == 200


@pytest.mark.parametrize(
    "template", ["x" * 200_000, "{% for i in range(99999) %}{% for j in range(99999) %}spam{% endfor %}{% endfor %}"]
)
def test_a_text_that_is_too_long_is_given_up_before_it_is_whole(template: str) -> None:
    assert answered(template) == {"exceeded": "writes too much (more than 100000 characters)"}


def test_a_template_that_eats_memory_is_stopped() -> None:
    with pytest.raises(TemplateRenderError, match=r"^it takes too much memory"):
        rendered("{{ 'a' * 10**10 }}")


@pytest.mark.parametrize(
    "template", ["{{ 'a'.__class__ }}", "{{ messages.__class__ }}", "{{ self._TemplateReference__context }}"]
)
def test_private_attributes_are_undefined(template: str) -> None:
    assert answered(template) == {"text": ""}
