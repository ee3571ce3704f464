"""Which sources are watched beyond the releases of the configured authors: fine-tunes, and models of new classes."""
