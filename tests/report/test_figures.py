"""Figures show the measured numbers, in words too, and accept unusual data."""

import re

import numpy as np
import pytest
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS
from matplotlib.figure import Figure
from matplotlib.text import Text

from drawn import from_confusion, predictions, sample, truth_of
from gqs import labels
from gqs.evaluation.matched import match
from gqs.evaluation.metrics import measure
from gqs.imaging.align import BandStack
from gqs.imaging.composite import SCALES, STRETCH, Q
from gqs.report import figures, pictures
from gqs.report.palette import rendered
from gqs.surveys.sdss import FieldId
from gqs.tables import Flag

PAPER = [[1117, 27, 8], [36, 914, 54], [18, 98, 905]]


def words(figure: Figure) -> str:
    """Every text that a figure shows."""
    figure.draw_without_rendering()
    return " | ".join(text.get_text() for text in figure.findobj(Text))


def plane(turn: float, dec: float, parity: int) -> WCS:
    """A tangent plane around pixel (69.5, 44.5), turned by so many degrees, or mirrored too."""
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix, wcs.wcs.crval = [70.5, 45.5], [181.3, dec]
    wcs.wcs.cd = 0.396 / 3600 * np.array([[parity * c, -parity * s], [s, c]])
    return wcs


def stack_of(flux: np.ndarray, covered: np.ndarray, bands: str) -> BandStack:
    """Bands on one grid, NaN where not covered."""
    return BandStack(
        field=FieldId(1, 2, 3),
        bands=bands,
        flux=np.where(covered, flux, np.nan).astype(np.float32),
        covered=covered,
        saturated=np.zeros_like(covered),
        wcs=plane(0.0, 1.0, 1),
        noise=np.ones(len(bands)),
        star_shift=np.full((len(bands), 2), np.nan),
        shift_removed=False,
    )


@pytest.fixture(scope="module")
def matched():
    return match(*sample(400))


@pytest.fixture(scope="module")
def metrics(matched):
    return measure(matched, resamples=20)


@pytest.fixture
def fluxes():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(11, 5, 50, 50)).astype(np.float32) * 0.03
    images[:, :, 24:26, 24:26] += 2.0
    images[3, :, :, :9] = np.nan
    return images


def test_confusion_matrix_shows_counts_shares_and_the_commonest_mistake():
    said = words(figures.confusion_matrix(PAPER))
    for text in ("1,117", "914", "905", "97.0 %", "91.0 %", "88.6 %", "1,152"):
        assert text in said
    assert "Commonest error: STAR classified as QSO (98)" in said


def test_confusion_matrix_of_a_faultless_network_and_of_an_absent_class():
    assert "All objects are classified correctly" in words(
        figures.confusion_matrix(np.diag([4, 0, 7]))
    )
    assert "none" in words(figures.confusion_matrix(np.diag([4, 0, 7])))


def test_histogram_and_split_show_the_papers_counts():
    counts = dict(zip(labels.CLASSES, (11512, 10038, 10206), strict=True))
    assert "31,756 objects" in words(figures.class_histogram(counts))
    test = dict(zip(labels.CLASSES, (1152, 1004, 1021), strict=True))
    train = dict(zip(labels.CLASSES, (9208, 8030, 8164), strict=True))
    said = words(figures.split_distribution({"train": train, "validation": test, "test": test}))
    assert "80 % train, 10 % validation, 10 % test" in said
    assert "25,402" in said


def test_roc_names_every_area(matched, metrics):
    said = words(figures.roc_curves(matched))
    for name in labels.CLASSES:
        assert f"{name}  {metrics.classes[name]['auc'].value:.4f}" in said
    assert f"Mean AUC {metrics.overall['auc'].value:.4f}" in said


def test_magnitudes_and_redshifts(metrics):
    said = words(figures.by_magnitude(metrics.by_r))
    assert "Accuracy by r magnitude" in said
    assert f"{metrics.by_r[3].count:,}" in said
    assert "Recall of QSO" in words(figures.by_magnitude(metrics.by_redshift, "redshift", "QSO"))


def test_no_bins_at_all():
    assert isinstance(figures.by_magnitude(()), Figure)
    rendered(figures.by_magnitude(()), "svg")


def test_reliability_says_the_error(matched, metrics):
    gap = 100 * metrics.overall["ece"].value
    assert f"Calibration error: {gap:.1f} points" in words(figures.reliability_diagram(matched))


def test_history_marks_the_best_epoch():
    history = {"epoch": [1, 2, 3], "train_loss": [1, 0.7, 0.4], "validation_loss": [1, 0.61, 0.9]}
    assert "Best validation loss 0.610, epoch 2" in words(figures.training_history(history))
    history["validation_loss"] = [np.nan] * 3
    rendered(figures.training_history(history), "svg")


