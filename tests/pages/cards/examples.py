"""A release of the size of Phi-3.5-mini, and what might have been published of it."""

import dataclasses
import hashlib

from bot.records.artifacts import (
    RECORD_VERSION,
    BuildRecord,
    Cost,
    FileEntry,
    ProvenBuild,
    Release,
    RepoRecord,
    SourceFile,
    SourceRef,
    ToolchainRef,
    Variant,
)
from bot.records.evidence import (
    EVIDENCE_VERSION,
    Check,
    Distance,
    Evidence,
    Figures,
    KnownBehaviour,
    OwnWeights,
    RoundingCost,
    RunningCost,
    Side,
    Stretch,
)
from bot.source.chat_template import ChatFormat
from tests.formats.hooks import hooks

COMMIT = "2fe192450127e6a83f7441aef6e3ca586c338b77"
DIGEST = hashlib.sha256(b"the content of the release").hexdigest()

CHAT = ChatFormat(
    template=(
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}\n"
        "{{ message['content'] + '<|end|>' }}\n{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    special_tokens={"bos_token": "<s>", "eos_token": "<|endoftext|>"},
)

RELEASE = Release(
    repo_id="microsoft/Phi-3.5-mini-instruct",
    commit=COMMIT,
    content_digest=DIGEST,
    files=(
        SourceFile(path="model-00001-of-00002.safetensors", size=4_972_489_328, digest=f"sha256:{'a' * 64}"),
        SourceFile(path="model-00002-of-00002.safetensors", size=2_669_692_552, digest=f"sha256:{'b' * 64}"),
        SourceFile(path="config.json", size=3_453, digest=f"git:{'c' * 40}"),
    ),
    config={
        "architectures": ["Phi3ForCausalLM"],
        "torch_dtype": "bfloat16",
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]},
    },
    card={
        "license": "mit",
        "license_link": "https://huggingface.co/microsoft/Phi-3.5-mini-instruct/resolve/main/LICENSE",
        "language": ["multilingual"],
        "pipeline_tag": "text-generation",
        "tags": ["nlp", "code", "transformers", "custom_code"],
        "library_name": "transformers",
    },
)

LONG_FACTORS_EVERYWHERE = KnownBehaviour(
    name="long factors at every position, before the switch too",
    side="short",
    reference="https://github.com/ml-explore/mlx-lm/pull/707",
)


def sha256(text: str) -> str:
    """Return a digest that looks like one."""
    return hashlib.sha256(text.encode()).hexdigest()


LONG_CONTEXT = "a context past the switch"
FACTORS_BY_CONTEXT = KnownBehaviour(
    name="the factors go by the context that is allocated",
    side="short",
    reference="https://github.com/ggml-org/llama.cpp/pull/8262",
    setting=LONG_CONTEXT,
)


def distance(side: Side, mean_kl: float, top1_agreement: float, *, setting: str = "") -> Distance:
    """Return what was measured on one side; the standard error of the mean KL is a twentieth of it."""
    figures = Figures(
        mean_kl=mean_kl,
        p99_kl=mean_kl * 12,
        max_kl=mean_kl * 40,
        top1_agreement=top1_agreement,
        perplexity_ratio=1 + mean_kl / 2,
    )
    errors = Figures(
        mean_kl=mean_kl / 20, p99_kl=mean_kl, max_kl=mean_kl * 4, top1_agreement=0.004, perplexity_ratio=mean_kl / 10
    )
    return Distance(
        side=side,
        tokens=512,
        figures=figures,
        standard_errors=errors,
        by_kind={"prose": mean_kl * 0.9, "code": mean_kl * 1.1},
        setting=setting,
    )


def stretches(measured: Distance) -> list[Stretch]:
    """Return eight stretches of 512 positions on one side of a switch at 4096, with the mean KL of that side."""
    start = 0 if measured.side == "short" else 4096
    length = 512 if measured.side == "short" else 32
    return [
        Stretch(
            side=measured.side,
            first=start + length * n,
            last=start + length * (n + 1) - 1,
            tokens=64,
            mean_kl=measured.figures.mean_kl * (0.8 + 0.05 * n),
            setting=measured.setting,
        )
        for n in range(8)
    ]


