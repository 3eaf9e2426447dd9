"""Our colour picture of each real field beside SDSS's own JPEG: structural similarity. Benchmark 2.

`python benchmarks/colour_picture.py FOLDER` also writes the pictures side by side.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from gqs.imaging.align import align
from gqs.imaging.composite import colour_picture
from measured import cpu_seconds, real_fields, save


def similarity(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Structural similarity in colour, in luminance, and at half the resolution."""
    grey = [np.asarray(Image.fromarray(a).convert("L"), dtype=float) for a in (theirs, ours)]
    ny, nx = (theirs.shape[0] // 2 * 2, theirs.shape[1] // 2 * 2)
    half = [
        a[:ny, :nx].reshape(ny // 2, 2, nx // 2, 2, 3).mean(axis=(1, 3)) for a in (theirs, ours)
    ]
    return {
        "colour": structural_similarity(theirs, ours, channel_axis=2),
        "luminance": structural_similarity(*grey, data_range=255),
        "colour_at_half_resolution": structural_similarity(*half, channel_axis=2, data_range=255),
    }


def main(out: Path | None) -> None:
    """Compare every real field, and save what was seen."""
    fields: dict[str, Any] = {}
    for folder, frames in real_fields():
        stack = align({band: frames[band] for band in "gri"}, "gri")
        ours = colour_picture(stack)[::-1]  # the JPEG's first row is the frame's last
        jpeg = Image.open(next(folder.glob("frame-irg-*.jpg")))
        theirs = np.asarray(jpeg.convert("RGB"))
        # The same picture through the same compression: what is left is not the JPEG's doing.
        buffer = io.BytesIO()
        Image.fromarray(ours).save(buffer, "JPEG", qtables=jpeg.quantization, subsampling="4:2:0")
        compressed = np.asarray(Image.open(buffer).convert("RGB"))
        fields[folder.name] = {
            "ssim": similarity(theirs, ours),
            "ssim_after_the_same_jpeg": similarity(theirs, compressed),
            "cpu_s": cpu_seconds(lambda stack=stack: colour_picture(stack), 3),
        }
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.hstack([theirs, ours])).save(out / f"{folder.name}.png")
    middle = np.median([one["ssim_after_the_same_jpeg"]["luminance"] for one in fields.values()])
    save("colour_picture", None, {"median_ssim": middle, "fields": fields})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
