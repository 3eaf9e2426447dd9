"""The paper's claims: which networks, in which order, by how much."""

from __future__ import annotations

import pytest

from gqs.errors import UsageError
from gqs.recipes import published
from gqs.reproduce import hypotheses


def test_networks_that_settle_the_claims_come_first_and_none_comes_twice() -> None:
    every = hypotheses.networks(["table8", "vgg16", "all"])
    assert every[:4] == ["resnet50_gqs", "resnet50_se", "resnet50", "resnet18"]
    assert len(every) == len(set(every))
    assert set(hypotheses.PUBLISHED) <= set(every)


def test_table_7_is_the_resnet_family() -> None:
    assert hypotheses.networks(["table7"]) == ["resnet50", "resnet18", "resnet34"]


def test_a_name_that_is_neither_network_nor_group_is_refused_with_both_lists() -> None:
    with pytest.raises(UsageError, match=r"resnet51.*resnet50.*table6"):
        hypotheses.networks(["resnet51"])


def test_claims_are_the_published_differences() -> None:
    """Section 4.3: the SE module adds 0.32 points to ResNet50; 4.4: GQS reaches 92.41 %."""
    gaps = {(c.better, c.worse): c.published for c in hypotheses.HYPOTHESES}
    assert gaps["resnet50_se", "resnet50"] == 0.0032
    assert gaps["resnet50_gqs", "resnet50_se"] == pytest.approx(0.9241 - 0.9182)
    assert gaps["resnet50", "resnet18"] == 0
    assert all(gap >= 0 for gap in gaps.values())
    assert len(hypotheses.HYPOTHESES) == 3 + len(published.TABLE_6) - 1 + len(published.TABLE_7) - 1
