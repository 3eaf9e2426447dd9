"""The paper's own numbers: Tables 3, 6-9 and Figures 14-15, as printed.

Gao, Tu, Li & Li 2023, International Journal of Innovative Computing, Information and Control 19,
579. Fractions where the paper prints per cent.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gqs.labels import GALAXY, QSO, STAR


class Counts(NamedTuple):
    """Objects of one class in each set. Table 3."""

    train: int
    validation: int
    test: int


class Scores(NamedTuple):
    """Scores on the test set; precision, recall and F1 are means over classes. Tables 6-8."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float


class ClassScores(NamedTuple):
    """Scores of ResNet50-GQS for one class. Table 9."""

    precision: float
    recall: float
    f1: float


TABLE_3: Final = {
    GALAXY: Counts(9208, 1152, 1152),
    QSO: Counts(8030, 1004, 1004),
    STAR: Counts(8164, 1021, 1021),
}

TABLE_6: Final = {
    "vgg16": Scores(0.9097, 0.9118, 0.9073, 0.9073, 0.9729),
    "googlenet": Scores(0.9125, 0.9110, 0.9101, 0.9102, 0.9797),
    "resnet50": Scores(0.9150, 0.9144, 0.9130, 0.9130, 0.9748),
    "mobilenet_v2": Scores(0.8958, 0.8958, 0.8928, 0.8929, 0.9620),
    "densenet121": Scores(0.8804, 0.8805, 0.8771, 0.8774, 0.9565),
    "efficientnet_b0": Scores(0.8801, 0.8822, 0.8766, 0.8767, 0.9565),
    "vit_b_16": Scores(0.9090, 0.9071, 0.9067, 0.9068, 0.9706),
    "swin_t": Scores(0.9106, 0.9101, 0.9081, 0.9082, 0.9719),
    "convnext_tiny": Scores(0.8662, 0.8653, 0.8627, 0.8624, 0.9191),
}

TABLE_7: Final = {
    "resnet50": Scores(0.9150, 0.9144, 0.9130, 0.9130, 0.9748),
    "resnet18": Scores(0.9150, 0.9151, 0.9130, 0.9130, 0.9680),
    "resnet34": Scores(0.9087, 0.9069, 0.9052, 0.9055, 0.9728),
}

TABLE_8: Final = {
    "resnet18": Scores(0.9150, 0.9151, 0.9130, 0.9130, 0.9680),
    "resnet18_se": Scores(0.9160, 0.9146, 0.9136, 0.9137, 0.9752),
    "resnet18_eca": Scores(0.9156, 0.9154, 0.9137, 0.9138, 0.9720),
    "resnet18_cbam": Scores(0.9138, 0.9121, 0.9115, 0.9117, 0.9719),
    "resnet50": Scores(0.9150, 0.9144, 0.9130, 0.9130, 0.9748),
    "resnet50_se": Scores(0.9182, 0.9171, 0.9159, 0.9161, 0.9762),
    "resnet50_eca": Scores(0.9144, 0.9137, 0.9121, 0.9122, 0.9719),
    "resnet50_cbam": Scores(0.9144, 0.9137, 0.9121, 0.9123, 0.9754),
}

TABLE_9: Final = {
    GALAXY: ClassScores(0.9539, 0.9696, 0.9617),
    QSO: ClassScores(0.8797, 0.9104, 0.8948),
    STAR: ClassScores(0.9359, 0.8864, 0.9105),
}
TABLE_9_AVERAGE: Final = ClassScores(0.9232, 0.9221, 0.9223)

# ResNet50-GQS on the test set, rows true and columns predicted, in the order of the labels. The
# text of 4.4 gives the diagonal, 54 and 98; the rest follows from Tables 3 and 9.
CONFUSION: Final = ((1117, 27, 8), (36, 914, 54), (18, 98, 905))

RESNET50_GQS: Final = Scores(0.9241, 0.9232, 0.9221, 0.9223, 0.9704)
AUC_GALAXY: Final = 0.9922  # Figure 15; the other two are not printed

EPOCHS: Final = 60  # of every training; 4.3
