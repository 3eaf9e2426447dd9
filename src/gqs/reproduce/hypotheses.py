"""What the paper claims, as data: its networks by table, their printed names, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gqs.errors import UsageError
from gqs.networks import zoo
from gqs.recipes.published import RESNET50_GQS, TABLE_6, TABLE_7, TABLE_8, Scores

GQS: Final = "resnet50_gqs"
# These settle the paper's claims, so they are trained first.
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


class Claim(NamedTuple):
    """The paper has the first network above the second, by so much accuracy on its test set."""

    better: str
    worse: str
    published: float  # 0 for ResNet50 and ResNet18, which it has level

    @property
    def words(self) -> str:
        """The claim with the names that the paper prints."""
        how = "over" if self.published else "level with"
        return f"{title(self.better)} {how} {title(self.worse)}"


def _claim(better: str, worse: str) -> Claim:
    gap = PUBLISHED[better].accuracy - PUBLISHED[worse].accuracy
    return Claim(better, worse, round(gap, 4))


# GQS over ResNet50-SE over ResNet50 over the others of Tables 6 and 7.
CLAIMS: Final = (
    _claim(GQS, "resnet50_se"),
    _claim("resnet50_se", "resnet50"),
    _claim(GQS, "resnet50"),
    *(_claim("resnet50", name) for name in {**TABLE_7, **TABLE_6} if name != "resnet50"),
)


def title(network: str) -> str:
    """Return a network's name as the paper prints it."""
    return TITLES.get(network, network)


def networks(words: Sequence[str]) -> list[str]:
    """Expand names and groups, those that settle the paper's claims first."""
    named: list[str] = []
    for word in words:
        if word not in GROUPS:
            try:
                zoo.find(word)
            except UsageError as error:
                raise UsageError(f"{error} Groups are {', '.join(GROUPS)}.") from error
        named += GROUPS.get(word, (word,))
    first = [name for name in FIRST if name in named]
    return list(dict.fromkeys([*first, *named]))
