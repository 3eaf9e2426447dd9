"""Frames from the archive into a folder: one transfer, the folder's manifest, and many at once."""

from gqs.archive.fetch import MEAN_BYTES, Plan, fetch, frames_folder, plan
from gqs.archive.fetch_report import FetchReport
from gqs.archive.manifest import Manifest

__all__ = ["MEAN_BYTES", "FetchReport", "Manifest", "Plan", "fetch", "frames_folder", "plan"]
