"""Priors, sets and candidate lists of `gqs classify`: options checked, applied and summarized."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gqs.errors import UsageError
from gqs.formatting import percent, percent_interval, plural

if TYPE_CHECKING:
    from astropy.table import Table

    from gqs.evaluation.intervals import Estimate
    from gqs.model.classifier import Classifier
    from gqs.model.reweight import Candidates
    from gqs.probability.priors import Prior

DEFAULT_PURITY = 0.9
VALID_FOR = "valid for objects like the model's validation objects (docs/probabilities.md)"


@dataclass(frozen=True)
class ProbabilityOptions:
    """Checked options: a prior, a coverage, and a candidate list with its purity and file."""

    prior: Prior | None
    coverage: float | None
    candidates: str | None
    purity: float
    candidates_out: Path

    @classmethod
    def check(
        cls,
        classifier: Classifier,
        out: Path,
        prior: str | None,
        coverage: float | None,
        candidates: str | None,
        purity: float | None,
        candidates_out: Path | None,
    ) -> ProbabilityOptions:
        """Check the options before any field is read, against the model too."""
        from gqs.model.reweight import apply_prior, list_candidates
        from gqs.probability.candidates import checked
        from gqs.probability.priors import find_prior, require_counts

        chosen = None if prior is None else find_prior(prior)
        if candidates is None and (purity is not None or candidates_out is not None):
            raise UsageError("--purity and --candidates-out need --candidates.")
        name = None if candidates is None else candidates.upper()
        fraction = DEFAULT_PURITY if purity is None else purity
        path = candidates_out
        if name is not None:
            checked(name, fraction)
            path = _candidates_file(out, name, candidates_out)
            require_counts(chosen, "--candidates")
        options = cls(chosen, coverage, name, fraction, path or out)
        # An empty catalogue shows what the model lacks before hours of work.
        nothing = apply_prior(no_rows(), classifier, chosen, coverage)
        if name is not None:
            list_candidates(nothing, classifier, name, fraction, chosen)
        return options

    def apply(
        self, predictions: Table, classifier: Classifier
    ) -> tuple[Table, list[str], dict[str, Any]]:
        """Apply prior and coverage and write the candidates: table, summary, JSON values."""
        from gqs import tables
        from gqs.model.reweight import apply_prior, list_candidates

        table = apply_prior(predictions, classifier, self.prior, self.coverage)
        lines = [*self._prior_lines(table), *self._set_lines(table, classifier)]
        prior = self.prior
        values: dict[str, Any] = {
            "prior": prior.name if prior else None,
            "prior_source": prior.about if prior else None,
            "coverage": self.coverage,
        }
        if self.candidates is not None:
            listed = list_candidates(table, classifier, self.candidates, self.purity, prior)
            tables.write(listed.table, self.candidates_out)
            lines += self._candidate_lines(listed)
            values["candidates"] = {
                **listed.to_json(),
                "prior": values["prior"],
                "out": self.candidates_out,
            }
        return table, lines, values

    def _prior_lines(self, table: Table) -> list[str]:
        """The mix of classes that the probabilities are for."""
        from gqs.probability.priors import holds_for, near_plane
        from gqs.tables import Flag, float_column

        lines = [holds_for(self.prior)]
        if self.prior is None:
            return lines
        missed = int(((table["flags"] & int(Flag.NO_PRIOR)) > 0).sum())
        if missed:
            lines.append(
                f"{plural(missed, 'object')} without an r magnitude: the prior is not applied "
                "(flag NO_PRIOR)."
            )
        low = near_plane(float_column(table, "ra"), float_column(table, "dec"))
        if self.prior.name == "sky" and low:
            lines.append(
                f"{plural(low, 'object')} within 20 degrees of the galactic plane, where the star "
                "counts are not valid: those at 20 degrees were used."
            )
        return lines

    def _set_lines(self, table: Table, classifier: Classifier) -> list[str]:
        """The coverage of the sets; an error if none could be given."""
        import numpy as np

        from gqs.model.held_out import validation_logits_of, with_bands
        from gqs.model.reweight import bands_given

        if self.coverage is None:
            return []
        validation = validation_logits_of(classifier, "--coverage")
        classified = table[np.asarray(table["class"]).astype(str) != ""]
        bands = bands_given(classified, classifier)
        without = [name for name in bands if name not in validation]
        if without and len(without) == len(classified):
            with_bands(validation, without[0], classifier, "--coverage")
        sizes = [len(str(text).split()) for text in table["set"] if str(text)]
        mean = f" (mean size {sum(sizes) / len(sizes):.2f})" if sizes else ""
        lines = [
            f"Sets{mean} contain the true class of {100 * self.coverage:g} % of the objects of "
            f"each class; {VALID_FOR}."
        ]
        if without:
            which = ", ".join(sorted({str(name) for name in without}))
            lines.append(
                f"{plural(len(without), 'object')} without a set: classified with the bands "
                f"{which}, for which the model has no validation objects."
            )
        return lines

    def _candidate_lines(self, listed: Candidates) -> list[str]:
        limit = listed.threshold
        assert self.prior is not None  # checked
        facts = (
            f"p_{limit.name.lower()} >= {limit.value:.4g}: purity {_percent(limit.purity)}, "
            f"completeness {_percent(limit.completeness)} at the prior {self.prior.name}, "
            f"{limit.low:.1f} < r < {limit.high:.1f} (95 % intervals from {limit.objects:,} "
            f"validation objects, {limit.above:,} {limit.name} of them above it; {VALID_FOR})."
        )
        if not limit.reached:
            return [
                f"No list of {limit.name} candidates reaches a purity of {100 * limit.asked:g} %: "
                f"{limit.why}. The purest: {facts}",
                f"Candidates: {self.candidates_out}, an empty list. Use a lower --purity.",
            ]
        count = len(listed.table)
        lines = [f"{plural(count, f'{limit.name} candidate')} with {facts}"]
        if count:
            lines.append(f"Purity from the list's own probabilities: {percent(listed.own, 0)}.")
        if listed.left_out:
            named = ", ".join(f"{flag} {number}" for flag, number in listed.flagged.items())
            lines.append(
                f"{plural(listed.left_out, 'object')} not listed because of flags: {named}."
            )
        if listed.outside:
            lines.append(
                f"{plural(listed.outside, 'object')} not listed: r magnitude unknown or outside "
                "that range."
            )
        if listed.other_bands:
            lines.append(
                f"{plural(listed.other_bands, 'object')} not listed: classified with other bands "
                f"than {listed.bands}. Classify such fields separately."
            )
        return [*lines, f"Candidates: {self.candidates_out}"]


def _candidates_file(out: Path, name: str, chosen: Path | None) -> Path:
    """File of the candidates, by default beside the catalogue."""
    from gqs import tables

    path = chosen
    if path is None:
        path = out.with_stem(f"{out.stem}-{name.lower()}-candidates")
        if path.suffix.lower() == tables.HATS:
            path = path.with_suffix(".parquet")
    if path.suffix.lower() == tables.HATS:
        raise UsageError(f"{path}: HATS cannot store an empty list. Use .parquet, for example.")
    tables.check_ending(path)
    if path.resolve() == out.resolve() or path.is_dir():
        raise UsageError(f"{path}: choose another file for the candidates.")
    return path


def _percent(estimate: Estimate) -> str:
    ends = percent_interval(estimate.low, estimate.high, 0)
    return f"{percent(estimate.value, 0)} ({ends})"


def no_rows() -> Table:
    """A catalogue without rows."""
    import numpy as np
    from astropy.table import Table

    from gqs import labels

    names = ("ra", "dec", "mag_r", *labels.PROBABILITY_COLUMNS)
    table = Table({name: [] for name in names}, dtype=[float] * len(names))
    table["class"] = [""][:0]
    table["flags"] = np.empty(0, dtype=np.int32)
    return table
