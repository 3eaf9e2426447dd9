"""How networks are trained, as data: one TOML file a recipe. Paper 3.5, 4.3 and Table 5."""

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


# Values that recipes have had since then: at their defaults they are left out of a training's
# identity, so that what was trained before them can still be continued.
_LATER: Final = {"augment": {"blind", "narrow"}}


class Recipe(_Strict):
    """Everything that decides what a training gives, but data, split and seed.

    Attributes
    ----------
    about : str
        Where it comes from, the command, the cost, the score seen.
    network : str
        A name of `gqs.networks.zoo`; its own `arguments` beside it.
    bands : str, optional
        Bands to train on; all that the store has where none is named.
    optimizer : str
        "adam", "adamw" or "sgd" (with `momentum`).
    rate, weight_decay, momentum : float
        Of the optimizer. The rate is the highest that the schedule reaches.
    schedule : str
        "none" keeps the rate; "cosine" lets it fall to 0 over all epochs.
    warmup : float
        Epochs over which the rate first rises from 0.
    epochs, batch : int
        How long, and how many images a step.
    class_weights : str
        "balanced" weighs each class by the inverse of its share of the training objects.
    label_smoothing : float
        Share of each label spread over all classes, against overconfidence.
    clip : float
        Largest norm of a step's gradient; 0 for no limit. Keeps one odd batch from undoing many.
    average : float
        Decay of the running mean of the weights that is validated and kept; 0 keeps the last
        weights. A mean over some hundred steps has less of the last batches' noise in it.
    early_stop : int
        Epochs without a better validation after which training ends; 0 for never.
    choose_by : str
        What is best on validation: "loss" or "accuracy".
    precision : str
        "fp32", "bf16", or "auto": bf16 where the device computes in it.
    augment : Augment
        Of the training images alone.
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
        """Return what decides what a training gives, in a form that stays as recipes grow."""
        values = self.model_dump(exclude={"about"})
        for name in _LATER["augment"]:
            if values["augment"][name] == Augment.model_fields[name].default:
                del values["augment"][name]
        return values

    def changed(self, **changes: Any) -> Recipe:
        """Return the recipe with some of its values replaced."""
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
    """Return the names of the recipes in the package."""
    folder = resources.files(__name__)
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str | Path, network: str | None = None, **changes: Any) -> Recipe:
    """Load a recipe.

    Parameters
    ----------
    name : str or Path
        Of a recipe in the package, or a TOML file of one's own (a path that ends in .toml).
    network : str, optional
        Train this network; the recipe's own values for it, where it has a table
        `[for.NETWORK]`, then hold.
    **changes
        Values to replace, as in `Recipe.changed`.

    Returns
    -------
    Recipe
        Checked.

    Raises
    ------
    UsageError
        If there is no such recipe, or it holds an unknown key or a value that is not allowed.
    """
    if str(name).endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"{path}: there is no such recipe.")
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
        raise UsageError(f"Recipe {name}: is no TOML ({error}).") from error
    special = values.pop("for", {})
    chosen = network or values.get("network")
    if network is not None:
        values["network"] = network
        if network != _default(text):  # arguments belong to the network that they were made for
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
