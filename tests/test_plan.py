"""`vmss plan`: what becomes of each snapshot and why, which is what then happens; and pins."""

import argparse
import io
import json
from datetime import datetime, timedelta
from typing import Any, Dict, List, Optional

import pytest

from tests.pool import UTC, TestPool
from tests.test_commands import vmss
from vmss.cli.commands import plan
from vmss.core.datetimes import parse_datetime
from vmss.core.problem import BadInput
from vmss.core.records import NULL
from vmss.insight.reading import reading
from vmss.passes.pinning import pin


def planned(pool: TestPool, schedule: Optional[str] = None) -> List[Dict[str, Any]]:
    """The rows of the plan, as programs get them."""
    out = io.StringIO()
    with reading(pool.surroundings()) as session:
        plan.show(session, argparse.Namespace(policy=schedule, form="json", color="never"), out)
    rows: List[Dict[str, Any]] = json.loads(out.getvalue())
    return rows


def whys(rows: List[Dict[str, Any]], vm: str) -> List[str]:
    return ["%s: %s" % (row["fate"], row["why"]) for row in rows if row["vm"] == vm]


def test_what_is_foretold_is_what_the_coming_runs_do(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm(name, [sr]) for name in ("plain", "spread")]
    policy = pool.policy(vms, retained_snapshots="4")
    pool.call("VM.add_tags", vms[1], "vmss:keep=hourly:2,daily:2")
    pool.at(10, 15)
    pool.tick()
    (pinned,) = pool.snapshots(vms[0])
    pool.call("VM.add_to_blocked_operations", pool.call("VM.get_by_uuid", pinned["uuid"]), "destroy", "audit")
    slots = [datetime(2026, 3, 2, hour, 15, tzinfo=UTC) for hour in range(11, 18)]
    for slot in slots:
        pool.simulator.set_time(slot)
        pool.tick()
    # What exceeds a lower number goes a few at a time.
    pool.call("VMSS.set_retained_snapshots", policy, "3")
    foretold = {row["snapshot"]: row["goes"] for row in planned(pool) if row["snapshot"]}
    assert foretold.pop(pinned["uuid"]) is None and len(foretold) == 8
    runs = slots[-1] + timedelta(hours=1)
    for number in range(31):
        now = runs + timedelta(hours=number)
        pool.simulator.set_time(now)
        pool.tick()
        there = {item["uuid"] for vm in vms for item in pool.snapshots(vm)}
        for uuid, goes in foretold.items():
            assert (uuid in there) == (goes is None or parse_datetime(goes) > now), (uuid, goes, now)
    assert pinned["uuid"] in there


def test_each_reason_is_said(pool: TestPool) -> None:
    sr = pool.sr()
    vm, spread = pool.vm("vm", [sr]), pool.vm("spread", [sr])
    policy = pool.policy([vm, spread], "nightly", retained_snapshots="3")
    pool.call("VM.add_tags", spread, "vmss:keep=hourly:1,daily:1")
    for day, hour in ((2, 10), (2, 11), (3, 9), (3, 10), (3, 11)):
        pool.at(hour, 15, day)
        pool.tick()
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    oldest, middle, _ = [pool.call("VM.get_by_uuid", item["uuid"]) for item in pool.snapshots(vm)]
    pool.simulator.db.set("VM", oldest, "current_operations", {"OpaqueRef:1": "copy"})
    rows = planned(pool, "nightly")
    assert whys(rows, "vm") == [
        "is taken: snapshot",
        "stays: newest 1 of 2",
        "stays: newest 2 of 2",
        "stays: exceeds the 2 that are kept; it stays as long as copy is in progress on it",
    ]
    assert whys(rows, "spread")[1:] == [
        "stays: kept as hourly, 1 of 1",
        "goes: exceeds the 2 that are kept",
        "stays: kept as daily, 1 of 1",
    ]
    pool.simulator.db.set("VM", middle, "blocked_operations", {"destroy": "audit 2027"})
    pool.simulator.db.set("VM", oldest, "snapshot_time", datetime(2027, 1, 1, tzinfo=UTC))
    pool.call("VMSS.set_enabled", policy, False)
    pool.call("VM.set_snapshot_schedule", spread, NULL)
    rows = planned(pool)
    assert [row["fate"] for row in rows] == ["stays"] * 6
    assert sorted(set(whys(rows, "vm"))) == [
        "stays: its schedule is disabled: no run deletes it",
        "stays: pinned: audit 2027",
    ]
    assert set(whys(rows, "spread")) == {"stays: its VM is on no schedule: no run deletes it"}
    pool.call("VMSS.set_enabled", policy, True)
    assert "stays: dated in the future: it does not count, and stays until its time has come" in whys(
        planned(pool), "vm"
    )


