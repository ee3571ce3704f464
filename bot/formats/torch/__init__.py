"""PyTorch: all that is known of it outside of its card."""
