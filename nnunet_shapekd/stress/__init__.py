"""A model on images that are shifted more and more. Imports across, evaluation, files, drawing; no report."""
