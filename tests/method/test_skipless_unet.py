import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet, ResidualUNet
from torch import nn

from nnunet_shapekd.method.skipless_unet import SkiplessUNetDecoder, without_skips


def planned(architecture: type, dim: int, deep_supervision: bool = True, **changes) -> nn.Module:
    """A small network from keywords as nnU-Net's planner writes them."""
    blocks = "n_conv_per_stage" if architecture is PlainConvUNet else "n_blocks_per_stage"
    kwargs = {
        "input_channels": 2,
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": {2: nn.Conv2d, 3: nn.Conv3d}[dim],
        "kernel_sizes": [[1] + [3] * (dim - 1), [3] * dim, [3] * dim],
        "strides": [[1] * dim, [1] + [2] * (dim - 1), [2] * dim],
        blocks: [2, 2, 2],
        "num_classes": 5,
        "n_conv_per_stage_decoder": [2, 1],
        "conv_bias": True,
        "norm_op": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dim],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": deep_supervision,
        **changes,
    }
    network = architecture(**kwargs)
    network.apply(network.initialize)
    return network


every_twin = pytest.mark.parametrize(
    ("architecture", "dim"), [(a, d) for a in (PlainConvUNet, ResidualEncoderUNet) for d in (2, 3)]
)


@every_twin
def test_outputs_have_the_planned_networks_shapes(architecture, dim):
    network = planned(architecture, dim)
    x = torch.randn(1, 2, *[16] * dim)
    expected = [tuple(y.shape) for y in network(x)]
    assert [tuple(y.shape) for y in without_skips(network)(x)] == expected


@every_twin
def test_the_decoder_reads_nothing_but_the_bottleneck(architecture, dim):
    network = without_skips(planned(architecture, dim)).eval()
    skips = network.encoder(torch.randn(1, 2, *[16] * dim))
    perturbed = [torch.full_like(skip, float("nan")) for skip in skips[:-1]] + [skips[-1]]
    for a, b in zip(network.decoder(skips), network.decoder(perturbed), strict=True):
        assert torch.equal(a, b)
    # the same perturbation goes straight through nnU-Net's decoder: the test can fail
    assert planned(architecture, dim).decoder(perturbed)[0].isnan().any()


@every_twin
def test_the_same_weights_give_the_same_result_with_deep_supervision_on_and_off(architecture, dim):
    on = without_skips(planned(architecture, dim, deep_supervision=True)).eval()
    off = without_skips(planned(architecture, dim, deep_supervision=False)).eval()
    off.load_state_dict(on.state_dict())
    x = torch.randn(1, 2, *[16] * dim)
    assert torch.equal(on(x)[0], off(x))
    on.decoder.deep_supervision = False  # what nnUNetTrainer.set_deep_supervision_enabled does
    assert torch.equal(on(x), off(x))


@every_twin
def test_each_decoder_stage_has_only_lost_the_skips_input_channels(architecture, dim):
    network = planned(architecture, dim)
    before = {name: tuple(p.shape) for name, p in network.named_parameters()}
    after = {name: tuple(p.shape) for name, p in without_skips(network).named_parameters()}
    assert before.keys() == after.keys()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert set(changed) == {f"decoder.stages.{s}.convs.0.conv.weight" for s in range(2)}
    assert all(b[1] == 2 * a[1] for b, a in changed.values())


@every_twin
def test_every_parameter_gets_a_gradient(architecture, dim):
    network = without_skips(planned(architecture, dim))
    sum(y.square().mean() for y in network(torch.randn(2, 2, *[16] * dim))).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("deep_supervision", [True, False])
@pytest.mark.parametrize("first_stride", [1, 2])
@every_twin
def test_the_size_of_all_feature_maps_is_what_the_convolutions_put_out(
    architecture, dim, first_stride, deep_supervision
):
    strides = [[first_stride] * dim, [1] + [2] * (dim - 1), [2] * dim]
    network = without_skips(planned(architecture, dim, deep_supervision, strides=strides))
    numbers = 0

    def count(module, inputs, output):
        nonlocal numbers
        numbers += output.numel()

    for module in network.decoder.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            module.register_forward_hook(count)
    size = [16, 24, 32][:dim]
    network(torch.zeros(1, 2, *size))
    assert network.decoder.compute_conv_feature_map_size(size) == numbers
    of_encoder = network.encoder.compute_conv_feature_map_size(size)
    assert network.compute_conv_feature_map_size(size) == of_encoder + numbers  # nnU-Net's own method


def test_new_convolutions_are_initialised_as_nnunet_initialises_them():
    torch.manual_seed(0)
    network = without_skips(planned(PlainConvUNet, 2, features_per_stage=[64, 128, 256]))
    conv = network.decoder.stages[0].convs[0].conv
    fan_in = conv.in_channels * 9
    assert conv.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / fan_in) ** 0.5, rel=0.02)  # He, slope 0.01
    assert conv.bias.abs().max() == 0


def test_the_encoder_is_saved_once():
    names = without_skips(planned(PlainConvUNet, 2)).state_dict()
    assert not [name for name in names if name.startswith("decoder.encoder")]


def test_an_architecture_without_a_twin_is_named():
    with pytest.raises(NotImplementedError, match="no skip-less twin of ResidualUNet.*PlainConvUNet"):
        without_skips(planned(ResidualUNet, 2))
    with pytest.raises(NotImplementedError, match="no skip-less twin of Conv2d"):
        without_skips(nn.Conv2d(1, 1, 1))


def test_a_twin_has_no_second_twin():
    network = without_skips(planned(PlainConvUNet, 2))
    assert isinstance(network.decoder, SkiplessUNetDecoder)
    with pytest.raises(NotImplementedError):
        without_skips(network)