def proven(
    name: str,
    precision: str,
    sizes: dict[str, int],
    short: tuple[float, float],
    *,
    long: tuple[float, float] | None = None,
    long_context: tuple[float, float] | None = None,
    folder: str = "",
    target: str = "cpu",
    summary: str = "What this row is for",
    known: tuple[KnownBehaviour, ...] = (),
) -> ProvenBuild:
    """Return a build of variant ``name`` with files of ``sizes``, measured as ``short`` and ``long`` say.

    Both are mean KL and top-1 agreement; so is ``long_context``, of short texts in a context past the switch.
    """
    format_name = name.split("/")[0]
    known_of_format = hooks(format_name)
    distances = [distance("short", *short)] + ([distance("long", *long)] if long else [])
    distances += [distance("short", *long_context, setting=LONG_CONTEXT)] if long_context else []
    build = BuildRecord(
        build_key=sha256(name),
        source=SourceRef(repo_id=RELEASE.repo_id, commit=COMMIT, content_digest=DIGEST),
        variant=Variant(
            name=name,
            precision=precision,
            bits_per_weight=4.9,
            summary=summary,
            target=target,
            options={"kind": name.split("/")[1].upper()},
        ),
        toolchain=ToolchainRef(
            name=format_name, lock_digest=sha256(f"{format_name}.txt"), versions=dict(known_of_format.versions)
        ),
        files=tuple(FileEntry(path=path, size=size, sha256=sha256(path)) for path, size in sizes.items()),
        cost=Cost(seconds=143.2, peak_memory=700_000_000),
        bot_version="0.1.0",
        created="2026-11-22T02:00:40+00:00",
        path_in_repo=folder,
    )
    evidence = Evidence(
        version=EVIDENCE_VERSION,
        build_key=build.build_key,
        runtime=known_of_format.runtime,
        machine="Linux x86_64, AMD EPYC 7763",
        checks=(
            Check(name="integrity", passed=True, detail=f"{len(sizes)} files"),
            Check(name="tokenizer", passed=True, detail="300 texts give the source's ids"),
            Check(name="generation", passed=True, detail="96 tokens from 3 prompts"),
            Check(name="distance, short windows", passed=True, detail=f"mean KL {short[0]:.5f} nats over 512 tokens"),
        ),
        distances=tuple(distances),
        stretches=tuple(s for d in distances for s in stretches(d)) if long else (),
        rounding=cost(short[0], 1.1 * short[0] if precision.startswith("int") else 0.0),
        own_weights=OwnWeights(tokens=256, mean_kl=0.0039, rounding_kl=0.0044),
        cost=RunningCost(load_seconds=1.24, peak_memory=3_100_000_000, prefill_rate=61.4, decode_rate=9.13, threads=4),
        gate=0.2,
        known_behaviours=(*known, FACTORS_BY_CONTEXT) if long_context else known,
        read_differently=(),
        generations=(),
        seconds=61.5,
        reference_digest=sha256("the reference"),
    )
    return ProvenBuild(build=build, evidence=evidence)


def cost(kl: float, plain: float) -> RoundingCost:
    """Return what rounding cost, with errors of a twentieth; the ratio's is smaller, as both are of the same tokens."""
    ratio_error = 0.01 if plain else 0.0
    return RoundingCost(
        tokens=140,
        mean_kl=kl,
        error=kl / 20,
        plain_kl=plain,
        plain_error=plain / 20,
        ratio_error=ratio_error,
    )


def gguf(name: str, precision: str, size: int, short: tuple[float, float], long: tuple[float, float]) -> ProvenBuild:
    """Return a GGUF file; in a context past the switch, its distance on short texts is 0.025 more."""
    file = f"Phi-3.5-mini-instruct-{name.upper()}.gguf"
    beyond = (short[0] + 0.025, short[1] - 0.02)
    return proven(f"gguf/{name}", precision, {file: size}, short, long=long, long_context=beyond)


def record(*builds: ProvenBuild) -> RepoRecord:
    """Return the record of a repo."""
    return RepoRecord(version=RECORD_VERSION, builds=builds)


GGUF = record(
    gguf("f16", "fp16", 7_643_295_904, (0.00002, 0.998), (0.00001, 0.999)),
    gguf("q2_k", "int2", 1_416_203_424, (0.3102, 0.811), (0.2871, 0.823)),
    gguf("q4_k_m", "int4", 2_393_231_072, (0.0212, 0.952), (0.0193, 0.953)),
    gguf("q8_0", "int8", 4_061_221_024, (0.0008, 0.990), (0.0007, 0.991)),
)
_ONNX_FILES = {
    "genai_config.json": 1_600,
    "model.onnx": 240_000,
    "model.onnx.data": 2_722_861_056,
    "tokenizer.json": 3_620_000,
}
_CUDA = proven(
    "onnx/cuda-int4", "int4", _ONNX_FILES, (0.0309, 0.953), long=(0.0305, 0.951), folder="cuda-int4", target="cuda"
)
ONNX = record(
    proven("onnx/cpu-int4", "int4", _ONNX_FILES, (0.0311, 0.952), long=(0.0301, 0.951), folder="cpu-int4"),
    dataclasses.replace(_CUDA, evidence=dataclasses.replace(_CUDA.evidence, device="cpu")),
)
OPENVINO = record(
    proven(
        "openvino/int4",
        "int4",
        {"openvino_model.bin": 2_310_000_000, "openvino_model.xml": 2_900_000, "openvino_tokenizer.xml": 24_000},
        (0.0287, 0.957),
        long=(0.0291, 0.955),
    )
)
MLX = record(
    proven(
        "mlx/4bit",
        "int4",
        {"config.json": 4_000, "model.safetensors": 2_150_000_000, "tokenizer.json": 3_620_000},
        (0.0653, 0.931),
        long=(0.0402, 0.942),
        known=(LONG_FACTORS_EVERYWHERE,),
    )
)
TORCH = record(
    proven(
        "torch/w4a16",
        "int4",
        {"config.json": 4_000, "model.safetensors": 2_280_000_000, "tokenizer.json": 3_620_000},
        (0.0412, 0.944),
        long=(0.0398, 0.945),
    )
)
REPOS = {
    "gguf": ("someone/Phi-3.5-mini-instruct-GGUF", GGUF),
    "onnx": ("someone/Phi-3.5-mini-instruct-onnx", ONNX),
    "openvino": ("someone/Phi-3.5-mini-instruct-int4-ov", OPENVINO),
    "mlx": ("someone/Phi-3.5-mini-instruct-4bit", MLX),
    "torch": ("someone/Phi-3.5-mini-instruct-quantized.w4a16", TORCH),
}
