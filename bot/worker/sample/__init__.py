"""Samples: small checkpoints of every family of Phi, made here."""
