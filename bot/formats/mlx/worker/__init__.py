"""MLX: mlx-lm converts, quantizes and runs."""
