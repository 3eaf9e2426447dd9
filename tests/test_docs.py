"""The public API, which docs/api.md lists, is importable and documented in full; plain English."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest
from numpydoc.validate import validate

ROOT = Path(__file__).parents[1]
PUBLIC = re.findall(
    r"^\.\. auto(?:function|class):: (gqs\.\S+)", (ROOT / "docs/api.md").read_text(), re.M
)
# There is a summary that ends in a period; parameters and return values are described.
CHECKS = {"GL08", "SS03", "PR01", "PR02", "PR03", "PR07", "RT01", "RT03"}
OF_FUNCTIONS = {"PR01"}  # the attributes of a class are described in a section of their own
# Words of an older style that users and readers stumbled over.
BANNED = re.compile(r"\b(told|tells|nobody|whoever|made again|in its eyes|mend(ed|s)?)\b", re.I)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_full_docstrings(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    source = getattr(importlib.import_module(module), attribute)
    where = f"{source.__module__}.{source.__qualname__}"
    checks = CHECKS - OF_FUNCTIONS if isinstance(source, type) else CHECKS
    wrong = [error for error in validate(where)["errors"] if error[0] in checks]
    assert wrong == []


def test_texts_are_in_plain_english() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "src/*.py", "docs/*.md", ":(top,glob)*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in listed.stdout.split()
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), start=1)
        if BANNED.search(line)
    ]
    assert found == []
