"""Our ResNets are torchvision's, weight for weight; GQS has the shapes of the paper's Table 2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gqs.networks import resnet, resnet_gqs, zoo
from gqs.networks.attention import (
    ConvolutionalBlockAttention,
    EfficientChannelAttention,
    SqueezeExcitation,
)
from gqs.networks.libraries import import_torchvision


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_equal_to_torchvision_with_the_same_weights(name: str) -> None:
    torch.manual_seed(3)
    theirs = getattr(import_torchvision(), name)(num_classes=3).eval()
    ours = zoo.build(name).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 50, 50)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def shapes_by_stage(network: nn.Module, channels: int = 3) -> list[tuple[int, ...]]:
    """(channel, row, column) after the stem and after every stage of one 50x50 cutout."""
    found: list[tuple[int, ...]] = []
    for stage in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        network.get_submodule(stage).register_forward_hook(
            lambda module, inputs, output: found.append(tuple(output.shape[1:]))
        )
    network(torch.empty(1, channels, 50, 50, device="meta"))
    return found


# Table 2, with 4 x 96 after conv2 as its own next row needs (the paper prints 96 there).
TABLE_2 = [(96, 13, 13), (384, 13, 13), (768, 7, 7), (1536, 4, 4), (3072, 2, 2)]


def test_gqs_has_the_shapes_of_table_2() -> None:
    with torch.device("meta"):
        network = zoo.build("resnet50_gqs").eval()
    assert shapes_by_stage(network) == TABLE_2


def test_resnet50_has_the_shapes_that_gqs_started_from() -> None:
    with torch.device("meta"):
        network = zoo.build("resnet50").eval()
    expected = [(64, 13, 13), (256, 13, 13), (512, 7, 7), (1024, 4, 4), (2048, 2, 2)]
    assert shapes_by_stage(network) == expected


def unit_weights(before: int, w: int, has_shortcut: bool) -> int:
    """Weights of Figure 8's unit: 3x3, BN, 1x1, 1x1, SE of reduction 16, shortcut with BN."""
    wide, squeezed = 4 * w, 4 * w // 16
    count = 9 * before * w + 2 * w  # 3x3 convolution, BN
    count += (w + 1) * wide + (wide + 1) * wide  # 1x1 convolutions with bias
    count += (wide + 1) * squeezed + (squeezed + 1) * wide  # SE
    return count + (before * wide + 2 * wide) * has_shortcut


def test_gqs_has_the_weights_of_table_2_stage_by_stage() -> None:
    with torch.device("meta"):
        network = zoo.build("resnet50_gqs")
    before = 96
    for stage, (w, depth) in enumerate(zip((96, 192, 384, 768), (3, 4, 6, 3), strict=True), 1):
        expected = unit_weights(before, w, True) + (depth - 1) * unit_weights(4 * w, w, False)
        found = sum(p.numel() for p in network.get_submodule(f"layer{stage}").parameters())
        assert found == expected, f"stage {stage}"
        before = 4 * w
    assert sum(p.numel() for p in network.parameters()) == 156_252_939
    assert (network.fc.in_features, network.fc.out_features) == (3072, 3)


def test_the_improved_unit_is_figure_8_written_out() -> None:
    torch.manual_seed(4)
    unit = resnet_gqs.ImprovedUnit(6, 4, stride=2, attention="se").eval()
    nn.init.uniform_(unit.bn1.running_mean)
    nn.init.uniform_(unit.downsample[1].running_var, 0.5, 2)
    x = torch.randn(3, 6, 7, 9)
    y = nn.functional.conv2d(x, unit.conv1.weight, stride=2, padding=1)
    y = unit.bn1(y)
    y = torch.relu(nn.functional.conv2d(y, unit.conv2.weight, unit.conv2.bias))
    y = nn.functional.conv2d(y, unit.conv3.weight, unit.conv3.bias)
    mean = y.mean(dim=(2, 3))
    squeezed = torch.relu(mean @ unit.attention.squeeze.weight.T + unit.attention.squeeze.bias)
    scale = torch.sigmoid(squeezed @ unit.attention.excite.weight.T + unit.attention.excite.bias)
    short = nn.functional.conv2d(x, unit.downsample[0].weight, stride=2)
    expected = torch.relu(y * scale[:, :, None, None] + unit.downsample[1](short))
    torch.testing.assert_close(unit(x), expected)
    assert expected.shape == (3, 16, 4, 5)


@pytest.mark.parametrize(("unit", "wide"), [(resnet.BasicBlock, 8), (resnet.Bottleneck, 32)])
def test_without_a_change_of_shape_the_shortcut_is_the_identity(
    unit: type[nn.Module], wide: int
) -> None:
    block = unit(wide, 8, 1, "none")
    assert block.downsample is None
    for name, weight in block.named_parameters():
        if name.startswith("bn"):
            nn.init.zeros_(weight)
    x = torch.rand(2, wide, 5, 7)
    torch.testing.assert_close(block.eval()(x), x)


@pytest.mark.parametrize(("base", "last"), [("resnet18", "conv2"), ("resnet50", "conv3")])
@pytest.mark.parametrize(
    ("form", "module"), [("se", SqueezeExcitation), ("eca", EfficientChannelAttention)]
)
def test_channel_attention_follows_the_last_convolution_of_every_unit(
    base: str, last: str, form: str, module: type[nn.Module]
) -> None:
    with torch.device("meta"):
        network = zoo.build(f"{base}_{form}").eval()
    units = [name for name, part in network.named_modules() if isinstance(part, resnet.Unit)]
    where = [name for name, part in network.named_modules() if isinstance(part, module)]
    assert where == [f"{unit}.attention" for unit in units]
    assert len(units) == {"resnet18": 8, "resnet50": 16}[base]
    order: list[str] = []
    for name, part in network.named_modules():
        if name.endswith((".conv1", ".conv2", ".conv3", ".attention")):
            part.register_forward_hook(lambda module, inputs, output, name=name: order.append(name))
    network(torch.empty(1, 3, 50, 50, device="meta"))
    inside = [name for name in order if name.split(".")[-1] in (last, "attention")]
    assert inside == [f"{unit}.{part}" for unit in units for part in (last, "attention")]


@pytest.mark.parametrize("base", ["resnet18", "resnet50"])
def test_cbam_follows_the_stem_and_precedes_the_classifier(base: str) -> None:
    with torch.device("meta"):
        network = zoo.build(f"{base}_cbam").eval()
    places = [n for n, m in network.named_modules() if isinstance(m, ConvolutionalBlockAttention)]
    assert places == ["stem_attention", "last_attention"]
    order: list[str] = []
    for name, part in network.named_children():
        part.register_forward_hook(lambda module, inputs, output, name=name: order.append(name))
    network(torch.empty(1, 3, 50, 50, device="meta"))
    stages = ["layer1", "layer2", "layer3", "layer4"]
    assert order[-8:] == ["maxpool", "stem_attention", *stages, "last_attention", "fc"]
