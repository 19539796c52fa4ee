"""Room and chains: what is told before the first snapshot, and what is refused where the settings say so."""

from datetime import datetime, timedelta, timezone
from typing import Dict, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.forecast import World, account
from tests.pool import GIB, TestPool
from tests.test_ways import alert, disks, run, set_for_the_pool
from vmss.core.chain import Chain, Image, chains, waiting, written
from vmss.core.plan import Need, Space
from vmss.core.room import (
    AFTER_EXPIRY,
    FITS,
    NOT,
    Demand,
    Note,
    Reserve,
    Room,
    amount,
    forecast,
    full_at,
    leaves_reserve,
    parse_reserve,
    rate,
)
from vmss.edges.room_notes import read_notes
from vmss.insight.outlook import read_outlook, warnings
from vmss.insight.reading import reading

MIB = 1 << 20
NOW = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)


def use(pool: TestPool, sr: str, used: int) -> None:
    """So much of an SR is in use, as xapi tells."""
    pool.simulator.db.set("SR", sr, "physical_utilisation", used)


# The guards


@pytest.mark.parametrize("kind, free, taken", [("nfs", 12, 3), ("lvm", 12, 2), ("lvm", 13, 3), ("nfs", 10, 0)])
def test_what_must_stay_free_stays_free(pool: TestPool, kind: str, free: int, taken: int) -> None:
    """On an SR that allocates whole volumes the snapshot of a disk of 1 GiB may need as much; on another a few MiB."""
    sr, other = pool.sr("tight", kind, 100 * GIB), pool.sr("roomy")
    vms = [pool.vm("vm %d" % number, [sr]) for number in range(3)] + [pool.vm("well", [other])]
    policy = pool.policy(vms)
    set_for_the_pool(pool, "room_reserve", "10%")
    use(pool, sr, (100 - free) * GIB - (30 * MIB if kind == "nfs" and free == 12 else 100 * MIB))
    if free == 10:
        use(pool, sr, 90 * GIB)
    failed = run(pool, policy)
    assert failed == {"vm %d" % number: "VMSS_NO_ROOM" for number in range(taken, 3)}
    assert [len(pool.snapshots(vm)) for vm in vms] == [1] * taken + [0] * (3 - taken) + [1]


def test_a_refused_vm_is_told_and_served_as_soon_as_there_is_room(pool: TestPool) -> None:
    sr = pool.sr("tight", size=100 * GIB)
    vm = pool.vm("vm", [sr])
    policy = pool.policy([vm])
    set_for_the_pool(pool, "room_reserve", "20G")
    use(pool, sr, 90 * GIB)
    pool.at(10, 15)
    assert pool.tick().status == 1
    body = alert(pool, policy)["body"]
    assert "Error:['VMSS_NO_ROOM', '%s', 'free: 10.0 GiB', 'needed: " % pool.uuid("SR", sr) in body
    assert "'to stay free: 20.0 GiB']" in body and "less room than the setting room_reserve wants" in body
    pool.at(10, 30)
    pool.tick()
    assert pool.snapshots(vm) == []
    use(pool, sr, 50 * GIB)
    pool.at(10, 45)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1 and pool.names()[-1] == "VMSS_SNAPSHOT_SUCCEEDED"


@pytest.mark.parametrize("used", [80, 91, 99])
def test_the_alert_of_a_run_says_where_room_is_short(pool: TestPool, used: int) -> None:
    sr, other = pool.sr("tight; 'lvm'", "lvm", 100 * GIB), pool.sr("roomy")
    tight = pool.policy([pool.vm("vm %d" % number, [sr]) for number in range(2)], "tight", retained_snapshots="1")
    elsewhere = pool.policy([pool.vm("elsewhere", [other])], "elsewhere", retained_snapshots="1")
    for policy in (tight, elsewhere, tight, elsewhere):
        use(pool, sr, (used if policy == tight else 10) * GIB)
        run(pool, policy)
    lines = [line for line in alert(pool, tight)["body"].split("\n") if line.startswith("Little room on ")]
    assert len(lines) == (used > 90)
    for line in lines:
        assert line == (
            "Little room on the storage repository 'tight; 'lvm'', before this run: %d.0 GiB of 100 GiB are free, "
            "the snapshots need up to 2.0 GiB, expiry gives back up to 2.0 GiB once it is coalesced."
        ) % (100 - used)
    assert "Little room" not in alert(pool, elsewhere)["body"]


def test_what_a_refused_vm_has_too_many_goes(pool: TestPool) -> None:
    sr = pool.sr("tight", size=100 * GIB)
    vm = pool.vm("vm", [sr])
    policy = pool.policy([vm], retained_snapshots="3")
    for _ in range(3):
        run(pool, policy)
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    set_for_the_pool(pool, "room_reserve", "99%")
    use(pool, sr, 50 * GIB)
    assert run(pool, policy) == {"vm": "VMSS_NO_ROOM"} and len(pool.snapshots(vm)) == 2


