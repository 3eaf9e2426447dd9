"""Recipes, how networks are trained: one TOML file each. Paper 3.5, 4.3 and Table 5."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gqs.errors import UsageError

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Augment(_Strict):
    """Augmentation of training images; see `gqs.cutouts.augmentation.Augmentation`."""

    dihedral: bool = False
    shift: int = Field(default=0, ge=0, le=8)
    band_dropout: float = Field(default=0.0, ge=0, le=0.5)
    dim: float = Field(default=0.0, ge=0, lt=1)
    rotation: float = Field(default=0.0, ge=0, le=180)
    flip: Share = 0.0
    blind: Share = 0.0
    narrow: Share = 0.0


# Keys that were added later: at their defaults they are left out of a training's identity, so that
# trainings from before can still be continued.
_LATER: Final = {"augment": {"blind", "narrow"}}


class Recipe(_Strict):
    """Everything that decides the result of a training, except data, split and seed.

    Attributes
    ----------
    about : str
        Source, command, cost and score.
    network : str
        Name in `gqs.networks.zoo`; `arguments` are its own.
    bands : str, optional
        Bands to train on; by default all of the store.
    optimizer : str
        "adam", "adamw" or "sgd" (with `momentum`).
    rate, weight_decay, momentum : float
        Of the optimizer. `rate` is the highest rate of the schedule.
    schedule : str
        "none" keeps the rate; "cosine" decreases it to 0 over all epochs.
    warmup : float
        Epochs over which the rate rises from 0 at the start.
    epochs, batch : int
        Number of epochs, and of images a step.
    class_weights : str
        "balanced" weighs each class by the inverse of its share of the training objects.
    label_smoothing : float
        Fraction of each label spread over all classes, against overconfidence.
    clip : float
        Largest norm of a step's gradient; 0 for no limit.
    average : float
        Decay of the moving average of the weights, which is validated and kept; 0 keeps the last
        weights. An average over some hundred steps is less noisy.
    early_stop : int
        Epochs without improvement on validation after which training ends; 0 for never.
    choose_by : str
        Validation score that chooses the epoch: "loss" or "accuracy".
    precision : str
        "fp32", "bf16", or "auto": bf16 if the device supports it.
    augment : Augment
        Augmentation of the training images.
    """

    about: str = ""
    network: str = "compact"
    arguments: dict[str, int | float | bool | str] = {}
    bands: str | None = None
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = Field(default=1e-4, gt=0, le=10)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["none", "cosine"] = "none"
    warmup: float = Field(default=0.0, ge=0)
    epochs: int = Field(default=60, ge=1, le=100_000)
    batch: int = Field(default=256, ge=2, le=1 << 20)
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip: float = Field(default=0.0, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    early_stop: int = Field(default=0, ge=0)
    choose_by: Literal["loss", "accuracy"] = "loss"
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    augment: Augment = Augment()

    def identity(self) -> dict[str, Any]:
        """Values that decide the result, in a form that stays the same when keys are added."""
        values = self.model_dump(exclude={"about"})
        for name in _LATER["augment"]:
            if values["augment"][name] == Augment.model_fields[name].default:
                del values["augment"][name]
        return values

    def changed(self, **changes: Any) -> Recipe:
        """Recipe with some of its values replaced."""
        values = self.model_dump()
        for name, value in changes.items():
            if value is None:
                continue
            table, _, key = name.rpartition(".")
            if table and not isinstance(values.get(table), dict):
                raise UsageError(f"Recipe: unknown key {name!r}. {_valid(Recipe)}")
            (values[table] if table else values)[key] = value
        return _checked(values, "Recipe")


def names() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files(__name__)
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str | Path, network: str | None = None, **changes: Any) -> Recipe:
    """Load a recipe.

    Parameters
    ----------
    name : str or Path
        Name of a recipe in the package, or path of a TOML file (ending in .toml).
    network : str, optional
        Train this network, with the values of the recipe's table `[for.NETWORK]`, if there is one.
    **changes
        Values to replace, as for `Recipe.changed`.

    Returns
    -------
    Recipe
        The validated recipe.

    Raises
    ------
    UsageError
        If the recipe or a key is unknown, or a value is not allowed.
    """
    if str(name).endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"{path}: no such recipe file.")
        text = path.read_bytes().decode("utf-8", "replace")
    elif str(name) in names():
        text = resources.files(__name__).joinpath(f"{name}.toml").read_text("utf-8")
    else:
        raise UsageError(
            f"Unknown recipe {str(name)!r}. The recipes are {', '.join(names())}, "
            "or a file that ends in .toml."
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Recipe {name}: cannot be read as TOML ({error}).") from error
    special = values.pop("for", {})
    chosen = network or values.get("network")
    if network is not None:
        values["network"] = network
        if network != _default(text):  # arguments belong to the recipe's own network
            values.pop("arguments", None)
    values |= special.get(chosen, {})
    return _checked(values, f"Recipe {name}").changed(**changes)


def _default(text: str) -> str | None:
    return tomllib.loads(text).get("network")


def _checked(values: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            model = Augment if key.startswith("augment.") else Recipe
            raise UsageError(f"{where}: unknown key {key!r}. {_valid(model)}") from error
        raise UsageError(
            f"{where}: {key} = {first['input']!r} is not allowed ({first['msg']})."
        ) from error


def _valid(model: type[BaseModel]) -> str:
    before = "augment." if model is Augment else ""
    return f"The keys are {', '.join(before + key for key in model.model_fields)}."
