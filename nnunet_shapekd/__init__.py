"""Shape-intensity knowledge distillation (SIKD) as a plugin of nnU-Net v2."""

__version__ = "0.1.0"
