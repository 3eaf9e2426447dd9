"""Networks of torchvision and timm: equal to theirs with the same weights; imports; refusals."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gqs.errors import UsageError
from gqs.model.folder import Card, load_model, save_model
from gqs.networks import libraries, zoo
from gqs.networks.libraries import import_timm, import_torchvision

TINY = "timm:vit_tiny_patch16_224"


def first_convolution(network: nn.Module) -> nn.Conv2d:
    return next(part for part in network.modules() if isinstance(part, nn.Conv2d))


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "convnext_tiny"])
def test_equal_to_torchvisions_with_the_same_weights(name: str) -> None:
    torch.manual_seed(3)
    theirs = getattr(import_torchvision(), name)(num_classes=3).eval()
    ours = zoo.build(name).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 50, 50)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_a_network_made_for_another_size_sees_the_cutout_resized() -> None:
    theirs = import_torchvision().swin_t(num_classes=3).eval()
    from torchvision.transforms.v2.functional import resize

    ours = zoo.build("swin_t").eval()
    ours.get_submodule("network").load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 50, 50)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(resize(x, [224, 224])), rtol=1e-4, atol=1e-4)


def test_resizing_keeps_a_source_where_it_is() -> None:
    x = torch.zeros(1, 2, 50, 50)
    x[0, 0, 10, 30], x[0, 1] = 7.0, 1.0
    y = libraries.Resize(200)(x)  # a pixel becomes 4 x 4, spread over its neighbours
    assert y.shape == (1, 2, 200, 200)
    assert float(y[0, 0].sum()) == pytest.approx(16 * 7, rel=1e-5)
    rows, columns = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    place = [float((y[0, 0] * axis).sum() / y[0, 0].sum()) for axis in (rows, columns)]
    assert place == pytest.approx([4 * 10.5 - 0.5, 4 * 30.5 - 0.5], abs=1e-3)
    assert (y[0, 1] == 1).all()  # what is valid everywhere stays so


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "swin_t", "convnext_tiny"])
def test_further_channels_leave_the_rest_as_it_was(name: str) -> None:
    torch.manual_seed(4)
    three, five = zoo.build(name, 3).eval(), zoo.build(name, 5).eval()
    weights = three.state_dict()
    first = next(k for k, v in weights.items() if v.shape != five.state_dict()[k].shape)
    weights[first] = torch.cat([weights[first], torch.zeros_like(weights[first][:, :2])], dim=1)
    five.load_state_dict(weights)
    x = torch.randn(2, 5, 50, 50)
    with torch.no_grad():
        torch.testing.assert_close(five(x), three(x[:, :3]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "swin_t", "convnext_tiny"])
def test_fresh_weights_keep_the_variance_of_what_follows(name: str) -> None:
    torch.manual_seed(5)
    three, twelve = (
        first_convolution(zoo.build(name, channels)).weight.detach() for channels in (3, 12)
    )
    assert float(three.std() / twelve.std()) == pytest.approx(2, rel=0.06)  # sqrt(12 / 3)
    assert float(twelve.mean().abs()) < 0.1 * float(twelve.std())


def test_googlenet_has_one_head_in_training_too() -> None:
    network = zoo.build("googlenet").train()
    assert network(torch.randn(4, 3, 50, 50)).shape == (4, 3)
    assert not [name for name, _ in network.named_parameters() if "aux" in name]


def test_vit_may_look_at_smaller_pictures() -> None:
    facts = zoo.describe("vit_b_16", size=64)
    assert facts.input_size == 64
    lost = (14 * 14 - 4 * 4) * 768  # positions, one for each patch of 16 px
    assert facts.parameters == zoo.parameters("vit_b_16") - lost


@pytest.mark.parametrize(("size", "message"), [(50, "50 px"), (8, "32 to 1024"), (10**9, "1024")])
def test_a_size_that_does_not_fit_is_refused_before_memory_is_taken(
    size: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        zoo.build("vit_b_16", size=size)


def test_timms_resnet_is_ours_with_the_same_weights() -> None:
    torch.manual_seed(6)
    theirs, ours = zoo.build("timm:resnet18", 5).eval(), zoo.build("resnet18", 5).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 5, 50, 50)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_any_network_of_timm_is_described() -> None:
    # timm's results table: 5.72 M weights with 1000 classes, 1.26 G multiply-adds at 224 px.
    facts = zoo.describe(TINY, 3)
    assert facts.input_size == 224
    whole = facts.parameters + 997 * (192 + 1)
    assert whole == 5_717_416
    assert facts.multiply_adds / 1e9 == pytest.approx(1.26, abs=0.01)
    assert zoo.describe("timm:resnet10t").input_size == 50  # takes cutouts as they come


def test_a_network_of_timm_is_saved_with_its_arguments(tmp_path: Path) -> None:
    torch.manual_seed(7)
    network = zoo.channels_last(zoo.build(TINY, 10, size=64)).eval()
    card = Card(
        network=TINY,
        arguments={"size": 64},
        bands="ugriz",
        form="flux",
        stretch="asinh",
        data_hash="a",
        split_hash="b",
    )
    save_model(tmp_path / "model", network.state_dict(), card)
    loaded, _ = load_model(tmp_path / "model")
    x = torch.randn(3, 10, 50, 50)
    with torch.inference_mode():
        assert torch.equal(loaded(x), network(x))


def test_an_unknown_network_of_timm_is_refused_with_near_matches() -> None:
    with pytest.raises(UsageError, match=r"no network 'resnet19'.*Did you mean.*resnet18"):
        zoo.find("timm:resnet19")
    with pytest.raises(UsageError, match=r"Did you mean resnet50\?"):
        zoo.build("timm:resnet50.a1_in1k")  # a tag names trained weights; ours are fresh


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:/tmp", "../resnet18", ""])
def test_nothing_but_a_name_of_timms_list_is_taken(name: str) -> None:
    with pytest.raises(UsageError, match="has no network"):
        zoo.build(f"timm:{name}")


@pytest.mark.parametrize("argument", ["pretrained", "checkpoint_path", "cache_dir"])
def test_no_argument_reaches_timm_that_would_fetch_or_unpickle(argument: str) -> None:
    with pytest.raises(UsageError, match=argument):
        zoo.build("timm:resnet10t", **{argument: "x"})


@pytest.mark.filterwarnings("ignore:CSATv2")
def test_a_network_of_timm_that_takes_no_cutouts_is_refused() -> None:
    with pytest.raises(UsageError, match=r"timm:csatv2.*5 channels.*size=224"):
        zoo.build("timm:csatv2", 5)  # its stem is fixed to three colours


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_torchvision_is_imported_if_it_is_installed() -> None:
    models = import_torchvision()
    assert models.resnet18(num_classes=3).fc.out_features == 3
    assert import_torchvision() is models


def test_our_own_networks_never_import_torchvision() -> None:
    code = "import sys, gqs.networks.zoo as zoo, gqs.training, gqs.model.folder\n"
    code += "zoo.build('resnet18'); print('torchvision' in sys.modules)"
    assert run(code) == "False"


def hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Make a library appear not to be installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    import_module = importlib.import_module

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}")
        return import_module(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)


def test_without_torchvision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torchvision")
    with pytest.raises(UsageError, match=r"gqs\[zoo\]"):
        import_torchvision()
    with pytest.raises(UsageError, match=r"gqs\[zoo\]"):
        zoo.build("vgg16")
    assert zoo.describe("resnet18").parameters == 11_178_051  # ours need no other library


def test_timm_is_imported_with_torchvision() -> None:
    assert import_timm().is_model("resnet18")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "timm")
    with pytest.raises(UsageError, match=r"timm.*gqs\[zoo\]"):
        zoo.build("timm:resnet18")
