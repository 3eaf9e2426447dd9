"""What `gqs classify` can be asked beyond classes: a prior, sets, candidates; how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gqs.errors import UsageError

if TYPE_CHECKING:
    from astropy.table import Table

    from gqs.evaluation.intervals import Estimate
    from gqs.model.classifier import Classifier
    from gqs.model.reweight import Candidates
    from gqs.probability.priors import Prior

PURITY = 0.9
HELD_OUT = "promised for objects like those that the model held out (docs/probabilities.md)"

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
        """Check the options; what the model cannot give is refused here."""
        from gqs import tables
        from gqs.model.reweight import list_candidates, weigh
        from gqs.probability.candidates import checked
        from gqs.probability.priors import find_prior, require_counts

        chosen = None if prior is None else find_prior(prior)
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
            require_counts(chosen, "--candidates")
        wanted = cls(chosen, coverage, name, share, listed or out)
        # A catalogue without rows tells what the model lacks before hours of work.
        nothing = weigh(no_rows(), classifier, chosen, coverage)
        if name is not None:
            list_candidates(nothing, classifier, name, share, chosen)
        return wanted

    def answered(
        self, predictions: Table, classifier: Classifier
    ) -> tuple[Table, list[str], dict[str, Any]]:
        """Weigh a catalogue and write its candidates."""
        from gqs import tables
        from gqs.model.reweight import list_candidates, weigh

        found = weigh(predictions, classifier, self.prior, self.coverage)
        lines = [*self._about_prior(found), *self._about_sets(found, classifier)]
        prior = self.prior
        told: dict[str, Any] = {"prior": prior.name if prior else None}
        told |= {"prior_source": prior.about if prior else None, "coverage": self.coverage}
        if self.name is not None:
            listed = list_candidates(found, classifier, self.name, self.purity, prior)
            tables.write(listed.table, self.out)
            lines += self._about_list(listed)
            told["candidates"] = {**listed.to_json(), "prior": told["prior"], "out": self.out}
        return found, lines, told

    def _about_prior(self, found: Table) -> list[str]:
        """Say for which mix of classes the probabilities hold."""
        from gqs.evaluation.matched import numbers
        from gqs.probability.priors import holds_for, near_plane
        from gqs.tables import Flag

        lines = [holds_for(self.prior)]
        if self.prior is None:
            return lines
        missed = int(((found["flags"] & int(Flag.NO_PRIOR)) > 0).sum())
        if missed:
            lines.append(
                f"Without an r magnitude: {_objects(missed)}. Such probabilities hold for the mix "
                "that the model learned from (flag NO_PRIOR)."
            )
        low = near_plane(numbers(found, "ra"), numbers(found, "dec"))
        if self.prior.name == "sky" and low:
            lines.append(
                f"Within 20 degrees of the galactic plane: {_objects(low)}. The star counts do not "
                "hold there: those of 20 degrees were taken."
            )
        return lines

    def _about_sets(self, found: Table, classifier: Classifier) -> list[str]:
        """Say how sets come about; refuse where none could be given."""
        import numpy as np

        from gqs.model.held_out import held_out_of, with_bands
        from gqs.model.reweight import bands_given

        if self.coverage is None:
            return []
        kept = held_out_of(classifier, "--coverage")
        judged = found[np.asarray(found["class"]).astype(str) != ""]
        bands = bands_given(judged, classifier)
        without = [some for some in bands if some not in kept]
        if without and len(without) == len(judged):
            with_bands(kept, without[0], classifier, "--coverage")
        sizes = [len(str(text).split()) for text in found["set"] if str(text)]
        mean = f" (mean size {sum(sizes) / len(sizes):.2f})" if sizes else ""
        lines = [
            f"Sets{mean} are made to hold the true class of {100 * self.coverage:g} % of each "
            f"class's objects, as they do of held-out ones; {HELD_OUT}."
        ]
        if without:
            which = ", ".join(sorted({str(some) for some in without}))
            lines.append(
                f"Without a set: {_objects(len(without))}, judged with the bands {which}, and "
                "the model keeps no held-out objects of these alone."
            )
        return lines

    def _about_list(self, listed: Candidates) -> list[str]:
        limit = listed.threshold
        assert self.prior is not None  # or it would have been refused
        facts = (
            f"p_{limit.name.lower()} of {limit.value:.4g} or more: purity {_share(limit.purity)}, "
            f"completeness {_share(limit.completeness)} at the prior {self.prior.name}, "
            f"{limit.low:.1f} < r < {limit.high:.1f} (95 % intervals from {limit.objects:,} "
            f"held-out objects, {limit.above:,} {limit.name} of them above it; {HELD_OUT})."
        )
        if not limit.reached:
            return [
                f"No list of {limit.name} candidates that is {100 * limit.asked:g} % pure can be "
                f"made: {limit.why}. The purest: {facts}",
                f"Candidates: {self.out}, an empty list. Ask for less by --purity.",
            ]
        count = len(listed.table)
        lines = [f"{count} {limit.name} candidate{'s'[: count != 1]} with {facts}"]
        if count:
            lines.append(f"By the list's own probabilities its purity is {100 * listed.own:.0f} %.")
        if listed.left_out:
            named = ", ".join(f"{flag} {count}" for flag, count in listed.flagged.items())
            lines.append(
                f"{_more(listed.left_out)} as probable, but flagged, of which held-out objects "
                f"tell nothing, and not listed: {named}."
            )
        if listed.outside:
            lines.append(
                f"{_more(listed.outside)} as probable, but not listed: r magnitude unknown or "
                "outside that range."
            )
        if listed.other_bands:
            lines.append(
                f"Judged with other bands than {listed.bands} and not listed: "
                f"{_objects(listed.other_bands)}. Classify such fields by themselves."
            )
        return [*lines, f"Candidates: {self.out}"]


def _more(count: int) -> str:
    return f"{count} more {'is' if count == 1 else 'are'}"


def _objects(count: int) -> str:
    return f"{count} object{'s'[: count != 1]}"


def _share(found: Estimate) -> str:
    return f"{100 * found.value:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"


def no_rows() -> Table:
    """Return a catalogue that has none, of which to ask what does not depend on them."""
    import numpy as np
    from astropy.table import Table

    from gqs import labels

    names = ("ra", "dec", "mag_r", *labels.PROBABILITY_COLUMNS)
    table = Table({name: [] for name in names}, dtype=[float] * len(names))
    table["class"] = [""][:0]
    table["flags"] = np.empty(0, dtype=np.int32)
    return table
