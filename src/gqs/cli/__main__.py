"""`python -m gqs.cli` is `gqs`."""

from gqs.cli import main

main()
