"""The evaluation report: a self-contained page with the measured numbers, and no script."""

import json
import re
import resource
from html.parser import HTMLParser

import numpy as np
import pytest

from drawn import predictions, sample, truth_of
from gqs import labels
from gqs.errors import ResourceError
from gqs.evaluation.comparison import compare
from gqs.evaluation.matched import match
from gqs.evaluation.metrics import measure
from gqs.recipes import published
from gqs.report import figures
from gqs.report.blocks import BulletList, CaptionedFigure, Grid, Paragraph, Section
from gqs.report.evaluation_report import EvaluationReport, headline

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>&'


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag  # well formed

    def handle_data(self, data):
        self.text += data

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def found():
    table, truth = sample(300)
    for column in labels.PROBABILITY_COLUMNS:
        table[column][:3] = np.nan
    table["class"][:3] = ""
    other, _ = sample(300, skill=0.7)
    first, second = match(table, truth), match(other, truth)
    return (
        first,
        measure(first, resamples=50),
        measure(second, resamples=50),
        compare(first, second, resamples=50),
    )


def write(out, found, **more):
    _, metrics, trees, gain = found
    figure = CaptionedFigure(
        figures.confusion_matrix(metrics.confusion), "A figure.", "What it shows."
    )
    EvaluationReport(
        title="A report",
        metrics=metrics,
        figures=[figure],
        baseline=trees,
        comparison=gain,
        **more,
    ).write(out)
    return Page((out / "report.html").read_text("utf-8"))


def test_numbers_on_the_page_are_the_measured_ones(tmp_path, found):
    page = write(tmp_path, found)
    _, metrics, trees, gain = found
    for value in (metrics.accuracy.value, trees.accuracy.value):
        assert f"{100 * value:.2f} %" in page.text
    assert f"{metrics.overall['auc'].value:.4f}" in page.text
    assert "3 more could not be classified" in page.text
    assert f"{gain.first_right:,} are correct only with the network" in page.text
    assert headline(metrics) in page.text


def test_json_beside_the_page(tmp_path, found):
    write(tmp_path, found, reproduce={"seed": 4})
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["metrics"] == json.loads(json.dumps(found[1].to_json()))
    assert numbers["comparison"]["p_value"] == found[3].p_value
    assert numbers["reproduce"] == {"seed": "4"}


def test_page_is_self_contained(tmp_path, found):
    page = write(tmp_path, found)
    assert all(image["src"].startswith("data:image/") for image in page.of("img"))
    assert not page.of("link")
    assert not page.of("script")
    assert all(link["href"].startswith("#") for link in page.of("a"))
    policy = next(meta for meta in page.of("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy["content"]
    html = (tmp_path / "report.html").read_text()
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "@import" not in html


def test_text_from_data_is_escaped(tmp_path, found):
    section = Section(EVIL, [Paragraph(EVIL), Grid(EVIL, [EVIL, "n"], [[EVIL, EVIL]])])
    page = write(
        tmp_path,
        found,
        notes=[EVIL],
        set_aside=[EVIL],
        reproduce={EVIL: EVIL},
        sections=[section, Section("More", [BulletList([EVIL])])],
    )
    assert not page.of("script")
    assert not [a for tag, a in page.tags if any(key.startswith("on") for key in a)]
    assert len(page.of("img")) == 1
    assert page.text.count("<script>") >= 8  # shown as it is


def test_accessible(tmp_path, found):
    page = write(tmp_path, found, published=published.RESNET50_GQS._asdict())
    assert page.of("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.of("img"))
    assert len(page.of("table")) >= 5
    assert all(table.get("aria-label") for table in page.of("table"))
    assert all(head["scope"] in ("row", "col") for head in page.of("th"))
    assert len(page.of("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert max(np.diff(levels)) <= 1
    targets = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for a in page.of("a")} <= targets


def test_published_values_are_compared(tmp_path, found):
    page = write(
        tmp_path, found, published=published.RESNET50_GQS._asdict() | {"recall/QSO": 0.9104}
    )
    for text in ("92.41 %", "0.9704", "91.04 %", "Ours minus published"):
        assert text in page.text


def test_without_published_values_no_section(tmp_path, found):
    assert "published values" not in write(tmp_path, found).text


def test_long_lists_are_cut_on_the_page_and_whole_in_the_json(tmp_path, found):
    page = write(tmp_path, found, set_aside=[f"frame {i}: cut" for i in range(130)])
    assert "And 80 more" in page.text
    assert len(json.loads((tmp_path / "metrics.json").read_text())["set_aside"]) == 130


def test_single_class_and_no_baseline(tmp_path):
    table = predictions(np.tile([0.8, 0.1, 0.1], (7, 1)))
    alone = measure(match(table, truth_of(table, np.zeros(7, dtype=int))), resamples=5)
    EvaluationReport(title="One class", metrics=alone).write(tmp_path)
    text = Page((tmp_path / "report.html").read_text()).text
    assert not re.search(r"\bnan", text)
    assert "lowest recall" not in text


def test_one_field_has_no_interval_and_says_so(tmp_path):
    table, truth = sample(60)
    table["field"] = 5
    metrics = measure(match(table, truth), group="field", resamples=5)
    EvaluationReport(title="One field", metrics=metrics).write(tmp_path)
    text = Page((tmp_path / "report.html").read_text()).text
    assert not re.search(r"\bnan", text)
    assert "No intervals: all objects are of one field" in text


def test_same_run_same_page(tmp_path, found):
    write(tmp_path / "a", found)
    write(tmp_path / "b", found)
    for name in ("report.html", "metrics.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_full_disk_is_one_sentence_and_leaves_the_last_report(tmp_path, found):
    before = write(tmp_path, found).text
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as on a full disk
    try:
        with pytest.raises(ResourceError, match="Make room"):
            write(tmp_path, found, notes=["a second time"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Page((tmp_path / "report.html").read_text("utf-8")).text == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "report.html"]
