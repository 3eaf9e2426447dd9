"""The small network: its size, any bands and any mask, exactly the same however it is batched."""

from __future__ import annotations

import pytest
import torch

from gqs.errors import UsageError
from gqs.networks import zoo
from gqs.networks.compact import Compact


def cutouts(n: int, bands: int = 5) -> torch.Tensor:
    flux = torch.randn(n, bands, 50, 50, generator=torch.Generator().manual_seed(1))
    flux[:, :, 22:28, 22:28] += 8
    return torch.cat([flux, torch.ones_like(flux)], dim=1)


@pytest.fixture(scope="module")
def network() -> Compact:
    torch.manual_seed(2)
    built = Compact(10)
    built.fit(cutouts(64))
    built.train()
    with torch.no_grad():
        for _ in range(20):  # running means of the batch norms
            built(cutouts(64))
    return built.eval()


def test_it_is_small_enough_to_ship() -> None:
    assert zoo.parameters("compact", 10) <= 1_000_000


@pytest.mark.parametrize("missing", [[0], [4], [0, 4], [0, 1, 3, 4], [0, 1, 2, 3, 4]])
def test_any_bands_may_be_missing(network: Compact, missing: list[int]) -> None:
    x = cutouts(7)
    x[:, missing] = 0
    x[:, [5 + band for band in missing]] = 0
    with torch.inference_mode():
        logits = network(x)
    assert logits.shape == (7, 3)
    assert torch.isfinite(logits).all()


def test_what_lies_under_a_mask_does_not_matter(network: Compact) -> None:
    x = cutouts(3)
    x[:, 5, 10:40, 20:22] = 0
    other = x.clone()
    other[:, 0, 10:40, 20:22] = 1e7
    with torch.inference_mode():
        assert torch.equal(network(x), network(other))


def test_an_objects_logits_do_not_depend_on_its_company(network: Compact) -> None:
    x = cutouts(9)
    with torch.inference_mode():
        together = network(x)
        alone = torch.cat([network(one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_star_of_any_brightness_gives_finite_logits(network: Compact) -> None:
    x = cutouts(4)
    x[:, :5] *= torch.tensor([1e-6, 1.0, 1e4, 1e6])[:, None, None, None]
    with torch.inference_mode():
        assert torch.isfinite(network(x)).all()


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_it_is_built_for_any_number_of_bands(bands: int) -> None:
    assert Compact(2 * bands).eval()(cutouts(2, bands)).shape == (2, 3)


def test_it_can_take_the_seeing() -> None:
    torch.manual_seed(3)
    network = Compact(15, seeing=True).eval()
    x = cutouts(6)
    planes = torch.full((6, 5, 50, 50), 1.2)
    sharp, blurred = (network(torch.cat([x, planes * factor], dim=1)) for factor in (1, 1.5))
    unknown = network(torch.cat([x, planes * 0], dim=1))
    assert (sharp - blurred).abs().max() > 1e-3 and (sharp - unknown).abs().max() > 1e-3
    with pytest.raises(UsageError, match=r"a seeing channel .* not 10 channels"):
        Compact(10, seeing=True)