def test_single_class_stops_no_figure():
    table = predictions(np.tile([0.8, 0.1, 0.1], (7, 1)))
    alone = match(table, truth_of(table, np.zeros(7, dtype=int)))
    for figure in (figures.roc_curves(alone), figures.reliability_diagram(alone)):
        rendered(figure, "svg")
    rendered(figures.by_magnitude(measure(alone, resamples=5).by_r), "svg")


def test_equal_figures_equal_bytes():
    first, second = (rendered(figures.confusion_matrix(PAPER), "svg") for _ in "ab")
    assert first == second


def test_alternative_texts_have_the_numbers():
    matched = match(*sample(300))
    metrics = measure(matched, resamples=5)
    shown = figures.result_figures(matched, metrics)
    assert len(shown) == 5
    assert f"{metrics.confusion[2][1]:,} as QSO" in shown[0].alt
    assert f"STAR {metrics.classes['STAR']['auc'].value:.4f}" in shown[1].alt
    part = metrics.by_r[2]
    assert f"{part.low:g} to {part.high:g} {100 * part.accuracy.value:.0f} %" in shown[2].alt
    assert all(figure.caption for figure in shown)


def test_no_magnitudes_no_such_figures():
    matched = match(*from_confusion(PAPER))
    shown = figures.result_figures(matched, measure(matched, resamples=5))
    assert len(shown) == 3
    assert "of 1,152 GALAXY 1,117 as GALAXY, 27 as QSO, 8 as STAR" in shown[0].alt


def test_alternative_texts_of_data_and_history():
    counts = dict(zip(labels.CLASSES, (1152, 1004, 1021), strict=True))
    first, second = figures.data_figures(counts, {"train": counts, "test": counts})
    assert "1,152 GALAXY, 1,004 QSO, 1,021 STAR" in first.alt
    assert "test: 1,152 GALAXY" in second.alt
    history = {"epoch": [1, 2], "train_loss": [1, 0.7], "validation_loss": [0.9, 0.61]}
    assert "0.610, epoch 2" in figures.history_figure(history).alt


