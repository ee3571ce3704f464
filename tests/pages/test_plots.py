"""What is in the pictures of a card, and what comes out of drawing them."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bot import format_folders
from bot.pages.plots import PICTURES, POSITIONS, QUALITY, Plotter, plot_task
from bot.progress import Silent
from bot.records.artifacts import ProvenBuild
from bot.records.evidence import KnownBehaviour
from bot.records.tasks import PlotTask
from bot.toolchains.enter import Supervision, run_worker
from bot.toolchains.install import ensure
from bot.workspace import Workspace
from tests.pages.cards.examples import GGUF, LONG_CONTEXT, MLX, ONNX, OPENVINO, RELEASE, proven

OTHERS = (*MLX.builds, *ONNX.builds, *OPENVINO.builds)
PLAIN = replace(RELEASE, config={"torch_dtype": "bfloat16"})


def changed(build: ProvenBuild, name: str) -> ProvenBuild:
    """Return a build under another variant's name."""
    return ProvenBuild(
        build=replace(build.build, variant=replace(build.build.variant, name=name)), evidence=build.evidence
    )


def plotter(folder: Path) -> Plotter:
    """Return a plotter that has drawn nothing, or what the one of the same folder drew."""
    return Plotter(workspace=Workspace(root=folder), display=Silent())


# ---- what is in them -----------------------------------------------------------------------------------------


def test_a_point_is_the_distance_that_the_gate_used() -> None:
    points = {(p.format, p.name): p for p in plot_task(RELEASE, GGUF.builds, MLX.builds).points}
    q4 = points["GGUF", "q4_k_m"]
    assert (q4.mean_kl, q4.standard_error, round(q4.bits, 1), q4.own) == (0.0212, 0.0212 / 20, 5.0, True)
    mlx = points["MLX", "4bit"]  # below the switch it is known to differ: the other side counts
    assert (mlx.mean_kl, mlx.own) == (0.0402, False)


def test_one_point_alone_is_not_a_comparison() -> None:
    assert plot_task(RELEASE, MLX.builds, ()).points == ()
    assert len(plot_task(RELEASE, MLX.builds, GGUF.builds[:1]).points) == 2


def test_a_build_without_distances_has_no_point() -> None:
    nothing = ProvenBuild(build=GGUF.builds[0].build, evidence=replace(GGUF.builds[0].evidence, distances=()))
    assert [p.name for p in plot_task(RELEASE, (nothing, *GGUF.builds[1:3]), ()).points] == ["q2_k", "q4_k_m"]


def test_each_runtime_has_the_curve_of_its_usual_file_and_gguf_one_more() -> None:
    task = plot_task(RELEASE, GGUF.builds, OTHERS)
    assert [(c.format, c.name, c.setting) for c in task.curves] == [
        ("GGUF", "q4_k_m", ""),
        ("GGUF", "q4_k_m", LONG_CONTEXT),
        ("ONNX", "cpu-int4", ""),
        ("OpenVINO", "int4", ""),
        ("MLX", "4bit", ""),
    ]
    assert {s.side for s in task.curves[0].stretches} == {"short", "long"}
    assert {s.setting for s in task.curves[1].stretches} == {LONG_CONTEXT}
    unknown = ProvenBuild(build=GGUF.builds[2].build, evidence=replace(GGUF.builds[2].evidence, known_behaviours=()))
    assert [c.setting for c in plot_task(RELEASE, (unknown,), ()).curves] == [""]
    assert task.switch == 4096


def test_a_repo_shows_its_own_file_rather_than_a_more_usual_one() -> None:
    q8, q4 = GGUF.builds[3], GGUF.builds[2]
    assert {c.name for c in plot_task(RELEASE, (q8,), (q4,)).curves} == {"q8_0"}


def test_a_file_that_has_read_beginnings_alone_has_no_curve() -> None:
    q4 = GGUF.builds[2]
    beginnings = tuple(s for s in q4.evidence.stretches if s.side == "long" or s.last < 600)
    assert {s.side for s in beginnings} == {"short", "long"}
    few = ProvenBuild(build=q4.build, evidence=replace(q4.evidence, stretches=beginnings))
    assert plot_task(RELEASE, (few,), ()).curves == ()


def test_a_model_without_a_switch_has_no_curves() -> None:
    build = proven("gguf/q8_0", "int8", {"a-Q8_0.gguf": 4_000_000_000}, (0.0007, 1.0))
    assert plot_task(PLAIN, (build,), ()).curves == ()
    assert plot_task(PLAIN, (build,), ()).switch is None


def test_names_are_on_one_line() -> None:
    hostile = changed(GGUF.builds[2], "gguf/a\nb\u202e")
    task = plot_task(replace(RELEASE, repo_id="owner/a\nb"), (hostile, GGUF.builds[3]), ())
    assert (task.model, task.points[0].name, task.curves[0].name) == ("a b", "a b", "a b")


def test_a_known_behaviour_in_another_setting_leaves_the_point() -> None:
    known = KnownBehaviour(name="x", side="short", reference="y", setting=LONG_CONTEXT)
    build = GGUF.builds[2]
    more = ProvenBuild(build=build.build, evidence=replace(build.evidence, known_behaviours=(known,)))
    assert plot_task(RELEASE, (more, GGUF.builds[3]), ()).points[0].mean_kl == 0.0212