def test_without_the_settings_nothing_more_is_asked_and_nothing_refused(pool: TestPool) -> None:
    sr = pool.sr("tight", "nfs", 100 * GIB)
    policy = pool.policy([pool.vm("vm", [sr])])
    use(pool, sr, 100 * GIB - 20 * MIB)
    assert run(pool, policy) == {}


@pytest.mark.parametrize("limit, failed", [("0", {}), ("6", {}), ("5", {"long": "VMSS_CHAIN_TOO_LONG"})])
def test_a_disk_whose_chain_is_as_long_as_the_limit(pool: TestPool, limit: str, failed: Dict[str, str]) -> None:
    vms = [pool.vm(name, [pool.sr()] * 2) for name in ("long", "short")]
    disk = disks(pool, vms[0])[1]
    for _ in range(4):
        pool.call("simulator.write", disk, MIB)
        pool.call("VDI.snapshot", disk, {})
    set_for_the_pool(pool, "chain_limit", limit)
    policy = pool.policy(vms)
    assert run(pool, policy) == failed
    if failed:
        assert (
            "Error:['VMSS_CHAIN_TOO_LONG', '%s', 'images: 5', 'limit: 5']" % pool.uuid("VDI", disk)
            in (alert(pool, policy)["body"])
        )


@pytest.mark.parametrize("value", ["", "x", "-1", "100%", "5 G", "1.5G", "9" * 16])
def test_what_is_no_reserve(pool: TestPool, value: str) -> None:
    with pytest.raises(ValueError, match="is neither a number of bytes"):
        parse_reserve(value)


# What is told


def test_a_run_notes_what_is_in_use_twice_a_day(pool: TestPool) -> None:
    sr = pool.sr("sr")
    policy = pool.policy([pool.vm("vm", [sr])])
    seconds = []
    for hour in (10, 11, 21, 23):
        pool.at(hour, 15)
        use(pool, sr, hour * GIB)
        run(pool, policy)
        seconds.append(int(pool.simulator.now().timestamp()))
    notes = read_notes(pool.xapi, sr)
    assert [note.at - notes[0].at < 12 * 3600 for note in notes] == [True, False]
    assert [note.filling for note in notes] == [True, False]  # two are kept, and the third run deletes one
    pool.call("SR.remove_from_other_config", sr, "vmss:used")
    pool.call(
        "SR.add_to_other_config", sr, "vmss:used", "%d:5:filling %d:7 nonsense 6:x:filling" % (seconds[-1] + 9, 5)
    )
    assert read_notes(pool.xapi, sr) == [Note(5.0, 7), Note(float(seconds[-1] + 9), 5, True)]


FREE = " on sr: %s of 100 GiB are free, %s, expiry gives back up to 2."


@pytest.mark.parametrize(
    "kind, used, said",
    [
        ("nfs", 50, ""),
        ("lvm", 50, ""),
        (
            "nfs",
            98.5,
            "fit only after expiry" + FREE % ("1.5 GiB", "2.0 GiB more will be written if it goes on as it did"),
        ),
        ("lvm", 98.5, "fit only after expiry" + FREE % ("1.5 GiB", "the snapshots need up to 2.0 GiB")),
        # What one run needs is not given back in time.
        ("lvm", 99.5, "do not fit" + FREE % ("512 MiB", "the snapshots need up to 2.0 GiB")),
    ],
)
def test_next_tells_where_the_snapshots_to_come_do_not_fit(pool: TestPool, kind: str, used: float, said: str) -> None:
    sr = pool.sr("sr", kind, 100 * GIB)
    vms = [pool.vm(name, [sr], size=8 * GIB) for name in ("one", "two")]
    policy = pool.policy(vms[:1], frequency="daily", schedule={"hour": "12", "min": "0"})
    for _ in range(3):
        pool.call("simulator.write", disks(pool, vms[0])[0], GIB)
        run(pool, policy)
    use(pool, sr, int(used * GIB))
    with reading(pool.surroundings()) as session:
        outlook = read_outlook(session, 48)
        found = [line for line in warnings(session, outlook) if " fit " in line]
        assert set(outlook.coming.rooms) == {sr} and len(found) == bool(said)
        if said:
            assert said in found[0] and found[0].endswith(": xe vdi-list sr-uuid=" + pool.uuid("SR", sr))
        # Of a disk without a snapshot the first one may be all of it, and on thick storage has it at once.
        pool.call("VM.set_snapshot_schedule", vms[1], policy)
        more = read_outlook(session, 48).coming.rooms[sr].needed - outlook.coming.rooms[sr].needed
        assert 8 * GIB < more < 8.1 * GIB if kind == "lvm" else more < GIB // 20


