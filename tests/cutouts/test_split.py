"""Nothing leaks from one side to another, whatever the sky; Table 3 of the paper to the object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from gqs import tables
from gqs.cutouts.shards import write_shard
from gqs.cutouts.sky_groups import sky_groups
from gqs.cutouts.split import SIDES, check_split, load, make_split, save, split_hash, split_store
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.errors import GqsError, IntegrityError, UsageError
from gqs.labels import CLASSES

TABLE_3 = {
    "train": {"GALAXY": 9208, "QSO": 8030, "STAR": 8164},
    "validation": {"GALAXY": 1152, "QSO": 1004, "STAR": 1021},
    "test": {"GALAXY": 1152, "QSO": 1004, "STAR": 1021},
}
ARCSEC = 1 / 3600


def sky(classes: np.ndarray, fields: int, seed: int = 0, runs: int = 4) -> Table:
    """Objects far apart, in fields that belong to runs."""
    rng = np.random.default_rng(seed)
    n = len(classes)
    number = rng.integers(0, fields, n)
    table = Table({"objid": rng.permutation(n).astype(np.uint64) + np.uint64(2**60)})
    table["ra"], table["dec"] = np.arange(n) * 0.01 % 360, number * 0.5 - 20
    table["run"], table["camcol"], table["field"] = number % runs + 94, number % 6 + 1, number
    table["class"] = rng.permutation(classes)
    return table


def many(n: int, fields: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    return sky(rng.choice(CLASSES, n, p=[0.5, 0.1, 0.4]), fields, seed)


def sides(split: Table, index: Table) -> np.ndarray:
    """Side of every index row; blank where the split has none."""
    side = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    return np.array([side.get(objid, "") for objid in index["objid"].tolist()])


def test_table_3_to_the_object() -> None:
    counts = [11512, 10038, 10206]
    index = sky(np.repeat(CLASSES, counts), 300)
    split = make_split(index, scheme="paper", seed=5)
    assert split.meta["counts"] == TABLE_3
    assert len(split) == 31756
    assert split["objid"].tolist() == index["objid"].tolist()
    check_split(split, index)
    for side in SIDES:  # recounted from the table itself
        members = index["class"][sides(split, index) == side]
        assert {name: int((members == name).sum()) for name in CLASSES} == TABLE_3[side]


def test_table_3_holds_with_some_objects_seen_twice() -> None:
    index = sky(np.repeat(CLASSES, [11512, 10038, 10206]), 300)
    index["ra"][1:200:2] = index["ra"][0:199:2] + 0.3 * ARCSEC
    index["dec"][1:200:2] = index["dec"][0:199:2]
    split = make_split(index, scheme="paper", seed=5)
    assert split.meta["counts"] == TABLE_3
    check_split(split, index)


@pytest.mark.parametrize("by", ["field", "run"])
def test_grouped_is_near_its_shares(by: str) -> None:
    index = sky(np.repeat(CLASSES, [3000, 900, 2100]), 240, runs=60)
    split = make_split(index, by=by, seed=2)
    check_split(split, index)
    total = {"GALAXY": 3000, "QSO": 900, "STAR": 2100}
    for side, share in zip(SIDES, (0.8, 0.1, 0.1), strict=True):
        for name in CLASSES:
            found = split.meta["counts"][side][name] / total[name]
            assert found == pytest.approx(share, abs=0.012)
    side = sides(split, index)
    for group in set(index[by].tolist()):
        assert len(set(side[index[by] == group])) == 1


def test_a_chain_holds_though_balancing_drops_its_middle() -> None:
    """Three sightings 0.6 arcsec apart; whichever balancing keeps lie on one side."""
    index = sky(np.repeat(CLASSES, [20, 60, 20]), 12, runs=9)
    quasars = np.flatnonzero(index["class"] == "QSO")
    for middle in quasars[1:-1:3]:
        for other, step in ((middle - 1, -0.6), (middle + 1, 0.6)):
            index["ra"][other] = index["ra"][middle] + step * ARCSEC
            index["dec"][other] = index["dec"][middle]
    group = sky_groups(np.asarray(index["ra"]), np.asarray(index["dec"]))
    for seed in range(20):
        side = sides(make_split(index, "paper", "field", seed, balance=True), index)
        for name in np.unique(group):
            assert len(set(side[(group == name) & (side != "")])) <= 1


def test_a_seed_gives_the_same_split_and_another_another() -> None:
    index = many(600, 40)
    for scheme in ("paper", "grouped"):
        a, b, c = (make_split(index, scheme, seed=seed) for seed in (1, 1, 2))
        assert a["split"].tolist() == b["split"].tolist()
        assert split_hash(a) == split_hash(b)
        assert split_hash(a) != split_hash(c)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(60, 250),
    fields=st.integers(9, 40),
    seed=st.integers(0, 2**31),
    pairs=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=20),
    scheme=st.sampled_from(["paper", "grouped"]),
    by=st.sampled_from(["field", "run"]),
    balance=st.booleans(),
)
def test_nothing_leaks(
    n: int,
    fields: int,
    seed: int,
    pairs: list[tuple[int, int]],
    scheme: str,
    by: str,
    balance: bool,
) -> None:
    index = sky(np.resize(CLASSES, n), fields, seed, runs=9)
    for a, b in pairs:  # sightings of one object, in chains, across fields and classes
        index["ra"][a], index["dec"][a] = index["ra"][b] + 0.6 * ARCSEC, index["dec"][b]
    try:
        split = make_split(index, scheme, by, seed, balance)
    except UsageError as error:
        assert "side would hold no" in str(error)
        return
    check_split(split, index)
    assert set(split["objid"].tolist()) <= set(index["objid"].tolist())
    side = sides(split, index)
    group = sky_groups(np.asarray(index["ra"]), np.asarray(index["dec"]))
    for name in np.unique(group):
        assert len(set(side[(group == name) & (side != "")])) <= 1
    if scheme == "grouped":
        for name in set(index[by].tolist()):
            assert len(set(side[(index[by] == name) & (side != "")])) <= 1
    for name in SIDES:
        assert set(index["class"][side == name]) == set(CLASSES)
    dropped = split.meta["dropped"]
    assert len(index) - len(split) == sum(dropped.values())
    assert dropped["balance"] == (0 if not balance else n - 3 * min(np.bincount(np.arange(n) % 3)))
    counts = [sum(split.meta["counts"][s][name] for s in SIDES) for name in CLASSES]
    if balance and not dropped["same object on another side"]:
        assert len(set(counts)) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(12, 300), min_size=3, max_size=3), st.integers(0, 2**31))
def test_paper_shares_are_exact(counts: list[int], seed: int) -> None:
    split = make_split(sky(np.repeat(CLASSES, counts), 7), "paper", seed=seed)
    for name, n in zip(CLASSES, counts, strict=True):
        tenth = -(-n // 10)
        assert [split.meta["counts"][side][name] for side in SIDES] == [n - 2 * tenth, tenth, tenth]


def test_few_fields_are_tried_in_every_way() -> None:
    """Three fields can be divided only so that each side has one."""
    index = sky(np.resize(CLASSES, 90), 3)
    split = make_split(index)
    pairs = set(zip(split["split"].tolist(), split["group"].tolist(), strict=True))
    assert len(pairs) == 3
    assert len(set(split["group"])) == 3
    assert set(split["split"]) == set(SIDES)


def test_the_one_field_with_quasars_cannot_be_divided() -> None:
    index = sky(np.resize(["GALAXY", "STAR"], 200), 20)
    index["class"][index["field"] == 7] = "QSO"
    with pytest.raises(UsageError, match=r"would hold no QSO.*Add fields") as caught:
        make_split(index)
    assert caught.value.exit_code == 2
    make_split(index, scheme="paper")


def test_too_few_objects() -> None:
    with pytest.raises(UsageError, match="Add objects"):
        make_split(sky(np.resize(CLASSES, 6), 2), scheme="paper")
    with pytest.raises(UsageError, match="Fill the store"):
        make_split(sky(np.array([], dtype="U6"), 2))


def test_unknown_options() -> None:
    index = many(90, 9)
    for scheme, by in (("random", "field"), ("grouped", "camcol")):
        with pytest.raises(UsageError, match="Schemes are grouped and paper"):
            make_split(index, scheme, by)


def test_sky_groups_know_poles_and_seams() -> None:
    step = 0.7 * ARCSEC
    ra = np.array([0.0, 360 - step, 10, 10, 10, 0, 120, 240, 50, 50])
    dec = np.array([5.0, 5, 0, step, 2 * step, 90 - step / 3, 90 - step / 3, 90, 0, 1.01 * ARCSEC])
    assert sky_groups(ra, dec).tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 4]
    assert sky_groups(np.zeros(0), np.zeros(0)).tolist() == []


def test_sky_groups_against_every_pair() -> None:
    rng = np.random.default_rng(8)
    ra, dec = 180 + rng.uniform(0, 8, 90) * ARCSEC, 60 + rng.uniform(0, 8, 90) * ARCSEC
    a, d = np.radians(ra), np.radians(dec)
    haversine = (
        np.sin((d[:, None] - d) / 2) ** 2
        + np.cos(d)[:, None] * np.cos(d) * np.sin((a[:, None] - a) / 2) ** 2
    )
    reach = np.degrees(2 * np.arcsin(np.sqrt(haversine))) <= ARCSEC
    for _ in range(7):
        reach = reach @ reach
    expected = {frozenset(np.flatnonzero(row).tolist()) for row in reach}
    group = sky_groups(ra, dec)
    assert {frozenset(np.flatnonzero(group == g).tolist()) for g in np.unique(group)} == expected


def _moved(split: Table, row: int, side: str) -> Table:
    changed = split.copy()
    changed["split"] = changed["split"].astype("U12")
    changed["split"][row] = side
    return changed


def test_check_finds_every_leak() -> None:
    index = many(300, 30)
    index["ra"][1], index["dec"][1] = index["ra"][0], index["dec"][0] + 0.9 * ARCSEC
    index["field"][1] = index["field"][0]
    index["run"][1] = index["run"][0]
    index["camcol"][1] = index["camcol"][0]
    grouped, paper = make_split(index), make_split(index, scheme="paper")
    for split in (grouped, paper):
        check_split(split, index)
        check_split(split[::-1], index)
    other = {"train": "test", "validation": "train", "test": "validation"}
    with pytest.raises(IntegrityError, match="objects of the sky are on two sides"):
        check_split(_moved(paper, 0, other[paper["split"][0]]), index)
    with pytest.raises(IntegrityError, match="fields are on two sides"):
        check_split(_moved(grouped, 50, other[grouped["split"][50]]), index)
    twice = grouped[[*range(len(grouped)), 5]]
    with pytest.raises(IntegrityError, match="objid"):
        check_split(twice, index)
    stranger = grouped.copy()
    stranger["objid"][3] = 77
    with pytest.raises(IntegrityError, match="not in the store, 77 among them") as caught:
        check_split(stranger, index)
    assert caught.value.exit_code == 7
    with pytest.raises(IntegrityError, match="not in the store"):
        check_split(grouped, index[:100])


def test_runs_may_not_be_torn() -> None:
    index = sky(np.resize(CLASSES, 900), 90, runs=12)
    split = make_split(index, by="run")
    check_split(split, index)
    by_field = make_split(index, by="field")
    by_field.meta["by"] = "run"
    with pytest.raises(IntegrityError, match="runs are on two sides"):
        check_split(by_field, index)


def _store(path: Path, index: Table) -> CutoutStore:
    """A store with this index, and black images."""
    rows = index.copy()
    rows["x"], rows["y"], rows["flags"] = 0.0, 0.0, 0
    with StoreWriter(path, "r", "flux", "pad", {"from": "a test"}) as writer:
        write_shard(path, "a", np.zeros((len(rows), 1, 50, 50), np.float32), rows, "src")
        return writer.finish(["a"])


def test_a_split_is_made_once(tmp_path: Path) -> None:
    index = many(300, 30)
    path = tmp_path / "split.parquet"
    store, other = _store(tmp_path / "a", index), _store(tmp_path / "b", many(300, 30, seed=1))
    first = split_store(store, path, seed=3)
    saved = path.read_bytes()
    again = split_store(store, path, seed=3)
    assert path.read_bytes() == saved
    assert again["split"].tolist() == first["split"].tolist()
    assert again.meta == first.meta
    assert load(path).meta["seed"] == 3
    assert load(path).meta["counts"] == first.meta["counts"]
    for request in (
        {"seed": 4},
        {"seed": 3, "scheme": "paper"},
        {"seed": 3, "by": "run"},
        {"seed": 3, "balance": True},
    ):
        with pytest.raises(UsageError, match="Name another file") as caught:
            split_store(store, path, **request)  # type: ignore[arg-type]
        assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="another store"):
        split_store(other, path, seed=3)
    assert path.read_bytes() == saved


def test_a_saved_split_that_was_tampered_with(tmp_path: Path) -> None:
    index = many(300, 30)
    path = tmp_path / "split.parquet"
    store = _store(tmp_path / "a", index)
    split = split_store(store, path)
    side = "test" if split["split"][9] != "test" else "train"
    save(_moved(split, 9, side), path)
    with pytest.raises(IntegrityError, match="on two sides"):
        split_store(store, path)
    save(_moved(split, 9, "Test"), path)
    with pytest.raises(IntegrityError, match="'Test'"):
        load(path)
    tables.write(index, path)
    with pytest.raises(GqsError, match="split"):
        load(path)
    with pytest.raises(UsageError, match=r"\.parquet"):
        save(split, tmp_path / "split.csv")


def test_many_groups_are_quick() -> None:
    import time

    index = many(60_000, 9000)
    begin = time.monotonic()
    split = make_split(index)
    assert time.monotonic() - begin < 20
    shares = [len(split[split["split"] == side]) / len(index) for side in SIDES]
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.005)
