"""Frames from the archive into a folder: one transfer, the folder's manifest, and many at once."""

from gqs.survey.archive.fetch import MEAN_BYTES, Plan, fetch, frames_folder, plan
from gqs.survey.archive.manifest import Manifest
from gqs.survey.archive.report import FetchReport

__all__ = ["MEAN_BYTES", "FetchReport", "Manifest", "Plan", "fetch", "frames_folder", "plan"]
