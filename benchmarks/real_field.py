"""Does a model that never saw a real pixel tell galaxies from point sources on a real field?

    python benchmarks/real_field.py --model demo/model
    python benchmarks/real_field.py                      # the model in the package

Field 003918-3-0213 at the 643 positions that SDSS's photo typed as galaxy or star. Photo knows no
quasars: a star and a quasar both count as a point source. Then the objects with spectra in all
four fields. Photo's types are no truth: below r = 21 they err too, and in halos and blends.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from astropy.table import Table

import gqs
from gqs import tables
from gqs.evaluation.intervals import wilson
from gqs.tables import Flag
from measured import real_folder, save

FIELD = "003918-3-0213"
EDGES = (13.0, 16.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model folder; by default the package's")
    parser.add_argument("--name", default="real_field", help="of the result")
    options = parser.parse_args()
    classifier = gqs.load_classifier(options.model)
    data = real_folder()
    positions = tables.read(data / "catalogs" / f"field_{FIELD}_photo_types.csv")
    frames = sorted((data / "frames" / FIELD).glob("frame-*.fits.bz2"))
    found = classifier.classify_field(frames, positions, prior="training")
    save(
        options.name,
        None,
        {
            "model": classifier.hash,
            "network": classifier.card["network"],
            "field": FIELD,
            "photo_types": agreement(found, np.asarray(positions["class"])),
            "spectra": spectra(classifier, data),
        },
    )


def agreement(found: Table, photo: np.ndarray) -> dict[str, object]:
    """Share of photo's galaxies and stars that the model calls extended or a point."""
    r, named = np.asarray(found["mag_r"]), np.asarray(found["class"])
    point = np.isin(named, ["STAR", "QSO"])
    judged = named != ""
    right = np.where(photo == "GALAXY", named == "GALAXY", point)
    saturated = np.asarray(found["flags"]) & int(Flag.SATURATED) > 0

    def share(rows: np.ndarray) -> dict[str, object]:
        count = int(rows.sum())
        if not count:
            return {"of": 0}
        estimate = wilson(int(right[rows].sum()), count)
        return {
            "of": count,
            "agree": round(estimate.value, 4),
            "interval": [round(estimate.low, 4), round(estimate.high, 4)],
        }

    bins = {}
    for low, high in itertools.pairwise(EDGES):
        here = judged & (r >= low) & (r < high)
        bins[f"{low:g}-{high:g}"] = {
            "all": share(here),
            "galaxies": share(here & (photo == "GALAXY")),
            "stars": share(here & (photo == "STAR")),
            "stars_called_quasars": int((here & (photo == "STAR") & (named == "QSO")).sum()),
        }
    return {
        "positions": len(found),
        "not_judged": int((~judged).sum()),
        "r<20": share(judged & (r < 20)),
        "r<20, galaxies": share(judged & (r < 20) & (photo == "GALAXY")),
        "r<20, stars": share(judged & (r < 20) & (photo == "STAR")),
        "r<21": share(judged & (r < 21)),
        "r<20, not saturated": share(judged & (r < 20) & ~saturated),
        "by_r": bins,
    }


def spectra(classifier: gqs.Classifier, data: Path) -> list[dict[str, object]]:
    """Judge the few objects with spectra in the real fields."""
    known = tables.read(data / "catalogs" / "spectroscopic_in_frames.csv")
    rows = []
    for row in known:
        folder = data / "frames" / f"{row['run']:06d}-{row['camcol']}-{row['field']:04d}"
        place = Table({"ra": [row["ra"]], "dec": [row["dec"]]})
        frames = sorted(folder.glob("frame-*.fits.bz2"))
        (judged,) = classifier.classify_field(frames, place, prior="training")
        rows.append(
            {
                "field": folder.name,
                "spectrum": str(row["class"]),
                "redshift": float(row["redshift"]),
                "r": round(float(judged["mag_r"]), 2),
                "judged": str(judged["class"]),
                "p": [round(float(judged[f"p_{name}"]), 3) for name in ("galaxy", "qso", "star")],
            }
        )
    return rows


if __name__ == "__main__":
    main()
