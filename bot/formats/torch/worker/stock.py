"""The library's own way: transformers loads a whole model, compressed-tensors quantizes it there, and both save it.

This is what llmcompressor does without data, by the least and the largest weight of each group: it is what the file
that is written row by row is held against.
"""

from pathlib import Path
from typing import Any

from bot.formats.torch.worker.scheme import IGNORED, grid

Scheme = Any  # compressed-tensors is not installed where mypy runs


def write_weights(source: Path, out: Path, scheme: Scheme) -> None:
    """Leave the weights of a checkpoint in a folder, quantized. The model is held in memory."""
    import torch
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus, apply_quantization_config
    from compressed_tensors.quantization.utils import is_module_quantized
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        source, dtype="auto", local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=list(IGNORED)))
    with torch.no_grad():
        for module in filter(is_module_quantized, model.modules()):
            scales, zeros = grid(module.weight, scheme)
            module.weight_scale.copy_(scales)
            module.weight_zero_point.copy_(zeros)
            module.quantization_status = QuantizationStatus.FROZEN
    ModelCompressor.from_pretrained_model(model).compress_model(model)
    model.save_pretrained(out)
    for file in out.iterdir():
        if not file.name.startswith("model"):
            file.unlink()