def test_a_mark_looks_as_its_format_says() -> None:
    looks = {look.format: look for look in plot_task(RELEASE, GGUF.builds, OTHERS).looks}
    assert list(looks) == ["GGUF", "ONNX", "OpenVINO", "MLX", "PyTorch"]
    wanted = format_folders.look("mlx")
    assert (looks["MLX"].colour, looks["MLX"].shape) == (wanted.middle_colour, wanted.shape)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", format_folders.names())
def test_a_mark_stands_out_from_the_page_that_it_lies_on(name: str) -> None:
    look, paper, dark = format_folders.look(name), luminance("#ffffff"), luminance("#0b0f19")
    pages = [(look.colour, [paper]), (look.dark_colour, [dark]), (look.middle_colour, [paper, dark])]
    for colour, backgrounds in pages:
        for background in backgrounds:
            low, high = sorted((luminance(colour), background))
            assert (high + 0.05) / (low + 0.05) >= 3.0  # what WCAG asks of graphics


# ---- drawn ---------------------------------------------------------------------------------------------------


def size(png: bytes) -> tuple[int, int]:
    """Return width and height of a PNG, which must be one."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def has_no_dates(png: bytes) -> bool:
    return not any(kind in png for kind in (b"tEXt", b"iTXt", b"zTXt", b"tIME"))


def draw(task: PlotTask, out: Path) -> dict[str, bytes]:
    out.mkdir()
    found = ensure("plots", Silent())
    task = replace(task, out=str(out))
    run_worker(
        found, "bot.worker.plots", "draw", task, Supervision(log=out.with_suffix(".log"), on_event=lambda _: None)
    )
    return {p.name: p.read_bytes() for p in sorted(out.iterdir())}


@pytest.mark.toolchain
def test_pictures_fit_a_card_and_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    first = plotter(tmp_path).draw(RELEASE, GGUF.builds, OTHERS)
    assert sorted(first) == sorted(PICTURES)
    for png in first.values():
        assert size(png) == (1400, 1050)  # two pixels for each that is shown, 700 wide
        assert len(png) < 60_000
        assert has_no_dates(png)
    assert plotter(tmp_path / "elsewhere").draw(RELEASE, GGUF.builds, OTHERS) == first
    other = plotter(tmp_path).draw(RELEASE, GGUF.builds[:3], OTHERS)
    assert other[QUALITY] != first[QUALITY]
    assert other[POSITIONS] == first[POSITIONS]


@pytest.mark.toolchain
def test_an_equal_picture_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plotter(tmp_path).draw(RELEASE, GGUF.builds, OTHERS)
    monkeypatch.setenv("PHI_BOT_CACHE", str(tmp_path / "without toolchains"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert plotter(tmp_path).draw(RELEASE, GGUF.builds, OTHERS) == first
    assert plotter(tmp_path).draw(RELEASE, GGUF.builds[:3], OTHERS) == {}


@pytest.mark.toolchain
def test_no_setting_of_the_user_changes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plotter(tmp_path / "before").draw(RELEASE, GGUF.builds, OTHERS)
    settings = tmp_path / ".config" / "matplotlib" / "matplotlibrc"
    settings.parent.mkdir(parents=True)
    settings.write_text("font.size: 40\naxes.facecolor: red\n")
    monkeypatch.setenv("PHI_BOT_CACHE", str(ensure("plots", Silent()).python.parents[4]))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert plotter(tmp_path).draw(RELEASE, GGUF.builds, OTHERS) == before


@pytest.mark.toolchain
def test_a_model_without_a_switch_has_one_picture(tmp_path: Path) -> None:
    builds = [
        proven(f"gguf/{name}", "int8", {f"a-{name}.gguf": size}, (kl, 1.0))
        for name, size, kl in (("q8_0", 4_000_000_000, 0.0007), ("q4_k_m", 2_400_000_000, 0.02))
    ]
    assert list(plotter(tmp_path).draw(PLAIN, builds, ())) == [QUALITY]


@pytest.mark.toolchain
def test_hostile_names_and_extreme_figures_are_drawn(tmp_path: Path) -> None:
    task = plot_task(RELEASE, GGUF.builds, OTHERS)
    names = ("$\\frac{1}{0}$", "\\alpha_{", "名前" * 40, "")
    points = tuple(
        replace(p, name=name, mean_kl=kl, standard_error=10.0)
        for p, name, kl in zip(task.points, names, (0.0, -1e-9, 1e-12, 300.0), strict=False)
    )
    drawn = draw(replace(task, model="$x^", points=points), tmp_path / "out")
    assert {name: size(png) for name, png in drawn.items()} == dict.fromkeys(PICTURES, (1400, 1050))


@pytest.mark.toolchain
def test_points_of_one_place_are_drawn(tmp_path: Path) -> None:
    task = plot_task(RELEASE, GGUF.builds, OTHERS)
    same = tuple(replace(task.points[0], name=f"number {n}") for n in range(30))
    assert size(draw(replace(task, points=same, curves=()), tmp_path / "out")[QUALITY]) == (1400, 1050)
