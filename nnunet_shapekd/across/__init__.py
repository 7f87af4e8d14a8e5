"""A model on data it was not trained on: other datasets, and images made worse step by step."""
