"""Where SkyServer shows an object: a link for readers, which nothing here opens."""

from __future__ import annotations

from typing import Final

from gqs.survey.releases import find

# As https://skyserver.sdss.org/dr16/en/help/docs/api.aspx lists its tools: Explore, by position.
_PATH: Final = "{server}/dr{release}/en/tools/explore/summary.aspx?ra={ra:.6f}&dec={dec:.6f}"


def explore_url(ra: float, dec: float, release: int | str = 16) -> str:
    """Return the address of SkyServer's page on what lies at a position.

    Parameters
    ----------
    ra, dec : float
        Degrees.
    release : int or str
        Data release.

    Returns
    -------
    str
        An address that starts with https.
    """
    chosen = find(release)
    return _PATH.format(server=chosen.sky_server, release=chosen.number, ra=ra, dec=dec)
