"""Judges label maps: overlap, distances, plausibility, comparison. Imports files alone, no torch."""
