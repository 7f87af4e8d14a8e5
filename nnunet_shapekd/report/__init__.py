"""The page of evaluated models and its pictures. Imports evaluation, files, drawing and training's curves."""
