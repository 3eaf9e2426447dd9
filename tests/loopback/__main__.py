"""The archive in a process of its own: python -m loopback, run in the folder tests.

Prints its address, and serves until its standard input is closed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loopback.sas import any_field, serve_frames, small_frame
from loopback.server import LoopbackServer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--frame", type=Path, help="frame whose pixels all fields get")
    options.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    options.add_argument("--pace", type=float, help="seconds for each 8 KiB of a body")
    chosen = options.parse_args()
    pixels = chosen.frame.read_bytes() if chosen.frame else small_frame()
    with LoopbackServer() as server:
        serve_frames(server, any_field(pixels))
        if chosen.latency:
            server.fault("latency", seconds=chosen.latency, method="")
        if chosen.pace:
            server.fault("pace", after=8192, seconds=chosen.pace)
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
