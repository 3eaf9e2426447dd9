"""From .fits.bz2 on disk to a catalogue: what a field costs, beside the way one would write it.

    python benchmarks/fields_speed.py [--fields 12] [--repeats 3] [--model FOLDER]

Three measurements on real fields of five bands, in one run:

- the limit: processor-seconds that the standard library's bz2 takes for a field's five archives;
- ours: processor-seconds a field, whole and by stage, on one thread; then `classify_parts` on many
  fields (the real ones renumbered, see many_fields.py) with a child a core: fields a minute;
- theirs, as a user would write it: astropy opens each .bz2, reproject_interp (bicubic) brings each
  band onto r, photutils finds and deblends sources, Cutout2D cuts each band of each, and
  ResNet50-GQS in eager torch judges them, torch using all cores: fields a minute.

Run it on a quiet machine; it asks for GQS_REAL_DATA and for photutils.
"""

from __future__ import annotations

import argparse
import bz2
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gqs import tables
from gqs.cutouts.extract import cut_flux
from gqs.cutouts.field import cut_field
from gqs.cutouts.quality import quality_flags
from gqs.executors import cpu_count
from gqs.imaging import unpack
from gqs.imaging.align import align
from gqs.imaging.detect import find
from gqs.imaging.frames import read_frame
from gqs.imaging.photometry import aperture_magnitudes, local_sky
from gqs.imaging.psf import psf_magnitudes
from gqs.imaging.seeing import field_stars
from gqs.model.classifier import load_classifier
from gqs.networks import zoo
from gqs.runs.local import classify_parts
from gqs.surveys.sdss import BANDS, SKY_NOISE
from many_fields import real_paths, renumbered
from measured import matrix_rate, save

REFERENCE = BANDS.index("r")
WHOLE = "from archives to the catalogue"


