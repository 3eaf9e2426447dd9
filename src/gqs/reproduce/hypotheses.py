"""The paper's hypotheses as data: its networks by table, their printed names, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gqs.errors import UsageError
from gqs.networks import zoo
from gqs.recipes.published import RESNET50_GQS, TABLE_6, TABLE_7, TABLE_8, Scores

GQS: Final = "resnet50_gqs"
# These decide the paper's hypotheses, so they are trained first.
FIRST: Final = (GQS, "resnet50_se", "resnet50", "resnet18")
# From ResNet50-SE to ResNet50-GQS, one change at a time (paper 2.3; it prints no such table).
STEPS: Final = {
    "resnet50_se": "ResNet50-SE",
    "resnet50_se_stem": "and a stem of 4x4, stride 4",
    "resnet50_se_stem_widths": "and widths 96 to 768",
    "resnet50_se_stem_widths_3x3": "and the 3x3 convolution first",
    GQS: "and fewer ReLU and BN: ResNet50-GQS",
}
PUBLISHED: Final[dict[str, Scores]] = {**TABLE_6, **TABLE_7, **TABLE_8, GQS: RESNET50_GQS}
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "table6": tuple(TABLE_6),
    "table7": tuple(TABLE_7),
    "table8": tuple(TABLE_8),
    "steps": tuple(STEPS),
    "all": tuple(dict.fromkeys([*FIRST, *TABLE_6, *TABLE_7, *TABLE_8, *STEPS])),
}

# As Tables 5 to 8 print them.
TITLES: Final = {
    "vgg16": "VGG16",
    "googlenet": "GoogLeNet",
    "resnet50": "ResNet50",
    "mobilenet_v2": "MobileNetV2",
    "densenet121": "DenseNet121",
    "efficientnet_b0": "EfficientNet-b0",
    "vit_b_16": "ViT-B/16",
    "swin_t": "Swin-T",
    "convnext_tiny": "ConvNeXt-T",
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    **{
        f"resnet{depth}_{attention}": f"ResNet{depth}-{attention.upper()}"
        for depth in (18, 50)
        for attention in ("se", "eca", "cbam")
    },
    "resnet50_se_stem": "ResNet50-SE, stem",
    "resnet50_se_stem_widths": "ResNet50-SE, stem, widths",
    "resnet50_se_stem_widths_3x3": "ResNet50-SE, stem, widths, 3x3",
    GQS: "ResNet50-GQS",
}


class Hypothesis(NamedTuple):
    """The first network is more accurate than the second on the paper's test set."""

    better: str
    worse: str
    published: float  # by how much; 0 for ResNet50 and ResNet18, which are equal

    @property
    def words(self) -> str:
        """Both networks with the names that the paper prints."""
        relation = "over" if self.published else "level with"
        return f"{title(self.better)} {relation} {title(self.worse)}"


def _hypothesis(better: str, worse: str) -> Hypothesis:
    gap = PUBLISHED[better].accuracy - PUBLISHED[worse].accuracy
    return Hypothesis(better, worse, round(gap, 4))


# GQS over ResNet50-SE over ResNet50 over the others of Tables 6 and 7.
HYPOTHESES: Final = (
    _hypothesis(GQS, "resnet50_se"),
    _hypothesis("resnet50_se", "resnet50"),
    _hypothesis(GQS, "resnet50"),
    *(_hypothesis("resnet50", name) for name in {**TABLE_7, **TABLE_6} if name != "resnet50"),
)


def title(network: str) -> str:
    """Name of a network as the paper prints it."""
    return TITLES.get(network, network)


def networks(names: Sequence[str]) -> list[str]:
    """Networks of names and groups, those that decide the paper's hypotheses first."""
    expanded: list[str] = []
    for name in names:
        if name not in GROUPS:
            try:
                zoo.find(name)
            except UsageError as error:
                raise UsageError(f"{error} Groups are {', '.join(GROUPS)}.") from error
        expanded += GROUPS.get(name, (name,))
    first = [name for name in FIRST if name in expanded]
    return list(dict.fromkeys([*first, *expanded]))
