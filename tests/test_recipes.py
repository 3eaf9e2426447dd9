"""Recipes are Table 5 as printed; what is unknown or absurd is refused; published numbers agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gqs import recipes
from gqs.errors import UsageError
from gqs.labels import CLASSES
from gqs.recipes import published

ADAM = ("adam", 0.0, 0.0, 1e-4, "none", 256)
SGD = ("sgd", 0.9, 1e-4, 1e-4, "cosine", 256)
TABLE_5 = {
    "vgg16": ADAM,
    "googlenet": ADAM,
    "resnet50": ADAM,
    "mobilenet_v2": ADAM,
    "densenet121": SGD,
    "efficientnet_b0": SGD,
    "vit_b_16": ("sgd", 0.9, 5e-5, 1e-3, "cosine", 32),
    "swin_t": ("adamw", 0.0, 0.05, 1e-4, "none", 32),
    "convnext_tiny": ("adamw", 0.0, 1e-4, 1e-4, "cosine", 256),
    "resnet18": ADAM,  # not in the table: as ResNet50
    "resnet50_gqs": ADAM,
}


@pytest.mark.parametrize(("network", "row"), TABLE_5.items())
def test_the_papers_recipe_is_table_5(network: str, row: tuple[object, ...]) -> None:
    recipe = recipes.load("paper", network)
    found = (recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.rate)
    assert (*found, recipe.schedule, recipe.batch) == row
    assert recipe.network == network
    assert recipe.epochs == 60
    assert (recipe.augment.rotation, recipe.augment.flip) == (90, 0.5)
    assert recipe.class_weights == "none"
    assert (recipe.warmup > 0) == (network == "convnext_tiny")


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_in_the_package_loads_and_says_what_it_is(name: str) -> None:
    assert recipes.load(name).about


def test_the_rooms_have_their_recipes() -> None:
    assert {"paper", "demo"} <= set(recipes.names())


def test_changes_replace_values_and_none_leaves_them() -> None:
    recipe = recipes.load("paper", epochs=3, batch=None, **{"augment.shift": 2})
    assert (recipe.epochs, recipe.batch, recipe.augment.shift) == (3, 256, 2)
    assert recipe.augment.rotation == 90


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('network = "resnet18"\nepochs = 2\n')
    assert recipes.load(path).epochs == 2
    assert recipes.load(str(path), epochs=4).epochs == 4


def test_arguments_belong_to_the_network_that_they_were_made_for(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('network = "compact"\narguments = { width = 16 }\n')
    assert recipes.load(path).arguments == {"width": 16}
    assert recipes.load(path, "compact").arguments == {"width": 16}
    assert recipes.load(path, "resnet18").arguments == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learning_rate = 1", r"unknown key 'learning_rate'. The keys are about, network"),
        (
            "[augment]\nmirror = true",
            r"unknown key 'augment.mirror'. The keys are augment.dihedral",
        ),
        ("batch = -4", r"batch = -4 is not allowed"),
        ("epochs = 0", r"epochs = 0 is not allowed"),
        ("rate = nan", r"rate = nan is not allowed"),
        ('optimizer = "lion"', r"optimizer = 'lion' is not allowed.*adam"),
        ("rate = !!python/object", r"cannot be read as TOML"),
        ("\x00", r"cannot be read as TOML"),
    ],
)
def test_unknown_and_absurd_recipes_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        recipes.load(path)


@pytest.mark.parametrize("name", ["papre", "../paper", "/etc/passwd", "", "published"])
def test_unknown_names_are_refused_with_a_list(name: str) -> None:
    with pytest.raises(UsageError, match=r"The recipes are demo, paper"):
        recipes.load(name)
    with pytest.raises(UsageError, match=r"no such recipe file"):
        recipes.load("absent.toml")


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ("epoch", "about, network, "),
        ("", "about, network, "),
        ("augment.mirror", "augment.dihedral, augment.shift, "),
        ("augment.shift.x", "about, network, "),
        ("colour.shift", "about, network, "),
        ("about.epochs", "about, network, "),
    ],
)
def test_unknown_changes_are_refused_and_the_valid_ones_listed(change: str, keys: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown key '{change}'. The keys are {keys}"):
        recipes.load("paper", **{change: 1})


def test_the_words_for_arguments_of_a_network_are_its_own() -> None:
    recipe = recipes.load("demo", **{"arguments.width": 12})
    assert recipe.arguments == {"width": 12}


def test_the_published_confusion_matrix_gives_table_9_and_the_test_counts_of_table_3() -> None:
    matrix = np.array(published.CONFUSION)
    assert matrix.sum(axis=1).tolist() == [published.TABLE_3[name].test for name in CLASSES]
    precision, recall = matrix.diagonal() / matrix.sum(axis=0), matrix.diagonal() / matrix.sum(1)
    f1 = 2 * precision * recall / (precision + recall)
    for i, name in enumerate(CLASSES):
        assert published.TABLE_9[name] == pytest.approx((precision[i], recall[i], f1[i]), abs=5e-5)
    average = (precision.mean(), recall.mean(), f1.mean())
    assert pytest.approx(average, abs=6e-5) == published.TABLE_9_AVERAGE
    assert matrix.trace() / matrix.sum() == pytest.approx(published.RESNET50_GQS.accuracy, abs=5e-5)


def test_published_totals() -> None:
    assert [sum(counts) for counts in published.TABLE_3.values()] == [11512, 10038, 10206]
    assert published.TABLE_6["resnet50"] == published.TABLE_7["resnet50"]
    assert published.TABLE_7["resnet18"] == published.TABLE_8["resnet18"]
    # The text of 4.3: what SE adds to ResNet50.
    gained = np.subtract(published.TABLE_8["resnet50_se"], published.TABLE_8["resnet50"])
    np.testing.assert_allclose(gained, [0.0032, 0.0027, 0.0029, 0.0031, 0.0014], atol=1e-9)


def test_what_recipes_have_had_since_leaves_earlier_trainings_their_identity() -> None:
    plain = recipes.load("demo")
    assert {"blind", "narrow"}.isdisjoint(plain.identity()["augment"])
    blind = plain.changed(augment={**plain.augment.model_dump(), "blind": 0.5})
    assert blind.identity()["augment"]["blind"] == 0.5
    assert "about" not in plain.identity()
