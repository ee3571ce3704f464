"""Pieces of comparisons."""

from bot.reconvert.records import (
    COMPARISON_VERSION,
    CardDiff,
    ComparedVariant,
    Comparison,
    Description,
    Difference,
    Figure,
    Fingerprint,
    Rebuild,
    Rebuilds,
    RecipePrint,
    SideMeasurement,
)
from bot.reconvert.verdict import verdict
from bot.records.evidence import Side

ZERO = "0" * 64


def figure(mean_kl: float, error: float = 0.001, *, side: Side = "short", top1: float = 0.9) -> Figure:
    """A figure of a side of the switch."""
    return Figure(side=side, mean_kl=mean_kl, mean_kl_error=error, top1=top1, top1_error=0.004)


def measured(*figures: Figure, size: int = 2_200_000, digest: str = "") -> SideMeasurement:
    """A file that was verified."""
    return SideMeasurement(
        status="verified",
        size=size,
        digest=digest,
        figures=figures,
        build_seconds=4.5,
        verify_seconds=2.6,
        peak_memory=282_000_000,
    )


def row(
    variant: str, before: SideMeasurement | None, after: SideMeasurement | None, model: str = "Phi-3.5-mini"
) -> ComparedVariant:
    """A row with its verdict."""
    return ComparedVariant(model=model, variant=variant, before=before, after=after, verdict=verdict(before, after))


def fingerprint(
    *variants: str,
    default: tuple[str, ...] = (),
    importance: tuple[str, ...] = (),
    recipes: dict[str, str] | None = None,
    locks: dict[str, str] | None = None,
    gates: dict[str, float] | None = None,
    config: dict[str, str] | None = None,
) -> Fingerprint:
    """A side with such rows, of which some are default ones, and some take an importance matrix."""
    formats = tuple(dict.fromkeys(v.split("/")[0] for v in variants))
    said = Description(
        version=1,
        variants=tuple(
            RecipePrint(
                name=name,
                precision="int4",
                default=name in default,
                options="{}",
                recipe=(recipes or {}).get(name, ZERO),
                importance=name in importance,
            )
            for name in variants
        ),
        formats=formats,
        locks=dict.fromkeys(formats, ZERO) | (locks or {}),
        gates=gates or {"int4": 0.2},
    )
    return Fingerprint(said=said, config=config or {}, sample=ZERO)


FULL = Comparison(
    version=COMPARISON_VERSION,
    kind="code",
    changes=(
        Difference(
            what="recipe",
            name="gguf/q4_k_m",
            before='{"ftype": "Q4_K_M", "version": 2}',
            after='{"ftype": "Q4_K_S", "version": 2}',
        ),
        Difference(what="lock", name="onnx", before="1f0c0c7bd3a9", after="9b6a8d3d8a4f"),
        Difference(what="gate", name="int4", before="0.2", after="0.1"),
        Difference(what="config", name="watch.include", before='["Phi-*", "phi-*"]', after='["Phi-4*"]'),
    ),
    rebuilds=Rebuilds(
        namespace="demo",
        jobs=(
            Rebuild(
                release="microsoft/Phi-4-mini-instruct@5a149550068a",
                format="gguf",
                variants=("gguf/q4_k_m",),
                reason="outdated",
                runner="github/ubuntu-24.04",
                seconds=1800.0,
                cost=0.0,
            ),
            Rebuild(
                release="microsoft/phi-4@187ef0342fff",
                format="onnx",
                variants=("onnx/cpu-int4", "onnx/cpu-int8"),
                reason="outdated",
                runner="own/big",
                seconds=5400.0,
                cost=1.25,
            ),
        ),
        unwatched=("microsoft/Phi-3-mini-4k-instruct",),
    ),
    rows=(
        row(
            "gguf/q4_k_m",
            measured(figure(0.0072, 0.00015), figure(0.00635, 0.0003, side="long")),
            measured(figure(0.0150, 0.00030), figure(0.00735, 0.0003, side="long"), size=2_100_000),
        ),
        row("gguf/q8_0", measured(figure(0.0004, 0.00002), digest=ZERO), measured(figure(0.0004), digest=ZERO)),
        row("onnx/cpu-int4", measured(figure(0.0310)), measured(figure(0.0312))),
        row(
            "openvino/int4",
            measured(figure(0.0310)),
            SideMeasurement(status="failed", reason="nncf: KeyError: 'ratio'"),
        ),
        row("mlx/5bit", None, measured(figure(0.0034, 0.0001))),
    ),
    cards=(
        CardDiff(format="gguf", diff="--- base\n+++ head\n@@ -1,3 +1,3 @@\n # Phi\n-Old\n+New\n ```console\n"),
        CardDiff(format="onnx"),
        CardDiff(format="mlx", problem="the head renders no card: UndefinedError: 'figures' is undefined"),
    ),
    notes=("Each side was measured by its own code, and that differs: figures may differ for that reason alone.",),
    seconds=93.7,
)
