"""DS9 regions: a circle a source, which says its class and how probable that is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs import labels, tables
from gqs.tables.region import write_region


def test_each_circle_says_class_and_probability(tmp_path: Path) -> None:
    table = Table({"objid": np.arange(5, dtype=np.uint64)})
    for name in ("ra", "dec", "x", "y"):
        table[name] = np.linspace(10.25, 30.5, 5)
    for name in ("run", "camcol", "field"):
        table[name] = np.ones(5, dtype=np.int32)
    table["ra"][4] = np.nan  # nowhere: no circle
    p = np.eye(3)[[0, 1, 2, 0, 1]] * 0.88 + 0.04
    p[3] = np.nan
    found = tables.predictions(table, p, np.zeros(5, np.int32), "m")
    colours = dict(zip(labels.CLASSES, ("#ff0000", "#00ff00", "#0000ff"), strict=True))
    lines = write_region(found, tmp_path / "s.reg", colours).read_text().splitlines()
    circles = [line for line in lines if line.startswith("circle(")]
    texts = [re.search(r"text=\{(.*?)\}", line)[1] for line in circles]  # type: ignore[index]
    assert texts == ["GALAXY 0.92", "QSO 0.92", "STAR 0.92", "not classified"]
    for line, name in zip(circles, labels.CLASSES, strict=False):
        assert f"color={colours[name]}" in line and f"tag={{{name}}}" in line
    ra, dec, radius = re.match(r"circle\((.*),(.*),(.*)\"\)", circles[1]).groups()  # type: ignore
    assert (float(ra), float(dec)) == (float(found["ra"][1]), float(found["dec"][1]))
    assert float(radius) == 3.0
