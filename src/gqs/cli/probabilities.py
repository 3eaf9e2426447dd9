"""What `gqs classify` can be asked beyond classes: a prior, sets, candidates; how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gqs.errors import UsageError

if TYPE_CHECKING:
    from astropy.table import Table

    from gqs.classify.classifier import Classifier
    from gqs.classify.priors import Prior
    from gqs.classify.weighing import Candidates
    from gqs.evaluation.intervals import Estimate

PURITY = 0.9

PriorName = Annotated[
    str | None,
    typer.Option(
        help="How common the classes are: balanced, sky (published counts), or a table with "
        "columns r, galaxy, qso, star.  \\[default: as in the model's training]"
    ),
]
Coverage = Annotated[
    float | None,
    typer.Option(help="Add the column set: classes that hold the true one this often, as 0.95."),
]
CandidatesOf = Annotated[
    str | None, typer.Option("--candidates", help="Also list candidates: GALAXY, QSO or STAR.")
]
Purity = Annotated[
    float | None,
    typer.Option(help=f"Share of the candidates that shall be right.  \\[default: {PURITY}]"),
]
CandidatesOut = Annotated[
    Path | None, typer.Option(help="File of the candidates.  \\[default: beside the catalogue]")
]


@dataclass(frozen=True)
class Wanted:
    """What was asked for, checked before any field is read."""

    prior: Prior | None
    coverage: float | None
    name: str | None
    purity: float
    out: Path

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        out: Path,
        prior: str | None,
        coverage: float | None,
        name: str | None,
        purity: float | None,
        candidates_out: Path | None,
    ) -> Wanted:
        """Check the options; what the model cannot give is refused here.

        Parameters
        ----------
        classifier : Classifier
            The judge.
        out : Path
            The catalogue.
        prior, coverage, name, purity, candidates_out
            As they were typed; None where they were not.

        Returns
        -------
        Wanted
            Ready for `answered`.

        Raises
        ------
        UsageError
            If options do not fit, or need what the model does not have.
        """
        from gqs import tables
        from gqs.classify.weighing import list_candidates, weigh
        from gqs.evaluation.candidates import checked

        chosen = None
        if prior is not None:
            from gqs.classify.priors import find_prior

            chosen = find_prior(prior)
        if name is None and (purity is not None or candidates_out is not None):
            raise UsageError("--purity and --candidates-out go with --candidates.")
        name = None if name is None else name.upper()
        share = PURITY if purity is None else purity
        listed = candidates_out
        if name is not None:
            checked(name, share)
            if listed is None:
                listed = out.with_stem(f"{out.stem}-{name.lower()}-candidates")
                if listed.suffix.lower() == tables.HATS:
                    listed = listed.with_suffix(".parquet")
            if listed.suffix.lower() == tables.HATS:
                raise UsageError(f"{listed}: HATS has no empty catalogues; name .parquet, say.")
            tables.check_ending(listed)
            if listed.resolve() == out.resolve() or listed.is_dir():
                raise UsageError(f"{listed}: name another file for the candidates.")
        wanted = cls(chosen, coverage, name, share, listed or out)
        # A catalogue without rows tells what the model lacks before hours of work.
        nothing = weigh(no_rows(), classifier, chosen, coverage)
        if name is not None:
            list_candidates(nothing, classifier, name, share, chosen)
        return wanted

    def answered(
        self, predictions: Table, classifier: Classifier
    ) -> tuple[Table, list[str], dict[str, Any]]:
        """Weigh a catalogue and write its candidates.

        Parameters
        ----------
        predictions : Table
            As the classifier gave them.
        classifier : Classifier
            The judge.

        Returns
        -------
        weighed : Table
            The catalogue.
        lines : list of str
            For people.
        told : dict
            For machines.
        """
        from gqs import tables
        from gqs.classify.weighing import list_candidates, weigh

        found = weigh(predictions, classifier, self.prior, self.coverage)
        lines = [*self._about_prior(found), *self._about_sets(found)]
        told: dict[str, Any] = {"prior": self.prior.name if self.prior else None}
        told["coverage"] = self.coverage
        if self.name is not None:
            listed = list_candidates(found, classifier, self.name, self.purity, self.prior)
            tables.write(listed.table, self.out)
            lines += self._about_list(listed)
            told["candidates"] = {
                **listed.threshold.to_json(),
                "objects": len(listed.table),
                "outside": listed.outside,
                "out": self.out,
            }
        return found, lines, told

    def _about_prior(self, found: Table) -> list[str]:
        """Say for which mix of classes the probabilities hold."""
        from gqs.classify.priors import near_plane
        from gqs.evaluation.judged import numbers
        from gqs.tables import Flag

        if self.prior is None:
            return [
                "Probabilities hold for the mix of classes that the model learned from: on an "
                "ordinary sky few faint QSO are (--prior sky)."
            ]
        about = self.prior.about
        if self.prior.name == "sky":
            about = "published counts by r magnitude, of stars by galactic latitude too"
        lines = [f"Probabilities hold for the prior {self.prior.name}: {about}."]
        missed = int(((found["flags"] & int(Flag.NO_PRIOR)) > 0).sum())
        if missed:
            lines.append(
                f"{missed} objects have no r magnitude: theirs hold for the mix that the model "
                "learned from (flag NO_PRIOR)."
            )
        low = near_plane(numbers(found, "ra"), numbers(found, "dec"))
        if self.prior.name == "sky" and low:
            lines.append(
                f"{low} objects lie within 20 degrees of the galactic plane, where the star counts "
                "do not hold: those of 20 degrees were taken."
            )
        return lines

    def _about_sets(self, found: Table) -> list[str]:
        if self.coverage is None:
            return []
        sizes = [len(str(text).split()) for text in found["set"] if str(text)]
        mean = f" (mean size {sum(sizes) / len(sizes):.2f})" if sizes else ""
        return [
            f"Sets{mean} hold the true class of {100 * self.coverage:g} % of each class's objects, "
            "where these are like the model's validation objects."
        ]

    def _about_list(self, listed: Candidates) -> list[str]:
        limit = listed.threshold
        column = f"p_{limit.name.lower()}"
        prior = f"at the prior {self.prior.name}" if self.prior else "at the model's own mix"
        facts = (
            f"{column} of {limit.value:.4g} or more: purity {_share(limit.purity)}, completeness "
            f"{_share(limit.completeness)} {prior}"
        )
        if limit.low > float("-inf"):
            facts += f", {limit.low:.1f} < r < {limit.high:.1f}"
        facts += f" (95 % intervals from {limit.objects:,} held-out objects)."
        if not limit.reached:
            return [
                f"No threshold makes {limit.name} candidates {100 * limit.asked:g} % pure; the "
                f"purest: {facts}",
                f"Candidates: {self.out}, an empty list. Ask for less by --purity.",
            ]
        lines = [f"{len(listed.table)} {limit.name} candidates with {facts}"]
        if len(listed.table):
            lines.append(f"By their own probabilities {100 * listed.own:.0f} % of them are.")
        if listed.outside:
            lines.append(
                f"{listed.outside} more are as probable, but their magnitude is unknown or outside "
                "that range: they are not listed."
            )
        return [*lines, f"Candidates: {self.out}"]


def _share(found: Estimate) -> str:
    return f"{100 * found.value:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"


def no_rows() -> Table:
    """Return a catalogue that has none, of which to ask what does not depend on them.

    Returns
    -------
    Table
        With the columns that priors and sets look at.
    """
    from astropy.table import Table

    from gqs import labels

    names = ("ra", "dec", "mag_r", *labels.PROBABILITY_COLUMNS)
    table = Table({name: [] for name in names}, dtype=[float] * len(names))
    table["class"] = [""][:0]
    table["flags"] = [0][:0]
    return table