class TestPictures:
    def test_red_sources_are_red_and_invalid_pixels_grey(self):
        flux = np.zeros((1, 3, 4, 6), dtype=np.float32)
        flux[0, 2, 1, 2] = 3.0  # i band
        flux[0, 0, 2, 3] = 3.0  # g band
        flux[0, 1, 3, 5] = np.nan
        (picture,) = pictures.colours(flux, "gri")
        assert picture.shape == (4, 6, 3)
        assert picture[1, 2, 0] > 200
        assert picture[1, 2, 2] == 0
        assert picture[2, 3, 2] > 200
        assert tuple(picture[3, 5]) == pictures.INVALID
        assert tuple(picture[0, 0]) == (0, 0, 0)

    def test_cutouts_look_like_the_field_picture(self):
        """The same pixels through `composite.colour_picture`'s library."""
        flux = np.random.default_rng(1).uniform(0.01, 2, (1, 3, 7, 9)).astype(np.float32)
        i, r, g = (flux[0, "gri".index(band)] * SCALES[band] for band in "irg")
        expected = make_lupton_rgb(i, r, g, minimum=0, stretch=STRETCH, Q=Q)
        (found,) = pictures.colours(flux, "gri")
        assert np.abs(found.astype(int) - expected).max() <= 1

    @pytest.mark.parametrize("bands", ["r", "gr", "ugriz", "uz"])
    def test_any_bands(self, bands):
        flux = np.ones((2, len(bands), 5, 8), dtype=np.float32)
        assert pictures.colours(flux, bands).shape == (2, 5, 8, 3)

    def test_paper_cutouts_pass_as_they_are(self):
        images = np.random.default_rng(0).integers(0, 255, (2, 3, 5, 8)).astype(np.uint8)
        np.testing.assert_array_equal(pictures.colours(images, "irg"), images.transpose(0, 2, 3, 1))

    def test_gallery_says_which_class_is_not_there(self, fluxes):
        said = words(pictures.cutouts_by_class(fluxes, "ugriz", ["STAR"] * 9 + ["QSO"] * 2))
        assert "none" in said
        assert '20" a side' in said

    def test_worst_mistakes_come_first(self, matched, fluxes):
        rows = pictures.worst_errors(matched, 11)
        assert not matched.correct[rows].any()
        given = matched.confidence[rows]
        assert (np.diff(given) <= 0).all()
        assert given[0] == matched.confidence[~matched.correct].max()
        said = words(pictures.errors_by_class(fluxes[: len(rows)], "ugriz", matched, rows))
        assert f"classified as {labels.CLASSES[matched.decided[rows[0]]]}" in said

    def test_no_mistakes(self, fluxes):
        table = predictions(np.tile([0.8, 0.1, 0.1], (7, 1)))
        alone = match(table, truth_of(table, np.zeros(7, dtype=int)))
        said = words(
            pictures.errors_by_class(fluxes[:0], "ugriz", alone, pictures.worst_errors(alone))
        )
        assert "All objects are classified correctly" in said

    def test_classified_field_counts_every_source(self):
        table, _ = sample(30)
        for column in labels.PROBABILITY_COLUMNS:
            table[column][:2] = np.nan
        table["class"][:2] = ""
        table["x"][5] = np.nan  # outside: no pixel
        picture = np.zeros((90, 140, 3), dtype=np.uint8)
        figure = pictures.classified_field(picture, table, "Field 3918-3-213 $x^")
        said = words(figure)
        assert "30 sources" in said
        counts = re.findall(r"(?:GALAXY|QSO|STAR|classified)  \d+", said)
        assert sum(int(count.split()[1]) for count in set(counts)) == 30
        assert rendered(figure, "jpg")[:3] == b"\xff\xd8\xff"

    def test_best_unflagged_candidates_are_zoomed_in_order(self):
        table, _ = sample(40)
        inside = np.flatnonzero(np.asarray(table["class"]) == "QSO")[:4]
        table["x"][:], table["y"][:] = 500.0, 20.0  # outside the picture
        table["x"][inside], table["y"][inside] = [30.0, 50.0, 70.0, 90.0], 33.0
        table["p_qso"][inside] = [0.7, 0.9, 0.99, 0.8]
        table["flags"][:] = 0
        table["flags"][inside[2]] = int(Flag.BLENDED)
        picture = np.zeros((90, 140, 3), dtype=np.uint8)
        picture[33, [30, 50, 90], 0] = [7, 9, 8]
        figure = pictures.classified_field(picture, table, confident=0.5)
        strip = figure.axes[1:]
        assert [ax.get_xlabel()[:9] for ax in strip] == ["1: 90.0 %", "2: 80.0 %", "3: 70.0 %"]
        middle = pictures.ZOOM
        shown = [ax.get_images()[0].get_array()[middle, middle, 0] for ax in strip]
        assert shown == [9, 8, 7]

    def test_crowded_field_has_a_panel_a_class_with_all_its_sources(self):
        table, _ = sample(4000)
        picture = np.zeros((90, 140, 3), dtype=np.uint8)
        figure = pictures.classified_field(picture, table)
        for ax, name in zip(figure.axes, labels.CLASSES, strict=False):
            count = int((np.asarray(table["class"]) == name).sum())
            assert ax.get_title("left") == f"{name}  {count:,}"
            assert sum(len(drawn.get_offsets()) for drawn in ax.collections) == count

    def test_deep_picture_does_not_depend_on_the_noise(self):
        rng = np.random.default_rng(5)
        flux = rng.normal(0, 1, (3, 40, 70)).astype(np.float32)
        flux[:, 20, 30] += 90
        covered = np.ones((3, 40, 70), dtype=bool)
        covered[1, :5] = False
        one, three = (
            pictures.deep_picture(stack_of(k * flux, covered, "gri")).astype(int) for k in (1, 3)
        )
        assert np.abs(one - three).max() <= 1
        assert (one[:5] == pictures.INVALID).all()
        assert one[20, 30].max() > 4 * np.median(one[5:])

    @pytest.mark.parametrize("turn", [0.0, 37.0, 250.0])
    @pytest.mark.parametrize("dec", [-1.2, 89.9995])
    @pytest.mark.parametrize("parity", [-1, 1])
    def test_compass_points_where_the_wcs_says(self, turn, dec, parity):
        """Analytic: on a tangent plane turned by an angle, next to a pole too."""
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        directions, scale = pictures.north_and_east(plane(turn, dec, parity), 69.5, 44.5)
        # CD = scale * rotation, its first column mirrored: pixel axes seen from the sky's.
        np.testing.assert_allclose(directions[0], [s, c], atol=1e-4)
        np.testing.assert_allclose(directions[1], [parity * c, -parity * s], atol=1e-4)
        assert scale == pytest.approx(0.396, rel=1e-5)

    def test_field_has_a_compass_and_the_longest_bar_that_fits(self):
        picture = np.zeros((90, 140, 3), dtype=np.uint8)
        ax = pictures.field_picture(picture, "A field", plane(37.0, -1.2, 1)).axes[0]
        assert {text.get_text() for text in ax.texts} == {"N", "E", "", '10"'}
        (bar,) = ax.get_lines()
        assert np.ptp(bar.get_xdata()) == pytest.approx(10 / 0.396, rel=1e-4)
        wide = pictures.field_picture(np.zeros((90, 900, 3), np.uint8), "Wide").axes[0]
        assert [text.get_text() for text in wide.texts] == ["1'"]  # no WCS, no compass

    def test_picture_is_drawn_with_its_first_row_below(self):
        picture = np.zeros((30, 70, 3), dtype=np.uint8)
        ax = pictures.field_picture(picture, "A field").axes[0]
        assert ax.get_ylim() == (-0.5, 29.5)
        assert ax.get_images()[0].origin == "lower"
