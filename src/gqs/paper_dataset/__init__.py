"""The paper's data set from one command: query, balance, fetch, cut, split. Paper 3.1-3.4.

OUT/request.json       what it was begun as
OUT/spectra.parquet    every spectrum of the runs, as it was pulled
OUT/catalog.parquet    what is left when the classes are made about equal
OUT/cutouts            the store, with split.parquet
OUT/frames             the frames, unless another folder is named
"""

from gqs.paper_dataset.make import PaperDataset, make
from gqs.paper_dataset.plan import Outlook, Wish, catalogue, outlook

__all__ = ["Outlook", "PaperDataset", "Wish", "catalogue", "make", "outlook"]
