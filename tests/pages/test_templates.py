import jinja2
import pytest

from bot.pages.templates import environment


def render(name: str, text: str, **values: object) -> str:
    """Return a template rendered as if it were a file of that name."""
    made = environment().overlay(loader=jinja2.DictLoader({name: text, "part.md.j2": "{{ value }}"}))
    return made.get_template(name).render(values)


def test_html_is_escaped_as_html() -> None:
    assert render("page.html", "<b>{{ value }}</b>", value="<i>*x*</i>") == "<b>&lt;i&gt;*x*&lt;/i&gt;</b>"


def test_markdown_is_escaped_as_markdown() -> None:
    assert render("card.md.j2", "**{{ value }}**", value="<i>*x*</i>") == r"**\<i\>\*x\*\</i\>**"


def test_nothing_is_escaped_twice_on_its_way_through_macros_and_parts() -> None:
    text = "{% macro bold(t) %}**{{ t }}**{% endmacro %}{{ bold(value) }} {% include 'part.md.j2' %} {{ value | code }}"
    assert render("card.md.j2", text, value="a*b") == r"**a\*b** a\*b `a*b`"


def test_a_value_that_is_not_there_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("card.md.j2", "{{ nothing }}")


def test_every_template_is_read_without_a_mistake() -> None:
    names = environment().list_templates()
    assert {"gguf.md.j2", "onnx.md.j2", "openvino.md.j2", "mlx.md.j2", "torch.md.j2", "summary.md.j2"} <= set(names)
    for name in names:
        if name.endswith((".j2", ".html")):
            environment().get_template(name)