def test_next_tells_whose_chain_will_be_too_long(pool: TestPool) -> None:
    sr = pool.sr("sr")
    vm = pool.vm("vm", [sr])
    (disk,) = disks(pool, vm)
    policy = pool.policy([vm], retained_snapshots="4")
    pool.call("SR.add_to_other_config", sr, "coalesce", "false")
    for number in range(8):
        pool.call("simulator.write", disk, MIB)
        run(pool, policy)
        pool.at(11 + number, 0)
        with reading(pool.surroundings()) as session:
            outlook = read_outlook(session, 24)
            (one,) = outlook.coming.chains
            said = [line for line in warnings(session, outlook) if "chains" in line]
        waiting = max(0, number - 3)
        # As long as the storage keeps up, as many go as come.
        assert (one.chain.length, one.chain.waiting) == (number + 2, waiting)
        assert one.expected == (number + 2 + 24 if waiting > 2 else 5)
        assert len(said) == (waiting > 2)
    assert said == [
        "The chains of 1 disk may have 30 images by then, at which no snapshot can be taken: that of %s has 9. "
        "See what keeps them from being coalesced: vmss doctor" % pool.uuid("VDI", disk)
    ]


@pytest.mark.parametrize("kind, habit", [("lvm", "rewritten"), ("nfs", "growing")])
def test_the_forecast_is_what_comes(kind: str, habit: str) -> None:
    """In a world of eleven days, from the third on: before, the snapshots have not told what they come to. The whole
    comparison is `python -m benchmarks --only forecast`."""
    days = account(World(kind, habit, "daily", 3.0), days=11).days[1:]
    assert len(days) >= 8
    assert max(day.error for day in days) < 0.05
    assert max(day.error_of_need for day in days) < 0.4
    assert [day.room.verdict for day in days] == [day.verdict for day in days] == [FITS] * len(days)
    assert {told - true for day in days for told, true in day.lengths} == {0}


# The decisions

spaces = st.builds(Space, st.integers(1, 1 << 50), st.integers(0, 1 << 50), st.booleans())
amounts = st.integers(0, 1 << 50)


