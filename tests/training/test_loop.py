"""Training: what it learns, what it refuses, and that nothing but time is lost when it dies."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from gqs import tables
from gqs.cutouts import split as splits
from gqs.cutouts.store import CutoutStore
from gqs.errors import IntegrityError, ModelError, ResourceError, UsageError
from gqs.files import hash_of, sha256
from gqs.model.folder import load_model, load_weights
from gqs.training import Stopped, train
from gqs.training.batches import TrainingData, in_advance, seed_of
from gqs.training.optimizer import class_weights, learning_rate
from training.blobs import BANDS, make_store, recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[CutoutStore, Table]:
    return make_store(tmp_path_factory.mktemp("data") / "store")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(folder / "weights.safetensors")


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_it_learns_and_leaves_a_model_folder(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    notes: list[tuple[int, int, str]] = []
    result = train(
        *data,
        tmp_path / "model",
        recipe(),
        epochs=10,
        threads=1,
        progress=lambda done, total, note: notes.append((done, total, note)),
    )
    assert result.metrics["accuracy"] >= 0.7  # of some 20 objects; by chance it would be 0.33
    assert len(result.history) == 10
    assert result.history["validation_loss"].min() == result.metrics["loss"]
    matrix = np.array(result.metrics["confusion"])
    assert matrix.sum() == result.metrics["objects"] == (data[1]["split"] == "validation").sum()
    assert matrix.trace() / matrix.sum() == result.metrics["accuracy"]
    assert notes[-1][0] == notes[-1][1]
    assert "validation" in notes[-1][2]
    network, card = load_model(tmp_path / "model")
    assert not network.training
    assert (card["bands"], card["form"], card["stretch"]) == (BANDS, "flux", "linear")
    assert card["weights_sha256"] == result.model
    assert card["data_hash"] == data[0].hash
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        ".lock",
        "examples.safetensors",
        "held_out.parquet",
        "history.csv",
        "history.svg",
        "learned.parquet",
        "model.json",
        "typical.safetensors",
        "weights.safetensors",
    ]
    saved = tables.read(tmp_path / "model" / "history.csv")
    np.testing.assert_array_equal(saved["train_loss"], result.history["train_loss"])


def test_the_kept_weights_score_what_the_card_says(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    result = train(*data, tmp_path, recipe(choose_by="accuracy"), threads=1)
    network, _ = load_model(tmp_path)
    sides = TrainingData.for_recipe(*data, recipe())
    with torch.inference_mode():
        logits = network(sides.images(sides.validation))
    right = logits.argmax(1) == sides.targets(sides.validation)
    assert float(right.double().mean()) == pytest.approx(result.metrics["accuracy"])


def test_a_thread_ahead_gives_things_in_order_and_passes_errors_on() -> None:
    assert list(in_advance(lambda i: i * i, range(3, 40))) == [i * i for i in range(3, 40)]

    def broken(i: int) -> int:
        if i == 5:
            raise IntegrityError("shard 5")
        return i

    values = in_advance(broken, range(20))
    assert [next(values) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(IntegrityError, match="shard 5"):
        next(values)


def test_the_rate_rises_and_falls_as_the_recipe_says() -> None:
    chosen = recipe(rate=1.0, warmup=2, epochs=10)
    rates = [learning_rate(chosen, 5, step) for step in range(50)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert rates[49] < 0.01
    assert {learning_rate(recipe(schedule="none", warmup=0), 5, i) for i in range(20)} == {5e-3}


def run_elsewhere(store: Path, split: Path, out: Path, epochs: int) -> subprocess.Popen[bytes]:
    """Train in another process, as the command line would."""
    code = (
        "import sys; from pathlib import Path\n"
        "from gqs.cutouts.store import CutoutStore; from gqs.cutouts import split\n"
        "from gqs.recipes import Recipe; from gqs.training import train\n"
        "from gqs.errors import GqsError\n"
        "store, sides, out, recipe = sys.argv[1:]\n"
        "try:\n"
        "    train(CutoutStore.open(Path(store)), split.load(Path(sides)), Path(out),\n"
        "          Recipe.model_validate_json(recipe), threads=1, device='cpu',\n"
        "          progress=lambda *note: print(*note, flush=True))\n"
        "except GqsError as error:\n"
        "    print(error, file=sys.stderr); sys.exit(error.exit_code)\n"
    )
    chosen = recipe(epochs=epochs).model_dump_json()
    command = [sys.executable, "-c", code, str(store), str(split), str(out), chosen]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_epoch(out: Path, epoch: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 90
    while not (out / "checkpoints" / f"{epoch:05d}-000000.json").exists():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < end
        time.sleep(0.005)


def test_killed_twice_and_resumed_it_ends_with_the_same_bits(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    store, split = data
    saved = splits.save(split, tmp_path / "split.parquet")
    whole = train(store, split, tmp_path / "whole", recipe(epochs=14), threads=1, device="cpu")
    cut = tmp_path / "cut"
    process = run_elsewhere(store.path, saved, cut, 14)
    wait_for_epoch(cut, 2, process)
    process.kill()  # SIGKILL, wherever it is
    process.communicate()
    assert not (cut / "model.json").exists()
    process = run_elsewhere(store.path, saved, cut, 14)
    wait_for_epoch(cut, 5, process)
    process.send_signal(signal.SIGTERM)  # in the middle of an epoch, most likely
    begin = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr.decode()
    assert time.monotonic() - begin < 10
    assert b"continues from it" in stderr
    again = train(store, split, cut, recipe(epochs=14), threads=1, device="cpu", resume=True)
    assert_same_bits(tmp_path / "whole", cut)
    assert again.model == whole.model
    for name in ("train_loss", "validation_loss", "train_accuracy", "rate"):
        np.testing.assert_array_equal(whole.history[name], again.history[name])


class _StopAt:
    """Sends this process a signal when training reaches a step."""

    def __init__(self, signum: int) -> None:
        self.signum, self.sent = signum, False

    def __call__(self, done: int, total: int, note: str) -> None:
        if not self.sent and "validation" in note:
            self.sent = True
            os.kill(os.getpid(), self.signum)


def test_threads_are_chosen_kept_by_a_checkpoint_and_told(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    def crash(done: int, total: int, note: str) -> None:
        if note.startswith("epoch 2/"):
            raise RuntimeError("crash")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="crash"):
        train(*data, tmp_path, recipe(epochs=2), device="cpu", progress=crash)
    manifest = next((tmp_path / "checkpoints").glob("00001-*.json"))
    chosen = json.loads(manifest.read_text())["threads"]
    assert chosen in (1, before)
    train(*data, tmp_path, recipe(epochs=2), device="cpu", resume=True)
    assert load_model(tmp_path)[1]["training"]["threads"] == chosen
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_its_exit_code(
    data: tuple[CutoutStore, Table], tmp_path: Path, signum: int, code: int
) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(Stopped, match="stopped in epoch") as caught:
        train(*data, tmp_path, recipe(), threads=1, progress=_StopAt(signum))
    assert caught.value.exit_code == code
    assert signal.getsignal(signum) == before
    assert len(list((tmp_path / "checkpoints").glob("?????-??????.json"))) == 1
    assert len(train(*data, tmp_path, recipe(), threads=1, resume=True).history) == 4


@pytest.fixture
def half(data: tuple[CutoutStore, Table], tmp_path: Path) -> Path:
    """A training that crashed in its fourth epoch, with two checkpoints."""

    def crash(done: int, total: int, note: str) -> None:
        if note.startswith("epoch 4/"):
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        train(*data, tmp_path / "half", recipe(), threads=1, progress=crash)
    names = sorted(p.name for p in (tmp_path / "half" / "checkpoints").glob("?????-??????.json"))
    assert names == ["00002-000000.json", "00003-000000.json"]
    return tmp_path / "half"


@pytest.mark.parametrize("ending", ["safetensors", "pt", "json"])
@pytest.mark.parametrize("fault", ["cut", "flip", "empty", "gone"])
def test_a_damaged_checkpoint_is_passed_over_loudly_and_costs_nothing_but_time(
    data: tuple[CutoutStore, Table],
    half: Path,
    whole: Path,
    caplog: pytest.LogCaptureFixture,
    ending: str,
    fault: str,
) -> None:
    path = half / "checkpoints" / f"00003-000000.{ending}"
    content = bytearray(path.read_bytes())
    if fault == "gone":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "empty":
        path.write_bytes(b"")
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    train(*data, half, recipe(), threads=1)
    if (ending, fault) != ("json", "gone"):  # without a manifest there is no such checkpoint
        assert "the checkpoint is damaged" in caplog.text
        assert "the one before it is used" in caplog.text
    assert_same_bits(whole, half)


@pytest.fixture(scope="module")
def whole(data: tuple[CutoutStore, Table], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(*data, folder, recipe(), threads=1)
    return folder


def forge(manifest: Path, **changes: dict[str, object]) -> None:
    """Change values of a manifest and make it agree with itself again."""
    values = json.loads(manifest.read_text())
    for name, change in changes.items():
        values[name] |= change
    del values["self"]
    manifest.write_text(json.dumps(values | {"self": hash_of(values)}))


def test_a_pickle_in_a_checkpoint_is_never_run(
    data: tuple[CutoutStore, Table], half: Path, tmp_path: Path, whole: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for name in ("00002-000000", "00003-000000"):
        path = half / "checkpoints" / f"{name}.pt"
        path.write_bytes(pickle.dumps(Evil()))
        forge(path.with_suffix(".json"), sha256={"pt": sha256(path)})
    with pytest.raises(IntegrityError, match="every checkpoint is damaged"):
        train(*data, half, recipe(), threads=1)
    assert not (tmp_path / "ran").exists()
    train(*data, half, recipe(), threads=1, resume=False)
    assert_same_bits(whole, half)


def test_resuming_another_training_is_refused(
    data: tuple[CutoutStore, Table], half: Path, tmp_path: Path
) -> None:
    store, split = data
    for changes in ({"batch": 16}, {"rate": 1e-3}, {"clip": 2.0}, {"epochs": 9}):
        with pytest.raises(UsageError, match=rf"another .*{next(iter(changes))}"):
            train(store, split, half, recipe(**changes), threads=1)
    with pytest.raises(UsageError, match="another seed"):
        train(store, split, half, recipe(), seed=1, threads=1)
    other, other_split = make_store(tmp_path / "other", seed=5)
    with pytest.raises(UsageError, match="another data"):
        train(other, other_split, half, recipe(), threads=1)
    with pytest.raises(UsageError, match="another split"):
        train(store, splits.make_split(store.index, seed=9), half, recipe(), threads=1)
    manifest = half / "checkpoints" / "00003-000000.json"
    forge(manifest, identity={"classes": ["STAR", "QSO", "GALAXY"]})
    with pytest.raises(UsageError, match="another classes"):
        train(store, split, half, recipe(), threads=1)


def test_a_finished_training_is_found_again_and_another_one_refused(
    data: tuple[CutoutStore, Table], whole: Path
) -> None:
    before = (whole / "model.json").stat().st_mtime_ns
    figure = (whole / "history.svg").read_bytes()
    (whole / "history.svg").unlink()
    found = train(*data, whole, recipe(), threads=1)
    assert found.model == json.loads((whole / "model.json").read_text())["weights_sha256"]
    assert len(found.history) == 4
    assert (whole / "history.svg").read_bytes() == figure
    with pytest.raises(UsageError, match=r"another recipe\.epochs"):
        train(*data, whole, recipe(), epochs=5, threads=1)
    assert (whole / "model.json").stat().st_mtime_ns == before


def test_nothing_to_resume_is_said(data: tuple[CutoutStore, Table], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        train(*data, tmp_path, recipe(), resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_epoch(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    wild = recipe(rate=10.0, clip=0, optimizer="sgd", schedule="none", warmup=0, average=0)
    # Weight decay beyond 2 / rate makes the weights grow at every step, after a good start.
    wild = wild.changed(weight_decay=1.0, epochs=60)
    with pytest.raises(ModelError, match="not finite in epoch") as caught:
        train(*data, tmp_path, wild, threads=1)
    assert caught.value.exit_code == 6
    assert not (tmp_path / "model.json").exists()
    for path in (tmp_path / "checkpoints").glob("*.safetensors"):
        load_weights(path)  # raises where a number is not finite


def test_an_object_on_two_sides_is_refused(data: tuple[CutoutStore, Table], tmp_path: Path) -> None:
    store, split = data
    leaking = split.copy()
    leaking["split"][0] = "test" if split["split"][0] != "test" else "train"
    with pytest.raises(IntegrityError, match="on two sides"):
        train(store, leaking, tmp_path, recipe())
    assert IntegrityError.exit_code == 7


def test_a_side_or_a_class_that_is_empty_is_refused(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    store, split = data
    rows = split[split["split"] != "validation"]
    with pytest.raises(UsageError, match="no validation objects"):
        train(store, rows, tmp_path / "a", recipe())
    kind = dict(zip(store.index["objid"], store.index["class"], strict=True))
    rows = split[[kind[objid] != "QSO" for objid in split["objid"]]]
    with pytest.raises(UsageError, match="no QSO"):
        train(store, rows, tmp_path / "b", recipe())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"network": "resnet19"}, "Unknown network"),
        ({"epochs": -1}, "epochs = -1 is not allowed"),
        ({"batch": 0}, "batch = 0 is not allowed"),
        ({"precision": "fp8"}, "precision = 'fp8' is not allowed"),
        ({"threads": 0}, "at least one"),
        ({"device": "tpu9"}, "is not there"),
        ({"recipe": "papre"}, "Unknown recipe"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    data: tuple[CutoutStore, Table], tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        train(*data, tmp_path, **({"recipe": recipe()} | options))  # type: ignore[arg-type]


def test_a_band_that_the_store_lacks_is_refused(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="the recipe asks for 'griz'"):
        train(*data, tmp_path, recipe(bands="griz"))


def test_what_is_stretched_cannot_be_dimmed(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    dim = {"dim": 0.5}
    with pytest.raises(UsageError, match="cannot be dimmed"):
        train(*data, tmp_path, recipe(network="resnet18", arguments={}, augment=dim))


def test_some_of_the_bands_can_be_trained_on(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    train(*data, tmp_path, recipe(bands="ri", epochs=1), threads=1)
    assert load_model(tmp_path)[1]["bands"] == "ri"


def test_the_folder_of_another_process_is_refused(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    code = "import sys, time; from gqs.files import only_writer\n"
    code += "with only_writer(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        with pytest.raises(ResourceError, match=f"process {holder.pid}"):
            train(*data, tmp_path, recipe())
    finally:
        holder.kill()
        holder.communicate()


def test_early_stop_ends_when_nothing_improves(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    still = recipe(rate=1e-12, epochs=50, early_stop=3, choose_by="accuracy", average=0)
    result = train(*data, tmp_path, still, threads=1)
    assert len(result.history) == result.metrics["epoch"] + 3 < 50


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "adam", "precision": "auto"},
        {"class_weights": "balanced", "label_smoothing": 0.1, "batch": 4096},
        {"epochs": 1, "network": "resnet18", "arguments": {}, "augment": {"rotation": 90.0}},
    ],
)
def test_the_recipes_choices_train(
    data: tuple[CutoutStore, Table], tmp_path: Path, changes: dict[str, object]
) -> None:
    result = train(*data, tmp_path, recipe(**{"epochs": 2, **changes}), threads=1)
    assert np.isfinite(result.history["train_loss"]).all()
    load_model(tmp_path)


def test_class_weights_and_smoothing_are_torchs(data: tuple[CutoutStore, Table]) -> None:
    sides = TrainingData.for_recipe(*data, recipe())
    weights = class_weights(sides, recipe(class_weights="balanced"), torch.device("cpu"))
    counts = np.bincount(sides.classes[sides.train])
    assert weights is not None
    np.testing.assert_allclose(weights.numpy() * counts, counts.sum() / 3, rtol=1e-6)


def test_seeds_of_steps_differ() -> None:
    seeds = {
        seed_of(s, e, i, w) for s in range(3) for e in range(5) for i in range(9) for w in "ab"
    }
    assert len(seeds) == 270
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_callers_random_state_and_threads_stay(
    data: tuple[CutoutStore, Table], tmp_path: Path
) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    before = torch.get_num_threads()
    train(*data, tmp_path, recipe(epochs=1), threads=1)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.rand(3), expected)
