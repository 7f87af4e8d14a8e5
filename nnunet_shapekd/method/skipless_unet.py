"""The teacher's network: a planned nnU-Net U-Net whose decoder sees nothing but the bottleneck.

Without skip connections the network cannot copy edges from its input; it has to draw every structure from the
bottleneck's few numbers, which is where it learns shape (Dong, Du, Xu, arXiv 2409.17503, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn


class SkiplessUNetDecoder(nn.Module):
    """nnU-Net's ``UNetDecoder`` without the concatenations: each stage is transposed convolution, then convolutions.

    It takes over the layers of a planned decoder, whatever the plans or a trainer variant made them of (norm,
    non-linearity, dropout), and replaces one thing: each stage's first convolution, which no longer has the skip's
    channels to read. ``planned`` is used up by that.

    Like nnU-Net's, it always holds a segmentation layer per scale, so that the same weights load with deep supervision
    on and off. Unlike nnU-Net's, it holds no reference to the encoder, which would be saved twice.

    Args:
        planned: the decoder of a ``PlainConvUNet`` or ``ResidualEncoderUNet``.
    """

    def __init__(self, planned: UNetDecoder) -> None:
        super().__init__()
        self.deep_supervision = planned.deep_supervision
        self.num_classes = planned.num_classes
        self.transpconvs = planned.transpconvs
        self.stages = planned.stages
        self.seg_layers = planned.seg_layers
        #: of the encoder's stages, the first one's first
        self.strides = planned.encoder.strides
        for transpconv, stage in zip(self.transpconvs, self.stages, strict=True):
            first = stage.convs[0]
            first.input_channels = transpconv.out_channels
            # ConvDropoutNormReLU registers its convolution under two names
            first.conv = first.all_modules[0] = _with_input_channels(first.conv, transpconv.out_channels)

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Decode the bottleneck alone.

        Args:
            skips: the encoder's feature maps, finest first; only the last, ``(b, features, x, y[, z])``, is read.

        Returns:
            Logits ``(b, num_classes, X, Y[, Z])``, or with deep supervision a list of them, finest first.
        """
        x = skips[-1]
        outputs = []
        for transpconv, stage, seg_layer in zip(self.transpconvs, self.stages, self.seg_layers, strict=True):
            x = stage(transpconv(x))
            if self.deep_supervision:
                outputs.append(seg_layer(x))
        return outputs[::-1] if self.deep_supervision else self.seg_layers[-1](x)

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """How many numbers all convolutions put out for one sample, as nnU-Net's planner counts them.

        Args:
            input_size: ``(x, y[, z])`` of the encoder's input.
        """
        sizes = [np.array(input_size) // self.strides[0]]  # finest first
        for stride in self.strides[1:-1]:
            sizes.append(sizes[-1] // stride)
        count = np.int64(0)
        for size, transpconv, stage in zip(sizes[::-1], self.transpconvs, self.stages, strict=True):
            with_logits = self.deep_supervision or stage is self.stages[-1]
            count += stage.compute_conv_feature_map_size(size)
            count += (transpconv.out_channels + with_logits * self.num_classes) * size.prod(dtype=np.int64)
        return count


def without_skips(network: nn.Module) -> nn.Module:
    """Turn a planned U-Net into its skip-less twin, in place.

    Args:
        network: a freshly built ``PlainConvUNet`` or ``ResidualEncoderUNet`` (2D or 3D), or a subclass.

    Returns:
        ``network``, with a ``SkiplessUNetDecoder``. The replaced convolutions are initialised the network's own way.

    Raises:
        NotImplementedError: if the network's decoder is not nnU-Net's ``UNetDecoder``.
    """
    decoder = getattr(network, "decoder", None)
    if type(decoder) is not UNetDecoder:
        raise NotImplementedError(
            f"There is no skip-less twin of {type(network).__name__} (decoder: {type(decoder).__name__}). The teacher "
            "can be built from plans whose architecture is PlainConvUNet or ResidualEncoderUNet, nnU-Net's default and "
            "ResEnc planners' choices. Plan with one of those, or override build_network_architecture in a subclass "
            "of your teacher trainer."
        )
    network.decoder = SkiplessUNetDecoder(decoder)
    if hasattr(network, "initialize"):
        for stage in network.decoder.stages:
            stage.convs[0].conv.apply(network.initialize)
    return network


def _with_input_channels(conv: nn.Module, input_channels: int) -> nn.Module:
    """A new convolution like ``conv`` (``nn.Conv2d`` or ``nn.Conv3d``) for another number of input channels."""
    return type(conv)(
        input_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
