"""Names things: frozen dataclasses and enums; knows nobody else."""
