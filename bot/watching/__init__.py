"""Which sources are watched beyond those of the configured authors."""
