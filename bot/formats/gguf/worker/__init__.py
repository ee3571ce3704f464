"""GGUF: llama.cpp converts, quantizes and runs."""
