"""Options that several verbs share, and the panels of `--help` in which options are grouped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

INPUT = "Input"
ARCHIVE = "Archive"
MODEL = "Model"
PROBABILITIES = "Probabilities"
OUTPUT = "Output"
CLUSTER = "Cluster"


def option(text: str, *names: str, panel: str | None = None, **settings: Any) -> Any:
    """An option with its help text, in a panel of `--help`."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


Seed = Annotated[int, option("Random seed; the same seed gives the same result.")]
Workers = Annotated[
    int | None,
    option("Number of worker processes.  \\[default: one per core]", "--workers", min=1),
]
AsJson = Annotated[bool, option("Print the result as JSON.", "--json", panel=OUTPUT)]
Bands = Annotated[str, option("Bands as one word that contains r, such as gri or ugriz.")]
Form = Annotated[
    Literal["flux", "paper"],
    option("flux: nanomaggies in each band; paper: 8-bit colour picture of i, r and g."),
]
Edge = Annotated[
    Literal["pad", "paper"],
    option("Cutouts at a frame's edge: padded and masked, or cropped and resized as in the paper."),
]
Store = Annotated[Path, typer.Argument(help="Cutout store, a folder that `gqs cutouts` wrote.")]
SplitFile = Annotated[
    Path | None, option("Saved split.  \\[default: split.parquet in STORE]", "--split")
]
Device = Annotated[
    str | None, option("cpu, cuda or mps.  \\[default: a GPU if there is one]", panel=MODEL)
]
Release = Annotated[
    str, option("SDSS data release, 8 to the newest, such as 16 or dr16.", panel=ARCHIVE)
]
Server = Annotated[
    str | None,
    option("Address to use instead of SkyServer's.", panel=ARCHIVE, metavar="URL"),
]
Mirror = Annotated[
    str | None,
    option("Frame server to use instead of SDSS's; same paths.", panel=ARCHIVE, metavar="URL"),
]
Connections = Annotated[
    int, option("Number of files to fetch at a time.", panel=ARCHIVE, min=1, max=64)
]
Prior = Annotated[
    str | None,
    option(
        "Class prior: sky (published number counts), balanced, training (the mix of the training "
        "set), or a table with columns r, galaxy, qso, star.  \\[default: sky; balanced for "
        "--catalog]",
        panel=PROBABILITIES,
    ),
]


@dataclass(frozen=True, kw_only=True)
class FrameSource:
    """Frames to classify: files on disk, or fields to fetch from the archive first."""

    frames: Annotated[
        list[Path] | None,
        typer.Argument(help="Frames (.fits, .fits.bz2, .fits.gz), or folders that contain them."),
    ] = None
    field: Annotated[
        list[str] | None,
        option("Fetch this field first, such as 3918-3-213; repeatable.", panel=ARCHIVE),
    ] = None
    ra: Annotated[
        float | None,
        option(
            "Right ascension in degrees, with --dec; SkyServer is asked for the field there.",
            panel=ARCHIVE,
        ),
    ] = None
    dec: Annotated[float | None, option("Declination in degrees.", panel=ARCHIVE)] = None
    release: Release = "16"
    cache: Annotated[
        Path | None,
        option(
            "Folder of fetched frames.  \\[default: $GQS_CACHE, or gqs in the user's cache]",
            panel=ARCHIVE,
        ),
    ] = None
    mirror: Mirror = None
    server: Server = None

    @property
    def to_fetch(self) -> bool:
        """Whether fields are named instead of files."""
        return bool(self.field) or self.ra is not None or self.dec is not None


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """The model and the engine that runs it."""

    model: Annotated[
        Path | None,
        option("Model folder.  \\[default: the model in the package]", panel=MODEL),
    ] = None
    engine: Annotated[
        str,
        option(
            "torch, onnx or openvino, optionally with a precision as in openvino:bf16; auto: the "
            "fastest one in fp32. Every engine is checked against torch before its first use.",
            panel=MODEL,
        ),
    ] = "auto"
