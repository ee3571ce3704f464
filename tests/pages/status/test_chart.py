"""Where the marks of a chart go."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pages.status.chart import MeasuredFile, Range, overview, scatter


def point(size: float, mean_kl: float, error: float = 0.0, name: str = "q4_k_m") -> MeasuredFile:
    return MeasuredFile(format="gguf", name=name, size=int(size * 1e9), mean_kl=mean_kl, error=error)


def test_smaller_is_left_and_nearer_is_low() -> None:
    chart = scatter([point(1.4, 0.31), point(7.6, 0.00002)])
    assert chart is not None
    small, large = chart.marks
    assert small.x < large.x
    assert small.y < large.y  # an SVG counts from the top
    assert [t.text for t in chart.across] == ["0", "2", "4", "6", "8", "10"]
    assert [t.text for t in chart.up] == ["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1"]


def test_one_file_alone_is_not_a_comparison() -> None:
    assert scatter([point(1, 0.1)]) is None


def test_an_error_bar_lies_around_its_mark() -> None:
    chart = scatter([point(1, 0.1, 0.05), point(2, 0.01, 0.002)])
    assert chart is not None
    for mark in chart.marks:
        assert mark.high < mark.y < mark.low


@given(
    st.lists(
        st.builds(
            MeasuredFile,
            format=st.sampled_from(["gguf", "onnx"]),
            name=st.sampled_from(["q4_k_m", "cpu-int4", "int4", "a-very-long-name-of-a-variant"]),
            size=st.integers(0, 10**12),
            mean_kl=st.floats(0, 20),
            error=st.floats(0, 20),
        ),
        min_size=2,
        max_size=40,
    )
)
def test_everything_is_inside_the_frame(points: list[MeasuredFile]) -> None:
    chart = scatter(points)
    assert chart is not None
    for mark in chart.marks:
        assert chart.left <= mark.x <= chart.right
        assert chart.top - 0.1 <= mark.high <= mark.y <= mark.low <= chart.bottom + 0.1
    assert all(chart.left - 0.1 <= t.at <= chart.right + 0.1 for t in chart.across)


def test_labels_of_a_usual_repo_do_not_lie_upon_each_other() -> None:
    files = [
        ("q2_k", 1.4, 0.31),
        ("q4_k_m", 2.4, 0.021),
        ("int4", 2.3, 0.029),
        ("4bit", 2.15, 0.04),
        ("f16", 7.6, 2e-5),
    ]
    chart = scatter([point(size, kl, name=name) for name, size, kl in files])
    assert chart is not None
    boxes = []
    for mark in chart.marks:
        width = 7 * len(mark.point.name)
        left = mark.label_x if mark.anchor == "start" else mark.label_x - width
        boxes.append((left, mark.label_y - 10, left + width, mark.label_y))
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1e-9, 30.0), (0.02, 0.02)])
def test_a_range_lies_inside_the_overview(low: float, high: float) -> None:
    chart = overview([Range(precision="int4", format="gguf", count=3, low=low, median=(low + high) / 2, high=high)])
    assert chart is not None
    (bar,) = chart.bars
    assert chart.left <= bar.low <= bar.median <= bar.high <= chart.right


def test_without_figures_there_is_no_overview() -> None:
    assert overview([]) is None
