"""The paper made again: every network trained, every table and figure beside the published."""

from gqs.reproduce.run import Options, Reproduction, reproduce

__all__ = ["Options", "Reproduction", "reproduce"]
