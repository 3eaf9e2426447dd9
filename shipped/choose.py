"""Install, of several models, the one with the median validation loss into the package.

    python shipped/choose.py build/seed-1 build/seed-2 build/seed-3

The best of three would partly be luck on the validation side.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from gqs.model.classifier import SHIPPED
from gqs.model.folder import load_model

PARTS = (
    "model.json",
    "weights.safetensors",
    "held_out.parquet",
    "typical.safetensors",
    "examples.safetensors",
    "learned.parquet",
    "history.csv",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", help="model folders, an odd number")
    options = parser.parse_args()
    if len(options.models) % 2 == 0:
        parser.error("an even number of models has no middle one; name one more or one fewer")
    chosen = middle(options.models)
    replace(chosen, SHIPPED)
    size = sum(path.stat().st_size for path in SHIPPED.iterdir())
    print(f"{chosen} is the middle one, and in the package now: {size / 1e6:.1f} MB.")


def middle(models: list[Path]) -> Path:
    """Return the model whose validation loss is the median."""
    loss = {path: load_model(path)[1]["metrics"]["validation"]["loss"] for path in models}
    ranked = sorted(models, key=lambda path: loss[path])
    for path in ranked:
        print(f"{path}: validation loss {loss[path]:.4f}")
    return ranked[len(ranked) // 2]


def replace(chosen: Path, place: Path) -> None:
    """Put a model's parts in the place of another's, which stays until all are copied."""
    lacking = [name for name in PARTS if not (chosen / name).is_file()]
    if lacking:
        raise SystemExit(f"{chosen}: lacks {', '.join(lacking)}. Train it again.")
    new = place.with_name(f".{place.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name in PARTS:
        shutil.copy(chosen / name, new / name)
    old = place.with_name(f".{place.name}.old")
    place.rename(old)
    new.rename(place)
    shutil.rmtree(old)


if __name__ == "__main__":
    main()
