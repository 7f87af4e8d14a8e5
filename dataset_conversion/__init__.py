"""Conversions of public datasets into nnU-Net's raw format, one module per source; none of them imports torch."""
