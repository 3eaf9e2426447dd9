"""Every network of the zoo keeps the contract: shapes, gradients, counts, saving, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from gqs.errors import UsageError
from gqs.model.folder import Card, load_model, save_model
from gqs.networks import zoo

# The paper's Tables 6-8, and its own.
PAPER = {
    *("vgg16", "googlenet", "resnet50", "mobilenet_v2", "densenet121", "efficientnet_b0"),
    *("vit_b_16", "swin_t", "convnext_tiny", "resnet18", "resnet34", "resnet50_gqs"),
    *("resnet18_se", "resnet18_eca", "resnet18_cbam"),
    *("resnet50_se", "resnet50_eca", "resnet50_cbam"),
}

# torchvision's documentation, pages of each network's weights IMAGENET1K_V1: parameters and
# 10^9 multiply-adds of a 224 px picture, for 1000 classes; and the width before the classifier.
PUBLISHED = {
    "resnet18": (11_689_512, 1.814, 512),
    "resnet34": (21_797_672, 3.664, 512),
    "resnet50": (25_557_032, 4.089, 2048),
    "vgg16": (138_357_544, 15.470, 4096),
    "googlenet": (6_624_904, 1.498, 1024),
    "mobilenet_v2": (3_504_872, 0.301, 1280),
    "densenet121": (7_978_856, 2.834, 1024),
    "efficientnet_b0": (5_288_548, 0.386, 1280),
    "vit_b_16": (86_567_656, 17.564, 768),
    "swin_t": (28_288_354, 4.491, 768),
    "convnext_tiny": (28_589_128, 4.456, 768),
}

# Units and channels of each stage of ResNet18 and ResNet50, for what attention adds.
STAGES = {
    "resnet18": ((2, 64), (2, 128), (2, 256), (2, 512)),
    "resnet50": ((3, 256), (4, 512), (6, 1024), (3, 2048)),
}


@pytest.fixture(scope="module", params=list(zoo.NETWORKS))
def built(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    """Each network once, as training has it."""
    torch.manual_seed(1)
    entry = zoo.find(request.param)
    return request.param, zoo.channels_last(zoo.build(request.param, entry.channels))


def cutouts(n: int, channels: int) -> torch.Tensor:
    x = torch.randn(n, channels, 50, 50, generator=torch.Generator().manual_seed(n)) * 2
    x[:, channels // 2 :] = 1 if channels == 10 else x[:, channels // 2 :]  # masks, or a picture
    return x


def test_the_papers_networks_are_all_there() -> None:
    assert set(zoo.NETWORKS) >= PAPER


def test_gradient_reaches_every_parameter(built: tuple[str, nn.Module]) -> None:
    name, network = built
    silent = dict(network.train().named_parameters())
    x, y = cutouts(3, zoo.find(name).channels), torch.tensor([0, 1, 2])
    # Twice at most: a head that begins at 0 (ViT) lets a gradient through from its second step on.
    for _ in range(2):
        network.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        silent = {k: w for k, w in silent.items() if w.grad is None or not w.grad.any()}
        if not silent:
            break
        torch.optim.SGD(network.parameters(), lr=0.01).step()
    network.zero_grad()  # makes room
    assert list(silent) == []


def test_judging_repeats_itself_and_survives_saving(
    built: tuple[str, nn.Module], tmp_path: Path
) -> None:
    name, network = built
    entry = zoo.find(name)
    x = cutouts(3, entry.channels)
    form, bands = ("paper", "gri") if entry.channels == 3 else ("flux", "ugriz")
    card = Card(
        network=name, bands=bands, form=form, stretch=entry.stretch, data_hash="a", split_hash="b"
    )
    save_model(tmp_path / "model", network.state_dict(), card)
    loaded, read = load_model(tmp_path / "model")
    shutil.rmtree(tmp_path / "model")  # up to 625 MB
    assert read["network"] == name
    network.eval()
    with torch.inference_mode():
        logits = network(x)
        assert logits.shape == (3, 3)
        assert torch.isfinite(logits).all()
        assert torch.equal(loaded(x), logits)
        torch.testing.assert_close(network(x[1:2]), logits[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", zoo.NETWORKS)
@pytest.mark.parametrize("channels", [5, 10])
def test_any_number_of_channels_gives_three_logits(name: str, channels: int) -> None:
    if name == "compact" and channels % 2:
        pytest.skip("compact takes a mask with every band")
    with torch.device("meta"):
        network = zoo.build(name, channels).eval()
        assert network(torch.empty(2, channels, 50, 50)).shape == (2, 3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_published(name: str) -> None:
    weights, billions, width = PUBLISHED[name]
    assert zoo.parameters(name) == weights - (1000 - 3) * (width + 1)
    with torch.device("meta"):
        network = zoo.build(name)
    whole = zoo.multiply_adds(network, 3, side=224) + (1000 - 3) * width
    assert whole / 1e9 == pytest.approx(billions, abs=0.00051)


@pytest.mark.parametrize("base", STAGES)
def test_attention_adds_the_weights_of_its_formula(base: str) -> None:
    added = {
        form: zoo.parameters(f"{base}_{form}") - zoo.parameters(base)
        for form in ("se", "eca", "cbam")
    }
    squeezed = sum(n * 2 * c * c // 16 for n, c in STAGES[base])  # Hu et al. 2018, eq. 5
    assert added["se"] == squeezed + sum(n * (c + c // 16) for n, c in STAGES[base])
    # Wang et al. 2020, eq. 12: 3 weights for 64 channels, 5 for 128 to 1024, 7 for 2048.
    assert added["eca"] == sum(n * {64: 3, 2048: 7}.get(c, 5) for n, c in STAGES[base])
    last = STAGES[base][-1][1]
    mlps = sum(2 * c * (c // 16) + c // 16 + c for c in (64, last))
    assert added["cbam"] == mlps + 2 * 2 * 7 * 7
    if base == "resnet50":
        assert squeezed / 1e6 == pytest.approx(2.5, abs=0.05)  # as they print it


def test_gqs_has_the_weights_of_table_2() -> None:
    assert zoo.parameters("resnet50_gqs") == 156_252_939  # test_resnet has them stage by stage


def test_what_a_network_costs_is_said_for_its_own_input() -> None:
    facts = zoo.describe("resnet18")
    # By hand: stem 25 x 25 places, then 13, 7, 4 and 2 squared; 3 x 3 but for stem and shortcuts.
    stem, head = 625 * 64 * 3 * 49, 512 * 3
    stages = [(169, 64, 64), (49, 64, 128), (16, 128, 256), (4, 256, 512)]
    sums = sum(n * (9 * a * b + 27 * b * b + (a * b if a != b else 0)) for n, a, b in stages)
    assert facts.multiply_adds == stem + sums + head
    assert (facts.name, facts.channels, facts.input_size) == ("resnet18", 3, 50)
    assert facts.parameters == zoo.parameters("resnet18")
    assert "He et al. 2016" in facts.source
    assert zoo.describe("resnet18", 5).multiply_adds == facts.multiply_adds + 625 * 64 * 2 * 49
    assert zoo.describe("compact").channels == 10


@pytest.mark.parametrize(("name", "size"), [("vit_b_16", 224), ("swin_t", 224), ("vgg16", 50)])
def test_the_size_on_which_a_network_looks_is_said(name: str, size: int) -> None:
    assert zoo.describe(name).input_size == size


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


@pytest.mark.parametrize(
    ("name", "known"),
    [("compact", "It has width, hidden"), ("resnet50_gqs", "It has none."), ("vgg16", "has size.")],
)
def test_an_unknown_argument_is_refused_with_those_that_there_are(name: str, known: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}' has no argument 'depth'.*{known}"):
        zoo.build(name, 10, depth=3)


def test_an_argument_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="vgg16"):
        zoo.build("vgg16", 3, size="large")


@pytest.mark.parametrize("channels", [0, -3, 10**9])
def test_impossible_channels_are_refused_before_memory_is_taken(channels: int) -> None:
    with pytest.raises(UsageError, match="channels"):
        zoo.build("resnet18", channels)


def test_compact_refuses_a_picture_without_masks() -> None:
    with pytest.raises(UsageError, match="form 'flux'"):
        zoo.build("compact", 3)


def test_the_documentations_table_is_of_these_networks() -> None:
    page = (Path(__file__).parents[2] / "docs/networks.md").read_text("utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")]
    documented = {row[0].strip(" `"): int(row[2].replace(",", "")) for row in rows}
    counted = {name: zoo.parameters(name, zoo.find(name).channels) for name in zoo.NETWORKS}
    assert documented == counted, "update it: python benchmarks/network_cost.py"
