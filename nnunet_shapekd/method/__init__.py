"""The science on plain tensors and masks, usable without nnU-Net. Imports torch, no room of this package."""
