"""Metrics against the paper's Table 9, scikit-learn and cases that can be worked out by hand."""

import json

import numpy as np
import pytest
from astropy.table import Table
from sklearn import metrics as oracle

from drawn import from_confusion, predictions, sample, truth_of
from gqs import labels, tables
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.evaluation.binning import bins, merged_bins
from gqs.evaluation.intervals import wilson
from gqs.evaluation.matched import match
from gqs.evaluation.metrics import evaluate, measure, scores

PAPER = [[1117, 27, 8], [36, 914, 54], [18, 98, 905]]


def test_paper_table_9():
    found = scores(PAPER)
    assert f"{found.accuracy:.4f}" == "0.9241"
    # Table 9's first three lines.
    assert [f"{100 * v:.2f}" for v in found.precision] == ["95.39", "87.97", "93.59"]
    assert [f"{100 * v:.2f}" for v in found.recall] == ["96.96", "91.04", "88.64"]
    assert [f"{v:.4f}" for v in found.f1] == ["0.9617", "0.8948", "0.9105"]
    macro = [f"{found.macro[name]:.4f}" for name in ("precision", "recall", "f1")]
    assert macro == ["0.9232", "0.9221", "0.9223"]


def test_paper_confusion_through_tables():
    measured = evaluate(*from_confusion(PAPER), resamples=200)
    assert [list(row) for row in measured.confusion] == PAPER
    assert f"{measured.accuracy.value:.4f}" == "0.9241"
    assert measured.accuracy.low < 0.9241 < measured.accuracy.high
    assert measured.counts == {"GALAXY": 1152, "QSO": 1004, "STAR": 1021}


def test_everything_as_scikit_learn_has_it():
    table, truth = sample(700)
    matched = match(table, truth)
    measured = measure(matched, resamples=20)
    p, t, d = matched.probability, matched.truth, matched.decided
    expected = {
        "accuracy": oracle.accuracy_score(t, d),
        "precision": oracle.precision_score(t, d, average="macro"),
        "recall": oracle.recall_score(t, d, average="macro"),
        "f1": oracle.f1_score(t, d, average="macro"),
        "auc": oracle.roc_auc_score(t, p, multi_class="ovr", average="macro"),
        "auc_micro": oracle.roc_auc_score(np.eye(3)[t].ravel(), p.ravel()),
        "log_loss": oracle.log_loss(t, p),
        "brier": np.mean(np.sum((np.eye(3)[t] - p) ** 2, axis=1)),
    }
    for name, value in expected.items():
        assert measured.overall[name].value == pytest.approx(value, abs=1e-12), name
    each = oracle.precision_recall_fscore_support(t, d)
    for i, name in enumerate(labels.CLASSES):
        values = [measured.classes[name][key].value for key in ("precision", "recall", "f1")]
        assert values == pytest.approx([each[k][i] for k in range(3)], abs=1e-12)
        area = oracle.roc_auc_score(t == i, p[:, i])
        assert measured.classes[name]["auc"].value == pytest.approx(area, abs=1e-12)


def test_rows_of_nan_are_counted_and_have_no_class():
    table, truth = sample(90)
    names = np.asarray(truth["class"])
    for column in labels.PROBABILITY_COLUMNS:
        table[column][:9] = np.nan
    table["class"][:9] = ""
    table["flags"][:9] = tables.Flag.NOT_JUDGED | tables.Flag.MASKED
    measured = evaluate(table, truth, resamples=10)
    assert measured.objects == 81
    lost = {name: int((names[:9] == name).sum()) for name in labels.CLASSES}
    assert measured.unclassified == lost
    assert measured.unclassified_flags == {"MASKED": 9, "NOT_JUDGED": 9}
    assert measured.accuracy_of_all == pytest.approx(measured.accuracy.value * 81 / 90)


def test_rows_of_one_table_only_are_counted():
    table, truth = sample(60)
    measured = evaluate(table[5:], truth[:-7], resamples=10)
    assert (measured.objects, measured.without_prediction, measured.without_truth) == (48, 5, 7)


def test_order_of_rows_does_not_matter():
    table, truth = sample(80)
    shuffled = truth[np.random.default_rng(4).permutation(80)]
    assert match(table, shuffled).truth.tolist() == match(table, truth).truth.tolist()


def numbers(found):
    """All numbers of nested JSON values, in their order."""
    if isinstance(found, dict | list):
        inside = found.values() if isinstance(found, dict) else found
        return [value for item in inside for value in numbers(item)]
    return [float(found)] if isinstance(found, int | float) else []


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv", ".csv"])
def test_same_numbers_after_every_format(tmp_path, ending):
    table, truth = sample(40)
    for column in labels.PROBABILITY_COLUMNS:
        table[column][3] = np.nan
    table["class"][3] = ""
    back = tables.read(tables.write(table, tmp_path / f"p{ending}"))
    first, second = (evaluate(t, truth, resamples=10) for t in (table, back))
    if ending == ".csv":  # has the digits that matter, seven of a probability
        np.testing.assert_allclose(numbers(second.to_json()), numbers(first.to_json()), atol=1e-6)
    else:
        assert first.to_json() == second.to_json()
    assert sum(second.unclassified.values()) == 1


def test_class_absent_from_the_truth_has_no_recall():
    table, truth = sample(60)
    keep = np.asarray(truth["class"]) != "QSO"
    measured = evaluate(table[keep], truth[keep], resamples=50)
    assert all(np.isnan(value.value) for value in measured.classes["QSO"].values())
    others = [measured.classes[name]["recall"].value for name in ("GALAXY", "STAR")]
    assert measured.overall["recall"].value == pytest.approx(np.mean(others))
    assert measured.to_json()["classes"]["QSO"]["auc"]["value"] is None


