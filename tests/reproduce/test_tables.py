"""Tables from known predictions: against scikit-learn, and the paper's own Table 9."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from gqs import labels
from gqs.cutouts.split import load, make_split, split_hash
from gqs.cutouts.store import CutoutStore
from gqs.errors import UsageError
from gqs.executors import Progress, no_progress
from gqs.networks import zoo
from gqs.recipes import published
from gqs.report.blocks import Cell
from gqs.reproduce import ablations, document, hypotheses, timing
from gqs.reproduce import tables as grids
from gqs.reproduce.aggregate import gather
from gqs.reproduce.kept import keep, open_objects
from gqs.reproduce.plan import Options
from gqs.reproduce.predictions import rows_of_test_side
from gqs.reproduce.run import prepare, tabulate
from gqs.reproduce.splits import open_split
from reproduce.pictures import Made, pictures


def quiet(step: str) -> contextlib.AbstractContextManager[Progress]:
    """No progress bar."""
    return contextlib.nullcontext(no_progress)


def certain(decided: np.ndarray, sure: float = 0.9) -> np.ndarray:
    """Probabilities (n, 3) with `sure` for the class that is decided."""
    return np.where(np.eye(3)[decided] > 0, sure, (1 - sure) / 2)


def test_the_papers_confusion_matrix_gives_the_papers_table_9(
    tmp_path: Path, finished: Made
) -> None:
    """The whole test set of the paper, as 3,177 objects that ResNet50-GQS judged as it did."""
    confusion = np.array(published.CONFUSION)
    truth, decided = (
        np.concatenate([np.full(n, k[axis]) for k, n in np.ndenumerate(confusion)])
        for axis in (0, 1)
    )
    classes = np.concatenate([truth, np.arange(60) % 3])
    store = pictures(tmp_path / "store", len(classes), classes)
    split = make_split(store.index, "paper", seed=1)
    split["split"] = np.repeat(["test", "train", "validation"], [len(truth), 30, 30])
    split.meta["counts"] = {
        side: {name: int(((split["split"] == side) & (store.index["class"] == name)).sum())
               for name in labels.CLASSES}
        for side in ("train", "validation", "test")
    }  # fmt: skip
    finished(tmp_path / "out", store, split, "paper", hypotheses.GQS, 1, certain(decided))
    found = gather(store, tmp_path / "out", {"paper": split}).first
    assert found is not None
    for row in grids.table_9(found).rows:
        for cell in row[1:]:
            assert isinstance(cell, Cell)
            assert cell.value == cell.interval, row  # ours is the published, digit by digit
    (run,) = found.gqs_runs()
    assert run.metrics.accuracy.value == pytest.approx(published.RESNET50_GQS.accuracy, abs=5e-5)
    tested = [cell.value for row in grids.table_3(found).rows for cell in row[3:4]]  # type: ignore
    assert tested == ["1,152", "1,004", "1,021"]


@pytest.fixture
def two_seeds(tmp_path: Path, store: CutoutStore, finished: Made) -> Path:
    """ResNet50 with two seeds, GQS with one and nearly always right, ResNet18 on both splits."""
    rng = np.random.default_rng(2)
    for scheme in ("grouped", "paper"):
        split = open_split(store, tmp_path, scheme, Options())
        rows = rows_of_test_side(store, split)
        truth = np.array([labels.index(name) for name in store.index["class"][rows]])
        wrong = (truth + 1) % 3
        for network, seed, share in (
            ("resnet50", 1, 0.5),
            ("resnet50", 2, 0.5),
            (hypotheses.GQS, 1, 0.95),
            ("resnet18", 1, 0.6),
        ):
            if scheme == "grouped" or network == "resnet18":
                right = rng.permutation(len(truth)) < share * len(truth)
                p = certain(np.where(right, truth, wrong), 0.6) + 0.1 * rng.random((len(truth), 3))
                p /= p.sum(axis=1, keepdims=True)
                finished(tmp_path, store, split, scheme, network, seed, p)
    return tmp_path


def results(store: CutoutStore, out: Path, *names: str):  # type: ignore[no-untyped-def]
    splits = {n: open_split(store, out, n, Options()) for n in names or ("grouped",)}
    return gather(store, out, splits)


def test_scores_are_scikit_learns_and_the_rest_is_a_dash(
    two_seeds: Path, store: CutoutStore
) -> None:
    found = results(store, two_seeds)
    scores: dict[str, list[float]] = {name: [] for name in ("accuracy", "precision", "recall")}
    scores |= {"f1": [], "auc": []}
    for judged in (run.predicted for run in found.first.runs["resnet50"]):
        y, d, p = judged.truth, judged.decided, judged.probability
        scores["accuracy"].append(accuracy_score(y, d))
        scores["precision"].append(precision_score(y, d, average="macro"))
        scores["recall"].append(recall_score(y, d, average="macro"))
        scores["f1"].append(f1_score(y, d, average="macro"))
        scores["auc"].append(roc_auc_score(y, p, multi_class="ovr", average="macro"))
    table = grids.scores_table(found, "Table 7.", hypotheses.GROUPS["table7"])
    rows = {str(row[0]): row[1:] for row in table.rows}
    seeds, *cells = rows["ResNet50"]
    assert seeds == "2"
    shown = [cell.value.split("\u00a0±\u00a0") for cell in cells]
    for (mean, *spread), (name, values) in zip(shown, scores.items(), strict=True):
        scale, digits = (100, 2) if name in grids.PERCENT_HEADS else (1, 4)
        assert mean == f"{scale * np.mean(values):.{digits}f}", name
        if spread:
            assert spread == [f"{scale * np.std(values, ddof=1):.{digits}f}"]
    assert [cell.interval for cell in cells] == ["91.50", "91.44", "91.30", "0.9130", "0.9748"]
    assert [cell.value for cell in rows["ResNet34"][1:]] == ["–"] * 5


def test_the_order_is_judged_with_intervals(two_seeds: Path, store: CutoutStore) -> None:
    found = results(store, two_seeds).first
    words = {(v.hypothesis.better, v.hypothesis.worse): v.word for v in found.verdicts}
    assert words[hypotheses.GQS, "resnet50"] == "holds"
    assert words["resnet50", "resnet18"] == "level"
    assert words["resnet50_se", "resnet50"] == "not run"
    rows = {row[0]: row for row in ablations.order_table(found).rows}
    assert rows["ResNet50-SE over ResNet50"][1:] == ["–", "+0.32", "–", "not trained yet"]
    gap = rows["ResNet50-GQS over ResNet50"][1]
    accuracy = {name: found.spread(name, "accuracy").mean for name in (hypotheses.GQS, "resnet50")}
    assert gap.value == f"{100 * (accuracy[hypotheses.GQS] - accuracy['resnet50']):+.2f}"
    assert "1 confirmed, 0 reversed" in document.headline(results(store, two_seeds))


def test_random_and_grouped_splits_stand_side_by_side(two_seeds: Path, store: CutoutStore) -> None:
    found = results(store, two_seeds, "grouped", "paper")
    sections = {
        part.heading: part.blocks for part in ablations.ablation_sections(found, found.first)
    }
    (row,) = sections["Random against grouped split"][0].rows
    assert row[0] == "ResNet18"
    a, b = (found.splits[name].spread("resnet18", "accuracy").mean for name in ("paper", "grouped"))
    assert row[3].value == f"{100 * (a - b):+.2f}".replace("-", "−")
    table = grids.scores_table(found, "Table 7.", hypotheses.GROUPS["table7"])
    assert table.columns[3] == "random split, %"
    assert table.rows[1][3] == f"{100 * a:.2f}"


def test_what_is_missing_is_named(two_seeds: Path, store: CutoutStore) -> None:
    (two_seeds / "models/grouped/resnet34/seed-1/checkpoints").mkdir(parents=True)
    found = results(store, two_seeds)
    assert "resnet34, seed-1, grouped split: not finished." in found.missing
    assert any("ResNet34" in text and "VGG16" in text for text in found.missing)


def test_a_model_of_another_store_is_left_out_by_name(
    two_seeds: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = pictures(tmp_path_factory.mktemp("other") / "store", 300)
    split = make_split(other.index, "grouped", seed=1)
    found = gather(other, two_seeds, {"grouped": split})
    assert not found.first.runs  # type: ignore[union-attr]
    assert sum("trained on other data" in text for text in found.missing) == 4


def test_a_folder_that_holds_anothers_training_counts_for_nothing(
    two_seeds: Path, store: CutoutStore
) -> None:
    """A copy under another seed would make a mean of one training with itself."""
    shutil.copytree(two_seeds / "models/grouped/resnet18", two_seeds / "models/grouped/resnet34")
    copied = two_seeds / "models/grouped/resnet18/seed-2"
    shutil.copytree(two_seeds / "models/grouped/resnet18/seed-1", copied)
    card = json.loads((copied / "model.json").read_text("utf-8"))
    card["training"]["identity"] = {"seed": 1}
    (copied / "model.json").write_text(json.dumps(card), "utf-8")
    found = results(store, two_seeds)
    assert len(found.first.runs["resnet18"]) == 1
    assert "resnet34" not in found.first.runs
    named = [
        text for text in found.missing if "belongs into models/grouped/resnet18/seed-1" in text
    ]
    assert len(named) == 2


def test_a_damaged_model_is_named_and_the_others_are_measured(
    two_seeds: Path, store: CutoutStore
) -> None:
    weights = two_seeds / "models/grouped/resnet18/seed-1/weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = results(store, two_seeds)
    assert set(found.first.runs) == {"resnet50", hypotheses.GQS}
    assert any(str(weights) in text and "SHA-256" in text for text in found.missing)


def test_tables_alone_are_of_the_splits_that_were_saved(
    two_seeds: Path, store: CutoutStore
) -> None:
    made = tabulate(store, two_seeds, ["paper"], 1, quiet)
    assert made.results.first.name == "paper"
    with pytest.raises(UsageError, match="Use --seed 1"):
        tabulate(store, two_seeds, ["grouped"], 2, quiet)
    with pytest.raises(UsageError, match="has no splits"):
        tabulate(store, two_seeds / "elsewhere", ["grouped"], 1, quiet)
    assert not (two_seeds / "elsewhere").exists()


def test_under_torchrun_it_is_refused(
    two_seeds: Path, store: CutoutStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        prepare(store, two_seeds, Options())


def test_tables_without_weights_and_images_are_the_same(
    two_seeds: Path, store: CutoutStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    first = results(store, two_seeds, "grouped", "paper")
    document.write_documents(first, two_seeds)
    assert keep(store, two_seeds, folder) == 5
    assert not list(folder.rglob("*.safetensors"))
    kept = open_objects(folder)
    made = tabulate(kept, folder / "tables", ("grouped", "paper"), 1, quiet)
    for name in ("tables.md", "tables.tex"):
        assert (made.page.parent / name).read_bytes() == (two_seeds / name).read_bytes()
    assert made.results.to_json() == first.to_json()
    # Another machine's trainings are added; those of other objects are refused.
    shutil.rmtree(two_seeds / "models" / "grouped" / "resnet50")
    assert keep(store, two_seeds, folder) == 3
    assert len(gather(kept, folder, {"grouped": load(two_seeds / "splits" / "grouped.parquet")})
               .splits["grouped"].runs["resnet50"]) == 2  # fmt: skip
    other = pictures(tmp_path_factory.mktemp("other") / "store", 60, np.arange(60) % 3)
    with pytest.raises(UsageError, match="other objects"):
        keep(other, two_seeds, folder)
    (folder / "models" / "grouped" / "resnet18" / "seed-1" / "predictions.parquet").unlink()
    again = tabulate(kept, folder / "tables", ("grouped",), 1, quiet).results
    assert "resnet18" not in again.splits["grouped"].runs
    assert any("predictions.parquet" in reason for reason in again.missing)


def test_fewer_training_objects_leave_the_other_sides_whole(tmp_path: Path) -> None:
    store = pictures(tmp_path / "store", 120, np.arange(120) % 3)
    whole = open_split(store, tmp_path / "whole", "paper", Options())
    thin = open_split(store, tmp_path / "thin", "paper", Options(train_limit=31))
    for side in ("validation", "test"):
        expected = set(whole["objid"][whole["split"] == side])
        assert set(thin["objid"][thin["split"] == side]) == expected
    training = thin["objid"][thin["split"] == "train"]
    assert set(training) < set(whole["objid"][whole["split"] == "train"])
    classes = store.index["class"][np.isin(store.index["objid"], training)]
    assert {name: int((classes == name).sum()) for name in labels.CLASSES} == dict.fromkeys(
        labels.CLASSES, 10
    )
    assert thin.meta["counts"]["train"] == dict.fromkeys(labels.CLASSES, 10)
    again = open_split(store, tmp_path / "thin", "paper", Options(train_limit=31))
    assert split_hash(again) == split_hash(thin)
    with pytest.raises(UsageError, match="--train-limit"):
        open_split(store, tmp_path / "thin", "paper", Options())


def test_a_limit_that_is_too_high_is_refused_with_the_highest(tmp_path: Path) -> None:
    store = pictures(tmp_path / "store", 60, np.repeat([0, 1, 2], [30, 10, 20]))
    with pytest.raises(UsageError, match=r"10 QSO\. Use 3 to 30"):
        open_split(store, tmp_path, "paper", Options(limit=90))


def test_the_clock_is_kept_apart(two_seeds: Path, store: CutoutStore) -> None:
    first, *_ = timing.costs(results(store, two_seeds))
    assert first["seconds_an_epoch"] == 3.0  # the median of 2, 3 and 9
    assert first["training_images_s"] == 3.0
    assert first["parameters"] == zoo.parameters(hypotheses.GQS, 3)
    document.write_documents(results(store, two_seeds), two_seeds)
    for name in ("tables.md", "tables.tex", "results.json"):
        assert "seconds" not in (two_seeds / name).read_text("utf-8")