@given(spaces, amounts, amounts, amounts, amounts, st.integers(0, 100))
def test_the_verdict_is_what_the_numbers_say(
    space: Space, needed: int, growth: int, freed: int, reserve: int, part: int
) -> None:
    room = Room(space, needed, growth, freed, reserve, needed * part // 100)
    free = max(0, space.size - space.used)
    without = free - needed - growth >= reserve
    assert (room.verdict == FITS) == without
    # What the first run needs, and what must stay free then, is not given back before it.
    assert (room.verdict == NOT) == (free + freed - needed - growth < reserve or free - room.at_once < reserve)
    assert room.verdict in (FITS, AFTER_EXPIRY, NOT)
    assert room._replace(freed=freed + 1).verdict == room.verdict or room.verdict == NOT


@given(spaces, st.integers(0, 99), amounts)
def test_a_reserve_in_per_cent_is_of_the_size(space: Space, per_cent: int, needed: int) -> None:
    reserve = parse_reserve("%d%%" % per_cent)
    assert reserve == Reserve(0, per_cent) and 0 <= reserve.of(space.size) <= space.size
    assert leaves_reserve(space, needed, reserve) == (space.size - space.used - needed >= space.size * per_cent // 100)
    assert amount(Need(1, 2), space) == (2 if space.thick else 1)


@pytest.mark.parametrize("text, count", [("0", 0), ("7", 7), ("3K", 3072), ("2m", 2 * MIB), ("1T", 1 << 40)])
def test_bytes_have_units(text: str, count: int) -> None:
    assert parse_reserve(text) == Reserve(count)


@given(st.integers(1, 30), st.integers(-(10**9), 10**9))
def test_steady_growth_is_found_whatever_one_outlier_says(days: int, per_day: int) -> None:
    notes = [Note(day * 86400.0, 10**15 + day * per_day) for day in range(days + 4)]
    found = rate(notes)
    assert found is not None and found == pytest.approx(per_day / 86400)
    notes[len(notes) // 2] = Note(notes[len(notes) // 2].at, 0)
    if len(notes) > 6:
        assert rate(notes) == pytest.approx(per_day / 86400)
    assert rate(notes[:1]) is None and rate([]) is None and rate([Note(0.0, 1), Note(3600.0, 2)]) is None


def test_what_the_first_snapshots_took_does_not_count_once_they_are_there() -> None:
    filling = [Note(day * 86400.0, day * 10**9, True) for day in range(8)]
    settled = [Note(day * 86400.0, 8 * 10**9) for day in (8, 9)]
    assert rate(filling) == rate(filling + settled[:1]) == pytest.approx(10**9 / 86400)
    assert rate(filling + settled) == 0


SIZES = st.integers(0, 1 << 40)
DEMANDS = st.builds(
    Demand,
    st.integers(1, 30),
    st.integers(0, 30),
    st.builds(Need, SIZES, SIZES),
    st.one_of(st.none(), SIZES),
    st.booleans(),
)


@given(spaces, st.lists(st.lists(DEMANDS, max_size=3), max_size=3), st.one_of(st.none(), st.floats(-1e6, 1e6)))
def test_a_forecast_counts_nothing_twice(space: Space, runs: List[List[Demand]], grows: Optional[float]) -> None:
    room, without = forecast(space, runs, grows, 24, 0), forecast(space, runs, None, 24, 0)
    assert min(room.needed, room.growth, room.freed, room.at_once) >= 0 and room.at_once <= room.needed
    assert (room.needed, room.at_once) == (without.needed, without.at_once) and room.freed <= without.freed
    # What grows as it did is the least, and the snapshots are part of it.
    grown = max(0, round((grows or 0.0) * 86400))
    assert room.needed + room.growth == max(grown, without.needed + without.growth)
    assert room.needed + room.growth - room.freed >= grown or grows is None


@pytest.mark.parametrize(
    "thick, demand, needed, growth, freed",
    [
        (True, Demand(24, 24, Need(0, 100 * GIB)), 100 * GIB + 23 * 16 * MIB, 0, 24 * 16 * MIB),  # nothing is known
        (True, Demand(24, 20, Need(0, 100 * GIB), GIB), 24 * (GIB + 8 * MIB), 0, 20 * (GIB + 8 * MIB)),
        (True, Demand(2, 1, Need(0, GIB), 2 * GIB), 2 * GIB, 0, GIB),  # never more than the disk
        (False, Demand(24, 20, Need(GIB, 0)), GIB, 0, 0),
        (False, Demand(24, 20, Need(GIB, 0), GIB), 0, 24 * GIB, 20 * GIB),
        (False, Demand(3, 2, Need(GIB, GIB), whole=True), 3 * GIB, 0, 2 * GIB),  # memory
    ],
)
def test_what_snapshots_come_to(thick: bool, demand: Demand, needed: int, growth: int, freed: int) -> None:
    room = forecast(Space(10**15, 0, thick), [[demand]], None, 24, 0)
    assert (room.needed, room.growth, room.freed) == (needed, growth, freed)


def test_when_it_is_full() -> None:
    space = Space(100, 40, False)
    assert full_at(space, 1.0, NOW) == NOW + timedelta(seconds=60)
    assert full_at(space, 0.0, NOW) is full_at(space, None, NOW) is full_at(space, 1e-9, NOW) is None
    assert full_at(Space(100, 140, False), 1.0, NOW) == NOW


def tree(*pairs: str) -> Dict[str, Image]:
    """Images, each with the one that it builds on: `b<a`; base copies have upper-case names."""
    found = [pair.partition("<") for pair in pairs]
    return {name: Image(name, parent, name.isupper(), 10) for name, _, parent in found}


@pytest.mark.parametrize(
    "images, chain",
    [
        (["a"], Chain(1)),
        (["a<B", "B"], Chain(2)),
        (["a<B", "B", "snapshot<B"], Chain(2)),
        (["a<C", "C<B", "B"], Chain(3, 1, 10)),  # the snapshot on B was deleted: C is to be merged into it
        (["a<C", "C<B", "B", "snapshot<B"], Chain(3)),
        (["a<D", "D<C", "C<B", "B", "snapshot<D"], Chain(4, 2, 20)),
        (["a<B", "B<C", "C<B"], Chain(3)),  # a circle
        (["a<elsewhere"], Chain(1)),
    ],
)
def test_a_chain(images: List[str], chain: Chain) -> None:
    found = chains(["a"], tree(*images))["a"]
    assert len(waiting(["a"], tree(*images))) == found.waiting
    assert found == chain or (images[-1] == "C<B" and found.length == chain.length)


def test_what_was_written_between_snapshots() -> None:
    images = tree("a<D", "D<C", "C<B", "B", "one<B", "two<C", "three<D")
    assert written("a", images, 3) == 10 and written("a", images, 5) == 5  # between two of them nothing was
    assert written("a", images, 1) is written("a", tree("a<B", "B", "one<B"), 2) is written("b", images, 3) is None
    assert waiting(["a", "a"], tree("a<D", "D<C", "C<B", "B", "three<D")) == ["C", "D"]