def test_single_class():
    table = predictions(np.tile([0.9, 0.06, 0.04], (11, 1)))
    measured = evaluate(table, truth_of(table, np.zeros(11, dtype=int)), resamples=30)
    assert measured.accuracy.value == 1.0
    assert 0.7 < measured.accuracy.low < 0.75  # Wilson's: a bootstrap would say exactly 1
    assert np.isnan(measured.overall["auc"].value)
    json.dumps(measured.to_json(), allow_nan=False)


def test_never_decided_class_has_precision_0_as_in_scikit_learn():
    found = scores([[5, 0, 1], [2, 0, 3], [0, 0, 7]])
    t = np.repeat([0, 1, 2], [6, 5, 7])
    d = np.array([0] * 5 + [2] + [0] * 2 + [2] * 3 + [2] * 7)
    expected = oracle.precision_score(t, d, average=None, zero_division=0)
    assert found.precision.tolist() == pytest.approx(expected.tolist())


def test_bins_hold_every_object_once():
    table, truth = sample(300)
    truth["r"][:4] = np.nan
    truth["r"][4] = 40.0
    measured = evaluate(table, truth, resamples=10)
    assert sum(part.count for part in measured.by_r) == 295
    assert measured.unbinned["r"] == 5
    quasars = int((np.asarray(truth["class"]) == "QSO").sum())
    assert sum(part.count for part in measured.by_redshift) == quasars
    one = measured.by_r[2]
    inside = (truth["r"] >= one.low) & (truth["r"] < one.high)
    right = np.asarray(table["class"])[inside] == np.asarray(truth["class"])[inside]
    assert one.accuracy.value == pytest.approx(right.mean())


def test_bin_without_a_class_says_so():
    table, truth = sample(200)
    keep = ~((truth["r"] < 17) & (truth["class"] == "STAR"))
    first = evaluate(table[keep], truth[keep], resamples=10).by_r[0]
    assert first.counts["STAR"] == 0
    assert np.isnan(first.recall["STAR"].value)


def test_no_magnitudes_no_bins():
    table, truth = sample(50)
    truth.remove_columns(["r", "redshift"])
    measured = evaluate(table, truth, resamples=10)
    assert measured.by_r == ()
    assert measured.unbinned["r"] == 50


def test_merged_bins_are_those_of_wider_edges():
    matched = match(*sample(300))
    fine = bins(matched, matched.r, np.linspace(14.2, 22.8, 60).tolist())
    merged = merged_bins(fine, 20)
    assert min(part.count for part in fine) < 20 <= min(part.count for part in merged)
    wide = bins(matched, matched.r, [*(part.low for part in merged), merged[-1].high])
    for one, other in zip(merged, wide, strict=True):
        assert one.counts == other.counts
        assert one.accuracy == other.accuracy
        np.testing.assert_equal(one.recall, other.recall)


def test_all_correct_has_wilsons_interval_with_a_grouped_bootstrap_too():
    table, truth = from_confusion([[30, 0, 0], [0, 20, 0], [0, 0, 10]])
    table["field"][:] = np.arange(60) % 4
    measured = evaluate(table, truth, group="field", resamples=20)
    assert measured.accuracy == wilson(60, 60)
    assert measured.accuracy.low < 0.95


class TestRefusals:
    def test_nothing_in_common(self):
        table, truth = sample(20)
        truth["objid"] += np.uint64(10**6)
        with pytest.raises(UsageError, match="share no objid"):
            evaluate(table, truth)

    def test_nothing_classified(self):
        table = predictions(np.full((5, 3), np.nan))
        with pytest.raises(UsageError, match="No object"):
            evaluate(table, truth_of(table, np.arange(5) % 3))

    def test_unknown_true_class(self):
        table, truth = sample(20)
        truth["class"] = np.where(np.arange(20) == 7, "quasar", truth["class"])
        with pytest.raises(BadInputError, match="quasar"):
            evaluate(table, truth)

    def test_same_object_twice(self):
        table, truth = sample(20)
        table["objid"][3] = table["objid"][4]
        with pytest.raises(IntegrityError, match=str(table["objid"][4])):
            evaluate(table, truth)

    def test_float_identifiers(self):
        table, truth = sample(20)
        truth["objid"] = np.asarray(truth["objid"], dtype=float)
        with pytest.raises(IntegrityError, match="decimal"):
            evaluate(table, truth)

    @pytest.mark.parametrize(
        ("column", "value", "words"),
        [
            ("p_star", 0.9, "sum to 1"),
            ("p_star", np.nan, "without probabilities"),
            ("class", "", "without probabilities"),
            ("class", "PLANET", "none of the three"),
        ],
    )
    def test_rows_that_contradict_themselves(self, column, value, words):
        table, truth = sample(20)
        best = int(np.argmin(table["p_star"]))
        table[column][best] = value
        with pytest.raises(IntegrityError, match=words):
            evaluate(table, truth)

    def test_class_that_is_not_the_likeliest(self):
        table, truth = sample(20)
        row = int(np.argmin(table["p_star"]))
        table["class"][row] = "STAR"
        with pytest.raises(IntegrityError, match="highest probability"):
            evaluate(table, truth)

    def test_missing_column(self):
        table, truth = sample(20)
        table.remove_column("p_qso")
        with pytest.raises(UsageError, match="p_qso"):
            evaluate(table, truth)

    def test_empty_truth(self):
        table, _ = sample(20)
        empty = Table({"objid": np.zeros(0, dtype=np.uint64), "class": np.zeros(0, dtype="U6")})
        with pytest.raises(UsageError, match="share no objid"):
            evaluate(table, empty)
