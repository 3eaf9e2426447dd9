"""Priors, sets and candidate lists of `gqs classify`: options checked, applied and summarized."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gqs.errors import UsageError
from gqs.formatting import percent, percent_interval, plural

if TYPE_CHECKING:
    from astropy.table import Table

    from gqs.cli.classify import ClassifyOptions
    from gqs.evaluation.intervals import Estimate
    from gqs.model.calibration import ValidationLogits
    from gqs.model.classifier import Classifier
    from gqs.model.reweight import Candidates
    from gqs.probability.priors import Prior

DEFAULT_PURITY = 0.9
VALID_FOR = "valid for objects like the model's validation objects (docs/probabilities.md)"


@dataclass(frozen=True)
class ProbabilityOptions:
    """Checked options: a prior, a coverage, and a candidate list with its purity and file."""

    prior: Prior | None  # None for the class fractions of the training set
    coverage: float | None
    candidates: str | None
    purity: float
    candidates_out: Path

    @classmethod
    def check(cls, classifier: Classifier, asked: ClassifyOptions) -> ProbabilityOptions:
        """Check the options before any field is read, against the model too."""
        from gqs.model.reweight import apply_prior, default_prior, list_candidates
        from gqs.probability.candidates import checked
        from gqs.probability.priors import choose_prior, require_counts

        default = default_prior(classifier, positions=asked.catalog is not None)
        chosen = choose_prior(asked.prior, default)
        if asked.candidates is None and (asked.purity, asked.candidates_out) != (None, None):
            raise UsageError("--purity and --candidates-out need --candidates.")
        name = None if asked.candidates is None else asked.candidates.upper()
        fraction = DEFAULT_PURITY if asked.purity is None else asked.purity
        path = asked.candidates_out
        if name is not None:
            checked(name, fraction)
            path = _candidates_file(asked.out, name, asked.candidates_out)
            require_counts(chosen, "--candidates")
        options = cls(chosen, asked.coverage, name, fraction, path or asked.out)
        # An empty catalogue shows what the model lacks before hours of work.
        nothing = apply_prior(no_rows(), classifier, chosen, asked.coverage)
        if name is not None:
            list_candidates(nothing, classifier, name, fraction, chosen)
        return options

    def apply(
        self, predictions: Table, classifier: Classifier
    ) -> tuple[Table, list[str], dict[str, Any]]:
        """Apply prior and coverage and write the candidates: table, summary, JSON values."""
        from gqs import tables
        from gqs.model.reweight import list_candidates

        summary = ProbabilitySummary(self, classifier)
        table, values = summary.finish(predictions), self.values()
        lines = summary.lines()
        if self.candidates is not None:
            listed = list_candidates(table, classifier, self.candidates, self.purity, self.prior)
            tables.write(listed.table, self.candidates_out)
            lines += self._candidate_lines(listed)
            values["candidates"] = {
                **listed.to_json(),
                "prior": values["prior"],
                "out": self.candidates_out,
            }
        return table, lines, values

    def values(self) -> dict[str, Any]:
        """Prior and coverage as JSON values."""
        from gqs.probability.priors import TRAINING

        return {
            "prior": self.prior.name if self.prior else TRAINING,
            "prior_source": self.prior.about if self.prior else None,
            "coverage": self.coverage,
        }

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


@dataclass
class ProbabilitySummary:
    """Applies prior and coverage to a catalogue in parts, and counts what the summary states."""

    options: ProbabilityOptions
    classifier: Classifier
    unknown: int = 0  # objects without an r magnitude
    near_plane: int = 0  # objects too close to the galactic plane for the star counts
    sizes: Counter[int] = field(default_factory=Counter)  # of the sets
    classified: int = 0
    without: Counter[str] = field(default_factory=Counter)  # objects without a set, by bands

    def finish(self, predictions: Table) -> Table:
        """Rows with prior and coverage applied."""
        import numpy as np

        from gqs.model.reweight import apply_prior, bands_given
        from gqs.probability.priors import near_plane
        from gqs.tables import Flag, float_column

        prior, coverage = self.options.prior, self.options.coverage
        table = apply_prior(predictions, self.classifier, prior, coverage)
        if prior is not None:
            self.unknown += int(((table["flags"] & int(Flag.NO_PRIOR)) > 0).sum())
            self.near_plane += near_plane(float_column(table, "ra"), float_column(table, "dec"))
        if coverage is not None:
            self.sizes.update(len(str(text).split()) for text in table["set"] if str(text))
            there = table[np.asarray(table["class"]).astype(str) != ""]
            self.classified += len(there)
            self.without.update(
                name for name in bands_given(there, self.classifier) if name not in self._validation
            )
        return table

    @cached_property
    def _validation(self) -> dict[str, ValidationLogits]:
        from gqs.model.held_out import validation_logits_of

        return validation_logits_of(self.classifier, "--coverage")

    def lines(self) -> list[str]:
        """Sentences on the mix of classes that the probabilities hold for, and on the sets."""
        from gqs.probability.priors import SKY, holds_for

        prior = self.options.prior
        lines = [holds_for(prior)]
        if self.unknown:
            lines.append(
                f"{plural(self.unknown, 'object')} without an r magnitude: the prior is not "
                "applied (flag NO_PRIOR)."
            )
        if prior is not None and prior.name == SKY and self.near_plane:
            lines.append(
                f"{plural(self.near_plane, 'object')} within 20 degrees of the galactic plane, "
                "where the star counts are not valid: those at 20 degrees were used."
            )
        return lines if self.options.coverage is None else [*lines, *self._set_lines()]

    def _set_lines(self) -> list[str]:
        """The coverage of the sets; an error if none could be given."""
        from gqs.model.held_out import with_bands

        number = self.without.total()
        if number and number == self.classified:
            with_bands(self._validation, next(iter(self.without)), self.classifier, "--coverage")
        sets = self.sizes.total()
        total = sum(size * count for size, count in self.sizes.items())
        mean = f" (mean size {total / sets:.2f})" if sets else ""
        lines = [
            f"Sets{mean} contain the true class of {100 * (self.options.coverage or 0):g} % of the "
            f"objects of each class; {VALID_FOR}."
        ]
        if number:
            lines.append(
                f"{plural(number, 'object')} without a set: classified with the bands "
                f"{', '.join(sorted(map(str, self.without)))}, for which the model has no "
                "validation objects."
            )
        return lines


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
