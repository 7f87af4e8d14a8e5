"""Judging segmentations: surface distances, plausibility, cardiac indices, paired comparison. Imports no torch."""
