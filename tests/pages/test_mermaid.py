import pytest

from bot.pages.mermaid import Bar, bars


def test_bars_have_labels_and_a_scale_that_begins_at_nothing() -> None:
    text = bars("Mean KL", [Bar(label="gguf/q4_k_m, 2.2 GB", value=0.02), Bar(label="gguf/f16, 7.6 GB", value=0.0)])
    assert text.splitlines()[-5:] == [
        "xychart-beta horizontal",
        '  x-axis ["gguf/q4_k_m, 2.2 GB", "gguf/f16, 7.6 GB"]',
        '  y-axis "Mean KL" 0 --> 0.021000',
        "  bar [0.020000, 0.000000]",
        "```",
    ]


def test_small_values_have_no_exponent() -> None:
    """Mermaid takes one for an error of the whole chart."""
    assert "bar [0.000020]" in bars("Mean KL", [Bar(label="a", value=0.00002)])


def test_a_scale_is_there_where_all_is_nothing() -> None:
    assert '"Mean KL" 0 --> 1.050000' in bars("Mean KL", [Bar(label="a", value=0.0)])


@pytest.mark.parametrize("label", ['a"]', "a\nclick b href", "`", "%%{init: {}}%%", "", "<b>"])
def test_a_label_that_is_more_than_text_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="does not go into a chart"):
        bars("Mean KL", [Bar(label=label, value=1.0)])
