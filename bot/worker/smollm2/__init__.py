"""The real model: SmolLM2-135M-Instruct, which was really trained, made into a checkpoint of Phi-3's architecture."""