class Clock:
    """Processor-seconds by stage, added up over repeats."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {}

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        begin = time.process_time()
        found = work()
        self.took.setdefault(stage, []).append(time.process_time() - begin)
        return found

    def medians(self) -> dict[str, float]:
        return {stage: statistics.median(took) for stage, took in self.took.items()}


def limit(paths: list[Path], clock: Clock) -> None:
    archives = [path.read_bytes() for path in paths]
    clock("decompression alone", lambda: [bz2.decompress(archive) for archive in archives])


def ours(paths: list[Path], classifier: Any, clock: Clock, out: Path) -> int:
    """What `cut_field` and the classifier do: in one go, which counts, and step by step."""
    spec, files = classifier.cutout_spec, dict(zip(BANDS, paths, strict=True))

    def whole() -> Any:
        found = classifier.classify_cutouts(cut_field(files, spec))
        tables.write(found, out / "part.parquet")
        return found

    found = clock(WHOLE, whole)
    clock("decompress", lambda: [unpack.read(path) for path in paths])
    frames = clock("read", lambda: {band: read_frame(path) for band, path in files.items()})
    stack = clock("align", lambda: align(frames, BANDS, star_shift=spec.star_shift))
    sources, _ = clock("detect", lambda: find(stack))
    stars = clock("seeing", lambda: field_stars(stack, sources))
    x, y = np.asarray(sources["x"]), np.asarray(sources["y"])
    images, _ = clock("cut", lambda: cut_flux(stack, x, y, spec.edge))
    clock("look for faults", lambda: quality_flags(images, BANDS))
    sky = clock("local sky", lambda: local_sky(images, BANDS))
    clock("aperture photometry", lambda: aperture_magnitudes(images, BANDS, sky=sky))
    clock("PSF photometry", lambda: psf_magnitudes(stack, sources, sky.level, sources, stars))
    ready = cut_field(files, spec)
    clock("classify", lambda: classifier.classify_cutouts(ready))
    clock("write", lambda: tables.write(found, out / "part.parquet"))
    return len(found)


def theirs(paths: list[Path], network: torch.nn.Module, clock: Clock) -> int:
    """A field as a user would write it, with today's releases of the usual libraries."""
    from astropy.convolution import convolve
    from astropy.io import fits
    from astropy.nddata import Cutout2D
    from astropy.wcs import WCS
    from photutils.background import Background2D, MedianBackground
    from photutils.segmentation import (
        SourceCatalog,
        SourceFinder,
        make_2dgaussian_kernel,
    )
    from reproject import reproject_interp

    def opened() -> list[tuple[np.ndarray, Any]]:
        images = []
        for path in paths:
            with fits.open(path) as hdus:
                images.append((hdus[0].data.astype(np.float32), WCS(hdus[0].header)))
        return images

    images = clock("open", opened)
    onto = images[REFERENCE]

    def reprojected() -> list[np.ndarray]:
        return [
            onto[0]
            if i == REFERENCE
            else reproject_interp(image, onto[1], shape_out=onto[0].shape, order="bicubic")[0]
            for i, image in enumerate(images)
        ]

    planes = clock("reproject", reprojected)

    def sources() -> Any:
        sky = Background2D(onto[0], (128, 128), bkg_estimator=MedianBackground())
        data = onto[0] - sky.background
        kernel = make_2dgaussian_kernel(2.5, size=9)
        smooth = convolve(data, kernel)
        noise = sky.background_rms * np.sqrt((kernel.array**2).sum())
        finder = SourceFinder(5, nlevels=64, contrast=0.001, progress_bar=False)
        return SourceCatalog(data, finder(smooth, 5 * noise), convolved_data=smooth)

    found = clock("detect and deblend", sources)
    places = clock("centroids", lambda: np.column_stack([found.x_centroid, found.y_centroid]))

    def cutouts() -> np.ndarray:
        cut = [
            [Cutout2D(p, (x, y), 50, mode="partial", fill_value=np.nan).data for p in planes]
            for x, y in places
        ]
        return np.array(cut, dtype=np.float32)

    cut = clock("cut", cutouts)
    noise = np.array([SKY_NOISE[band] for band in BANDS], dtype=np.float32)[:, None, None]

    def judged() -> torch.Tensor:
        x = torch.from_numpy(np.arcsinh(np.nan_to_num(cut) / noise))
        with torch.no_grad():
            return torch.cat([network(some).softmax(1) for some in x.split(256)])

    return len(clock("judge", judged))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=12)
    parser.add_argument("--real", type=int, default=4, help="real fields, for a small try")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--name", default="fields_speed", help="of the result file")
    asked = parser.parse_args()
    cores, fields, gflops = cpu_count(), real_paths()[: asked.real], matrix_rate()
    classifier = load_classifier(asked.model, engine=asked.engine)
    network = zoo.build("resnet50_gqs", channels=len(BANDS)).eval()
    limits, mine, other = Clock(), Clock(), Clock()
    walls: list[float] = []
    objects: list[int] = []
    for paths in fields:
        begin = time.monotonic()
        objects.append(theirs(paths, network, other))
        walls.append(time.monotonic() - begin)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        torch.set_num_threads(1)
        judge_alone = load_classifier(asked.model, engine=classifier.computes.name, threads=1)
        rows = []
        for _ in range(asked.repeats):
            for paths in fields:
                limit(paths, limits)
                rows.append(ours(paths, judge_alone, mine, out))
        many = renumbered(out / "fields", asked.fields)
        classify_parts(classifier, many[:5], parts=out / "warm")
        begin = time.monotonic()
        report = classify_parts(classifier, many, parts=out / "parts")
        wall = time.monotonic() - begin
        assert len(report.parts) == asked.fields, report.set_aside
    stages = mine.medians()
    in_all = stages.pop(WHOLE)
    # `read` decompresses too: what it takes beyond that is the FITS and the noise model.
    stages["read"] -= stages["decompress"]
    least = limits.medians()["decompression alone"]
    ours_a_minute = 60 * asked.fields / wall
    theirs_a_minute = 60 / statistics.median(walls)
    save(
        asked.name,
        None,
        {
            "question": "What does a field cost, and how near is that to decompression alone?",
            "cores_used": cores,
            "matrix_gflops": gflops,
            "model": classifier.hash[:12],
            "engine": classifier.computes.name,
            "decompression_alone_cpu_s": least,
            "ours_cpu_s": stages,
            "ours_cpu_s_in_all": in_all,
            "ours_over_decompression": in_all / least,
            "ours_objects_a_field": statistics.median(rows),
            "ours_fields_a_minute": ours_a_minute,
            "theirs_cpu_s": other.medians(),
            "theirs_cpu_s_in_all": sum(other.medians().values()),
            "theirs_objects_a_field": statistics.median(objects),
            "theirs_fields_a_minute": theirs_a_minute,
            "ours_over_theirs": ours_a_minute / theirs_a_minute,
        },
    )


if __name__ == "__main__":
    main()
