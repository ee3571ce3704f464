"""PyTorch: compressed-tensors quantizes and packs, and transformers runs."""
