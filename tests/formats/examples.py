"""A release for formats to look at."""

from bot.records.artifacts import Json, Release, SourceFile

PHI_4_MINI: dict[str, Json] = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "vocab_size": 200064,
    "rope_scaling": {"type": "longrope", "long_factor": [], "short_factor": []},
    "torch_dtype": "bfloat16",
}


def release(config: dict[str, Json], weight_bytes: int) -> Release:
    weights = SourceFile(path="model.safetensors", size=weight_bytes, digest="sha256:0")
    return Release(
        repo_id="microsoft/Phi-4-mini-instruct",
        commit="0" * 40,
        content_digest="0" * 64,
        files=(weights,),
        config=config,
    )
