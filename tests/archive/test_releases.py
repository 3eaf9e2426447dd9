"""Releases against addresses that public documents print."""

from __future__ import annotations

import pytest

from gqs.archive import releases
from gqs.errors import UsageError
from gqs.surveys.sdss import FieldId, FrameName

# From www.sdss3.org/dr9/data_access/bulk.php, the same page of DR10, GNU Astronomy Utilities'
# manual (2.2.1), sdss4.org/dr17/tutorials/get_stripe82_images and, for DR18, public programs.
PRINTED = [
    (9, "dr9/boss", "r", (2505, 3, 38), "2505/3/frame-r-002505-3-0038"),
    (10, "dr10/boss", "r", (2505, 3, 38), "2505/3/frame-r-002505-3-0038"),
    (12, "dr12/boss", "r", (3716, 6, 117), "3716/6/frame-r-003716-6-0117"),
    (16, "dr16/eboss", "r", (1000, 6, 28), "1000/6/frame-r-001000-6-0028"),
    (17, "dr17/eboss", "g", (4797, 1, 90), "4797/1/frame-g-004797-1-0090"),
    (18, "dr18/prior-surveys/sdss4-dr17-eboss", "u", (94, 1, 15), "94/1/frame-u-000094-1-0015"),
]


@pytest.mark.parametrize(("number", "part", "band", "field", "file"), PRINTED)
def test_frame_addresses_are_those_in_print(
    number: int, part: str, band: str, field: tuple[int, int, int], file: str
) -> None:
    name = FrameName(band, FieldId(*field))
    path = f"/sas/{part}/photoObj/frames/301/{file}.fits.bz2"
    release = releases.find(number)
    assert release.frame_url(name) == "https://data.sdss.org" + path
    assert release.frame_url(name, "http://127.0.0.1:99/") == "http://127.0.0.1:99" + path


def test_paths_follow_the_rule_of_astroquery() -> None:
    """As get_images_async of astroquery.sdss builds them."""
    from astroquery.sdss import SDSS, conf

    for number, release in releases.all_releases().items():
        part = "boss" if number <= 12 else "eboss"
        part = "prior-surveys/sdss4-dr17-eboss" if number > 17 else part
        theirs = SDSS.IMAGING_URL_SUFFIX.format(
            base=conf.sas_baseurl, dr=number, instrument=part, rerun=301, run=94, camcol=1,
            band="z", field=7,
        )  # fmt: skip
        assert release.frame_url(FrameName("z", FieldId(94, 1, 7))) == theirs
        assert release.sky_server == conf.skyserver_baseurl
        assert release.checked


@pytest.mark.parametrize("text", [16, "16", "dr16", "DR16", " 16 "])
def test_a_release_is_named_as_people_name_it(text: int | str) -> None:
    found = releases.find(text)
    assert (found.number, str(found), found.hosts[0]) == (16, "DR16", "data.sdss.org")
    assert releases.find(found) is found
    assert releases.DEFAULT == 16


@pytest.mark.parametrize("text", [7, 99, "sixteen", "", "-16", "16; DROP TABLE", "²"])
def test_other_releases_are_refused(text: int | str) -> None:
    with pytest.raises(UsageError, match="DR8 to DR"):
        releases.find(text)


@pytest.mark.parametrize(
    "mirror", ["file:///etc", "127.0.0.1:80", "http://", "ftp://a", "http://a:port", "http://a?q=1"]
)
def test_a_mirror_is_a_server(mirror: str) -> None:
    with pytest.raises(UsageError, match="no server's address"):
        releases.find(16).frame_url(FrameName("r", FieldId(94, 1, 7)), mirror)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="localhost holds a name or a password") as raised:
        releases.checked_address("https://somebody:secret@localhost:8000/sas")
    assert "secret" not in str(raised.value)
