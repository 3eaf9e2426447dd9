"""Reproducing the paper: its networks trained, its tables and figures beside the published ones."""

from gqs.reproduce.plan import Options
from gqs.reproduce.run import Reproduction, reproduce

__all__ = ["Options", "Reproduction", "reproduce"]
