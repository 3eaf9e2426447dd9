"""`gqs networks` as a user types it: a table for people, one object for machines, refusals."""

from __future__ import annotations

import json

from cli.commands import gqs
from gqs.networks import zoo


def test_every_network_has_a_line() -> None:
    done = gqs("networks")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert list(lines) == list(zoo.NETWORKS)
    assert lines["resnet50"].split()[1:5] == ["3x50", "23,514,179", "288.9", "M"]
    assert "Dosovitskiy et al. 2020" in lines["vit_b_16"]


def test_named_networks_and_channels_as_json() -> None:
    done = gqs("networks", "resnet18", "timm:resnet10t", "--channels", "5", "--json")
    assert done.returncode == 0, done.stderr
    ours, theirs = json.loads(done.stdout)["networks"]
    assert ours["parameters"] == 11_178_051 + 64 * 2 * 49  # two more channels of a 7x7 stem
    assert (theirs["name"], theirs["channels"], theirs["input_size"]) == ("timm:resnet10t", 5, 50)


def test_an_unknown_network_is_refused_in_one_sentence() -> None:
    done = gqs("networks", "resnet19")
    assert done.returncode == 2
    assert "Unknown network 'resnet19'" in done.stderr
    assert "Traceback" not in done.stderr
