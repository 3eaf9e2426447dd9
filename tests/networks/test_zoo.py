"""Every network of the zoo keeps the contract: shapes, gradients, names, refusals."""

from __future__ import annotations

import pytest
import torch

from gqs.errors import UsageError
from gqs.networks import zoo

# Weights with 3 channels (compact: 10), counted from the papers' tables by hand or by torchvision.
COUNTS = {
    "resnet18": 11_178_051,
    "resnet34": 21_286_211,
    "resnet50": 23_514_179,
    "resnet50_gqs": 156_252_939,
}
SMALL = [name for name in zoo.NETWORKS if name.startswith(("compact", "resnet18"))]


@pytest.mark.parametrize("name", zoo.NETWORKS)
@pytest.mark.parametrize("channels", [6, 10])
def test_any_number_of_channels_gives_three_logits(name: str, channels: int) -> None:
    with torch.device("meta"):
        network = zoo.build(name, channels).eval()
        assert network(torch.empty(2, channels, 50, 50)).shape == (2, 3)


@pytest.mark.parametrize("name", [name for name in zoo.NETWORKS if name != "compact"])
def test_the_papers_picture_goes_into_every_network_but_compact(name: str) -> None:
    with torch.device("meta"):
        assert zoo.build(name).eval()(torch.empty(2, 3, 50, 50)).shape == (2, 3)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(1)
    network = zoo.build(name, 10)
    x = torch.cat([torch.randn(6, 5, 50, 50) * 3, torch.ones(6, 5, 50, 50)], dim=1)
    torch.nn.functional.cross_entropy(network(x), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    silent = [
        name
        for name, weight in network.named_parameters()
        if weight.grad is None or not weight.grad.abs().sum() > 0
    ]
    assert silent == []


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_counts_of_weights(name: str, count: int) -> None:
    assert zoo.parameters(name) == count


def test_the_steps_to_gqs_change_one_thing_at_a_time() -> None:
    steps = ["resnet50_se", "resnet50_se_stem", "resnet50_se_stem_widths"]
    steps += ["resnet50_se_stem_widths_3x3", "resnet50_gqs"]
    names = []
    for step in steps:
        with torch.device("meta"):
            names.append({k: v.shape for k, v in zoo.build(step).state_dict().items()})
    stem = [k for k in names[0] if names[0][k] != names[1][k]]
    assert stem == ["conv1.weight"]
    assert names[1].keys() == names[2].keys()  # widths change shapes alone
    assert names[2].keys() == names[3].keys()  # so does the order of the convolutions
    lost = {k.split(".", 2)[2] for k in names[3].keys() - names[4].keys()}
    assert {k.split(".")[0] for k in lost} == {"bn2", "bn3"}  # and GQS lacks two norms a unit


def test_an_unknown_network_is_refused_with_a_list() -> None:
    with pytest.raises(UsageError, match=r"Unknown network 'resnet19'.*compact, resnet18"):
        zoo.build("resnet19")


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(UsageError, match=r"compact.*depth"):
        zoo.build("compact", 10, depth=3)


@pytest.mark.parametrize("channels", [0, -3, 10**9])
def test_impossible_channels_are_refused_before_memory_is_taken(channels: int) -> None:
    with pytest.raises(UsageError, match="channels"):
        zoo.build("resnet18", channels)


def test_compact_refuses_a_picture_without_masks() -> None:
    with pytest.raises(UsageError, match="form 'flux'"):
        zoo.build("compact", 3)
