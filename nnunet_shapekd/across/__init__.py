"""A model on datasets it was not trained on. Imports evaluation, training's look-up and files; no stress, no report."""