def test_a_rehearsal_gives_the_same_reasons(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    for hour in (10, 11):
        pool.at(hour, 15)
        pool.tick()
    pool.at(12, 15)
    report = pool.tick(dry_run=True)
    assert report.rehearsal is not None
    (one,) = report.rehearsal.vms
    assert [(each.fate, each.why) for each in one.fates] == [
        ("stays", "newest 2 of 2"),
        ("goes", "exceeds the 2 that are kept"),
    ]
    assert one.deletes == (one.fates[1].uuid,)


# Pins


def test_a_pinned_snapshot_stays_beside_the_others_until_it_is_unpinned(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], "nightly", retained_snapshots="1")
    pool.at(10, 15)
    pool.tick()
    first = pool.snapshots(vm)[0]["uuid"]
    xapi = {"VMSS_XAPI": pool.place.xapi, "VMSS_CONFIG": "/dev/null"}
    assert first in vmss(pool.folder, "pin", first[:8], "--reason", "audit 2027", **xapi).out
    assert "already: audit 2027" in vmss(pool.folder, "pin", "nightly 2026-03-02T10:15:00Z", **xapi).out
    for hour in (11, 12):
        pool.at(hour, 15)
        pool.tick()
    assert [item["uuid"] for item in pool.snapshots(vm)][0] == first and len(pool.snapshots(vm)) == 2
    assert "stays: pinned: audit 2027" in whys(planned(pool), "vm")
    shown = json.loads(vmss(pool.folder, "show", "nightly", "--json", **xapi).out)[0]["vm_list"][0]
    assert shown["pinned"] == [{"uuid": first, "reason": "audit 2027"}]
    assert "1: audit 2027" in vmss(pool.folder, "show", "nightly", **xapi).out
    assert "(audit 2027): it counts again" in vmss(pool.folder, "unpin", first.upper(), **xapi).out
    pool.at(13, 15)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1
    assert vmss(pool.folder, "unpin", pool.snapshots(vm)[0]["uuid"], **xapi).status == 2


def test_only_what_is_clearly_meant_and_scheduled_is_pinned(pool: TestPool) -> None:
    vms = [pool.vm(name, [pool.sr()]) for name in ("one", "two")]
    pool.policy(vms, "nightly")
    pool.at(10, 15)
    pool.tick()
    by_hand = pool.uuid("VM", pool.call("VM.snapshot", vms[0], "by hand"))
    refused = {
        "nightly 2026-03-02T10:15:00Z": r"2 scheduled snapshots .* of one: \S+ \(of (one|two)\), \S+ \(of (one|two)\)$",
        by_hand: "is no scheduled snapshot",
        pool.uuid("VM", vms[0]): "is no scheduled snapshot",
        "by hand": "no scheduled snapshot of this pool is called",
        "": "no scheduled snapshot",
    }
    for wanted, words in refused.items():
        with pytest.raises(BadInput, match=words):
            pin(pool.xapi, wanted, "")
    ref = pool.call("VM.get_by_uuid", pool.snapshots(vms[0])[0]["uuid"])
    pool.call("VM.set_blocked_operations", ref, {"export": "mine", "destroy": "old"})
    pin(pool.xapi, pool.uuid("VM", ref), "new")
    assert pool.call("VM.get_blocked_operations", ref) == {"export": "mine", "destroy": "new"}
