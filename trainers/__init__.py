"""Trainer classes for nnU-Net, found through the environment variable nnUNet_extTrainer."""
