"""Put into the package the one of several models that is in the middle by validation loss.

    python shipped/choose.py build/seed-1 build/seed-2 build/seed-3

The best of three would be luck that validation happened to see.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from gqs.classify.classifier import SHIPPED
from gqs.model_folder import load_model

PARTS = ("model.json", "weights.safetensors", "held_out.parquet", "typical.safetensors")
MORE = ("examples.safetensors", "history.csv", "learned.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", help="model folders, an odd number")
    options = parser.parse_args()
    cards = {path: load_model(path)[1] for path in options.models}
    loss = {path: float(card["metrics"]["validation"]["loss"]) for path, card in cards.items()}
    ranked = sorted(options.models, key=lambda path: loss[path])
    for path in ranked:
        print(f"{path}: validation loss {loss[path]:.4f}")
    chosen = ranked[len(ranked) // 2]
    for old in SHIPPED.iterdir():
        old.unlink()
    for name in (*PARTS, *MORE):
        shutil.copy(chosen / name, SHIPPED / name)
    size = sum(path.stat().st_size for path in SHIPPED.iterdir())
    print(f"{chosen} is the middle one, and in the package now: {size / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
