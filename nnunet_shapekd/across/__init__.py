"""A model on datasets it was not trained on."""
