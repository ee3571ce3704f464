"""The words of the project, as frozen dataclasses that read and write JSON. They know nothing else."""
