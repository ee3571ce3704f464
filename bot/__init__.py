"""Turns every Microsoft Phi release into quantized files, each proven against the original."""

__version__ = "0.1.0"
