"""The state machine of a pass, driven by hand and at random, with books kept from outside."""

import os
from fractions import Fraction
from random import Random
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmss.core.engine import Engine
from vmss.core.job import (
    DESTROY_VDI,
    DESTROY_VM,
    SHUT_DOWN,
    TAKE_CHECKPOINT,
    TAKE_QUIESCED,
    TAKE_SNAPSHOT,
    ExpiredDisk,
    ExpiredSnapshot,
    Job,
    Operation,
    State,
    already_gone,
)
from vmss.core.outcome import RESULT_LOST, RUN_OVER, STORAGE_STUCK, TIMED_OUT, Error, Outcome

TAKES = (TAKE_SNAPSHOT, TAKE_QUIESCED, TAKE_CHECKPOINT)

# VMSS_TEST_EXAMPLES=20 looks twenty times as long.
EXAMPLES = int(os.environ.get("VMSS_TEST_EXAMPLES", "1"))

FULL: Error = ("SR_BACKEND_FAILURE_44", "", "There is insufficient space", "")
NOT_OF_THE_OBJECT: Error = ("HANDLE_INVALID", "task", "OpaqueRef:some task")
BLOCKED: Error = ("OPERATION_BLOCKED", "OpaqueRef:snapshot", "destroy")
REMOVED: Error = ("MESSAGE_REMOVED", "VM.snapshot_with_quiesce")


# Jobs, in short


def vm(
    name: str,
    srs: str = "",
    take: str = TAKE_SNAPSHOT,
    host: str = "",
    expired: Sequence[ExpiredSnapshot] = (),
    recorded: bool = False,
) -> Job:
    """A VM with a disk on each SR, which takes as many seconds as it has disks; `srs` has a letter for each disk: AAB
    is two disks on A and one on B. The youngest that expires makes room for the new snapshot."""
    if take:
        expired = list(expired[:-1]) + [snapshot._replace(after_new=True) for snapshot in expired[-1:]]
    tokens = frozenset(srs) | frozenset([host] if host else [])
    return Job(
        policy="policy",
        vm=name,
        uuid="uuid of " + name,
        name=name,
        take=take,
        tokens=tokens if take else frozenset(),
        seconds=float(len(srs)),
        expired=tuple(expired),
        recorded=recorded,
    )


def served(name: str, *expired: ExpiredSnapshot, recorded: bool = True) -> Job:
    """A VM that has its snapshot already; what expires stands recorded."""
    return vm(name, take="", expired=expired, recorded=recorded)


def old(name: str, srs: str = "", suspended: bool = False) -> ExpiredSnapshot:
    """An expired snapshot; its disks are called by its name and their number: old0, old1."""
    disks = tuple(ExpiredDisk("%s%d" % (name, number), "uuid", sr) for number, sr in enumerate(srs))
    return ExpiredSnapshot(name, "uuid of " + name, suspended, disks)


def leftover(name: str, srs: str) -> Job:
    """The disks of a snapshot whose record is gone."""
    return served(name, old(name, srs)._replace(ref=""))


# Driving by hand


class Hand:
    """An engine, and what it runs by what it does: ("VM.snapshot", "vm1"). `tight`: SRs with little room."""

    def __init__(
        self, *jobs: Job, operations_max: int = 10, plain_instead: bool = True, tight: str = "", alone: bool = False
    ) -> None:
        self.engine = Engine(operations_max, alone)
        self.engine.add([job._replace(plain_instead=plain_instead) for job in jobs], tight)

    def start(self) -> List[Tuple[str, str]]:
        return [(operation.action, operation.ref) for operation in self.engine.start()]

    def end(self, ref: str, *error: str) -> Optional[int]:
        operation = next(item for item in self.engine.running if item.ref == ref)
        return self.engine.end(operation, Outcome("new of " + ref, tuple(error)))

    def record(self, most: int = 10) -> List[int]:
        jobs = self.engine.to_record(most)
        self.engine.recorded(jobs)
        return jobs

    def follow(self, ref: str, *error: str) -> List[Tuple[str, str]]:
        """End an operation, and return what starts, if need be after a record."""
        self.end(ref, *error)
        started = self.start()
        while self.record():
            started += self.start()
        return started

    def state(self, job: int = 0) -> State:
        return self.engine.states[job]


def test_a_pass_without_jobs_is_finished_and_starts_nothing() -> None:
    hand = Hand()
    assert hand.engine.finished
    assert hand.start() == []
    assert hand.record() == []


def test_a_vm_without_expired_snapshots_is_done_when_its_snapshot_is_taken() -> None:
    hand = Hand(vm("vm", "A"))
    assert hand.start() == [(TAKE_SNAPSHOT, "vm")]
    assert hand.end("vm") == 0
    assert hand.engine.finished
    assert hand.state() == State(snapshot="new of vm", done=True)


def test_a_vm_that_is_served_and_has_nothing_expired_is_done_from_the_start() -> None:
    hand = Hand(served("vm"))
    assert hand.engine.finished and hand.state() == State(done=True)


def test_an_operation_that_was_started_is_not_started_again() -> None:
    hand = Hand(vm("vm", "A"))
    assert hand.start() == [(TAKE_SNAPSHOT, "vm")]
    assert hand.start() == []
    assert [operation.ref for operation in hand.engine.running] == ["vm"]
    assert not hand.engine.finished


# Tokens


def test_two_vms_on_one_sr_are_taken_one_after_the_other() -> None:
    hand = Hand(vm("one", "A"), vm("two", "A"))
    assert hand.start() == [(TAKE_SNAPSHOT, "one")]
    assert hand.follow("one") == [(TAKE_SNAPSHOT, "two")]


def test_vms_on_different_srs_are_taken_at_the_same_time() -> None:
    hand = Hand(vm("one", "A"), vm("two", "B"))
    assert sorted(hand.start()) == [(TAKE_SNAPSHOT, "one"), (TAKE_SNAPSHOT, "two")]


def test_a_vm_with_disks_on_two_srs_waits_for_both_and_holds_both() -> None:
    hand = Hand(vm("one", "A"))
    hand.start()
    hand.engine.add([vm("both", "AB"), vm("two", "B")])
    assert hand.start() == [(TAKE_SNAPSHOT, "two")]
    assert hand.follow("one") == []
    assert hand.follow("two") == [(TAKE_SNAPSHOT, "both")]


def test_one_that_has_to_wait_does_not_hold_up_those_behind_it() -> None:
    hand = Hand(vm("busy", "A"))
    hand.start()
    hand.engine.add([vm("both", "AB"), vm("behind", "B")])
    assert hand.start() == [(TAKE_SNAPSHOT, "behind")]
    hand = Hand(
        vm("one", "AAA", TAKE_CHECKPOINT, host="host"), vm("two", "B", TAKE_CHECKPOINT, host="host"), vm("behind", "B")
    )
    assert hand.start() == [(TAKE_CHECKPOINT, "one"), (TAKE_SNAPSHOT, "behind")]


def test_a_vm_without_disks_waits_for_no_sr() -> None:
    hand = Hand(vm("disks", "A"), vm("diskless"))
    assert sorted(hand.start()) == [(TAKE_SNAPSHOT, "diskless"), (TAKE_SNAPSHOT, "disks")]


def test_one_checkpoint_at_a_time_runs_on_a_host() -> None:
    hand = Hand(
        vm("one", "A", TAKE_CHECKPOINT, host="host1"),
        vm("two", "B", TAKE_CHECKPOINT, host="host1"),
        vm("three", "C", TAKE_CHECKPOINT, host="host2"),
        vm("diskless", "", TAKE_CHECKPOINT, host="host2"),
    )
    first = {ref for _, ref in hand.start()}
    assert len(first) == 2 and len(first & {"one", "two"}) == 1
    one = (first & {"one", "two"}).pop()
    assert [ref for _, ref in hand.follow(one)] == [({"one", "two"} - first).pop()]


def test_a_snapshot_does_not_wait_for_a_checkpoint_of_the_same_host() -> None:
    hand = Hand(vm("memory", "A", TAKE_CHECKPOINT, host="host"), vm("plain", "B"))
    assert len(hand.start()) == 2


@pytest.mark.parametrize("operations_max", [1, 2, 3, 5])
def test_no_more_operations_run_than_are_allowed(operations_max: int) -> None:
    hand = Hand(*[vm("vm%s" % sr, sr) for sr in "ABCD"], operations_max=operations_max)
    started = hand.start()
    assert len(started) == min(4, operations_max)
    assert len(hand.follow(started[0][1])) == (1 if operations_max < 4 else 0)


# Disks on several SRs


def test_a_snapshot_works_on_one_sr_at_a_time_so_others_use_the_rest_of_each() -> None:
    hand = Hand(*[vm("two%d" % number, "AB") for number in range(3)])
    assert hand.start() == [(TAKE_SNAPSHOT, "two0"), (TAKE_SNAPSHOT, "two1")]
    assert hand.follow("two0") == [(TAKE_SNAPSHOT, "two2")]
    hand.engine.add([vm("a", "A"), vm("three", "ABC"), vm("cd", "CD")])
    assert hand.start() == [(TAKE_SNAPSHOT, "cd")]
    assert hand.follow("two1") == [(TAKE_SNAPSHOT, "three")]  # a half of A, of B and of C was free
    assert hand.follow("two2") == []  # a needs A all the time
    assert hand.follow("three") == [(TAKE_SNAPSHOT, "a")]


@pytest.mark.parametrize("take", [TAKE_CHECKPOINT, TAKE_QUIESCED])
def test_what_a_guest_stands_still_for_waits_for_all_its_srs_and_has_them_alone(take: str) -> None:
    hand = Hand(vm("plain", "AB"), vm("still", "AB", take=take), vm("another", "AB"))
    assert hand.start() == [(TAKE_SNAPSHOT, "plain"), (TAKE_SNAPSHOT, "another")]
    assert hand.follow("plain") == []
    assert hand.follow("another") == [(take, "still")]
    hand.engine.add([vm("late", "AB")])
    assert hand.start() == []


def test_where_guests_may_stand_still_no_snapshot_shares_an_sr() -> None:
    hand = Hand(vm("one", "AB"), vm("two", "AB"), alone=True)
    assert hand.start() == [(TAKE_SNAPSHOT, "one")]
    assert hand.follow("one") == [(TAKE_SNAPSHOT, "two")]


# What hangs


def running(hand: Hand, ref: str) -> Operation:
    return next(item for item in hand.engine.running if item.ref == ref)


def test_what_takes_too_long_keeps_its_other_tokens_from_nobody() -> None:
    hand = Hand(vm("both", "AB"))
    hand.start()
    hand.engine.add([vm("a", "A"), vm("b", "B")])
    assert hand.start() == []
    hand.engine.release(running(hand, "both"))
    assert sorted(hand.start()) == [(TAKE_SNAPSHOT, "a"), (TAKE_SNAPSHOT, "b")]
    hand.engine.add([vm("b2", "B")])
    assert hand.follow("both") == []  # b holds B now, and both no longer does
    assert hand.follow("b") == [(TAKE_SNAPSHOT, "b2")]


def test_what_needs_all_that_a_slow_operation_needs_goes_after_what_needs_some_of_it() -> None:
    hand = Hand(vm("both", "AB"))
    hand.start()
    hand.engine.add([vm("both too", "AAAAB"), vm("b", "B"), vm("b2", "B")])
    hand.engine.release(running(hand, "both"))
    assert hand.start() == [(TAKE_SNAPSHOT, "b")]
    assert hand.follow("b") == [(TAKE_SNAPSHOT, "b2")]  # B works
    assert hand.follow("b2") == [(TAKE_SNAPSHOT, "both too")]


def test_with_one_token_there_is_nothing_to_give_back() -> None:
    hand = Hand(vm("one", "A"), vm("two", "A"))
    hand.start()
    hand.engine.release(running(hand, "one"))
    assert hand.start() == []


def test_what_needs_no_storage_is_deleted_though_snapshots_wait_for_what_takes_too_long() -> None:
    hand = Hand(vm("one", "A"), vm("two", "A"), served("diskless", old("x"), recorded=False))
    hand.start()
    assert hand.record() == []  # an entry of the journal costs as much for this one as for all
    hand.engine.release(running(hand, "one"))
    assert hand.record() == [2]
    assert hand.start() == [("VM.destroy", "x")]
    hand.engine.add([vm("b", "B"), vm("b2", "B"), served("another", old("y"), recorded=False)])
    hand.start()
    assert hand.record() == []  # b takes no longer than it should


def test_after_a_limit_what_waits_for_the_same_sr_fails_at_once_and_nothing_else() -> None:
    hand = Hand(vm("one", "A"), vm("two", "A"), vm("b", "B"), vm("b2", "B"), served("gone", old("x", "A")))
    hand.start()
    assert hand.end("one", TIMED_OUT, TAKE_SNAPSHOT, "10 s") == 0
    error = (STORAGE_STUCK, TAKE_SNAPSHOT, "uuid of one")
    hopeless = hand.engine.hopeless()
    assert [(operation.ref, outcome.error) for operation, outcome in hopeless] == [("two", error)]
    assert hand.engine.end(*hopeless[0]) == 1
    assert hand.state(1) == State(error=error, done=True)
    assert hand.engine.hopeless() == []
    assert hand.follow("b") == [(TAKE_SNAPSHOT, "b2")]


def test_an_sr_on_which_another_succeeded_meanwhile_is_not_the_one_that_hangs() -> None:
    hand = Hand(vm("both", "AB"))
    hand.start()
    hand.engine.add([vm("b", "B"), vm("a", "A"), vm("b2", "B"), vm("a2", "A")])
    hand.engine.release(running(hand, "both"))
    hand.start()
    hand.end("b")
    hand.end("both", TIMED_OUT, TAKE_SNAPSHOT, "10 s")
    assert [operation.ref for operation, _ in hand.engine.hopeless()] == ["a2"]
    assert hand.start() == [(TAKE_SNAPSHOT, "b2")]


def test_a_disk_that_waits_behind_a_limit_is_not_destroyed_and_the_job_ends() -> None:
    hand = Hand(served("one", old("x", "AA")))
    hand.start()
    hand.follow("x")
    assert hand.end("x0", TIMED_OUT, DESTROY_VDI, "10 s") is None
    (hopeless,) = hand.engine.hopeless()
    assert hopeless[0].ref == "x1" and hand.engine.end(*hopeless) == 0
    assert hand.engine.finished and hand.state().destroyed == 0


def test_a_run_is_stalled_if_all_its_snapshots_hang_or_wait_for_those_that_do() -> None:
    hand = Hand(vm("hangs", "A"))
    hand.start()
    hand.engine.add([vm("behind", "AB"), vm("works", "C"), vm("next", "C")])
    hand.start()
    slow = {running(hand, "hangs")}
    assert hand.engine.stalled([0, 1], slow)
    assert not hand.engine.stalled([0, 1, 2], slow) and not hand.engine.stalled([3], slow)
    assert not hand.engine.stalled([0], set())
    hand.end("works")
    assert hand.engine.settled(2) and hand.engine.stalled([0, 1, 2], slow)


def test_what_is_withdrawn_is_not_started_and_fails() -> None:
    hand = Hand(vm("hangs", "A"), vm("behind", "A"))
    hand.start()
    hand.engine.withdraw({0, 1}, ("WHY",))
    (hopeless,) = hand.engine.hopeless()  # what runs already goes on
    assert hopeless[0].ref == "behind" and hopeless[1].error == ("WHY",)
    hand.engine.end(*hopeless)
    assert hand.follow("hangs") == [] and hand.engine.finished


def test_the_vms_with_something_under_way_are_known() -> None:
    hand = Hand(vm("taken", "A"), vm("waits", "A"), served("expires", old("x", "B")))
    assert hand.engine.being_taken == frozenset()
    hand.start()
    assert hand.engine.being_taken == {"taken"} and hand.engine.being_expired == {"expires"}


# Order


def test_the_sr_with_most_work_goes_first() -> None:
    hand = Hand(vm("a", "A"), vm("b1", "B"), vm("b2", "BB"), vm("c", "CC"), operations_max=1)
    assert hand.start() == [(TAKE_SNAPSHOT, "b1")]
    # Two seconds are left on B and on C.
    assert hand.follow("b1")[0][1] in ("b2", "c")


def test_disks_that_are_to_be_destroyed_are_work_too() -> None:
    hand = Hand(vm("a", "AA"), vm("b", "B", expired=[old("x", "BB")]), operations_max=1)
    assert hand.start() == [(TAKE_SNAPSHOT, "b")]


def test_work_that_will_not_be_done_counts_no_longer() -> None:
    hand = Hand(vm("b", "B", expired=[old("x", "BBBB")]), vm("b2", "B"), vm("a", "AA"), operations_max=1)
    assert hand.start() == [(TAKE_SNAPSHOT, "b")]
    assert hand.follow("b", *FULL) == [(TAKE_SNAPSHOT, "a")]


def test_the_disks_of_a_pinned_snapshot_count_as_work_no_longer() -> None:
    hand = Hand(served("vm", old("pin", "AAAAA")), leftover("a", "A"), leftover("b", "BBB"), operations_max=1)
    assert hand.start() == [(DESTROY_VM, "pin")]
    assert hand.follow("pin", *BLOCKED) == [(DESTROY_VDI, "b0")]  # three disks are left on B, one on A


def test_snapshots_go_before_deletions() -> None:
    hand = Hand(leftover("gone", "AAAA"), served("served", old("x", "B")), vm("vm", "A"), operations_max=1)
    assert hand.start() == [(TAKE_SNAPSHOT, "vm")]


def test_a_deletion_does_not_wait_for_a_snapshot_that_cannot_start() -> None:
    hand = Hand(vm("one", "A"), vm("two", "A"), leftover("gone", "B"))
    assert sorted(hand.start()) == [(DESTROY_VDI, "gone0"), (TAKE_SNAPSHOT, "one")]


def test_what_touches_no_storage_goes_before_other_deletions() -> None:
    hand = Hand(leftover("gone", "AAA"), served("served", old("x", "A")), operations_max=1)
    assert hand.start() == [(DESTROY_VM, "x")]


# Deletion


def test_nothing_is_destroyed_before_the_snapshot_exists_and_is_recorded() -> None:
    hand = Hand(vm("vm", "A", expired=[old("x", "A")]))
    assert hand.record() == []
    assert hand.start() == [(TAKE_SNAPSHOT, "vm")]
    assert hand.record() == [] and hand.start() == []
    assert hand.end("vm") is None
    assert hand.start() == []
    assert hand.record() == [0]
    assert hand.start() == [(DESTROY_VM, "x")]


def test_an_expired_snapshot_is_destroyed_first_and_then_its_disks() -> None:
    hand = Hand(served("vm", old("x", "AAB")))
    assert hand.start() == [(DESTROY_VM, "x")]
    assert sorted(hand.follow("x")) == [(DESTROY_VDI, "x0"), (DESTROY_VDI, "x2")]  # one at a time on A
    assert hand.follow("x2") == []
    assert hand.follow("x0") == [(DESTROY_VDI, "x1")]
    assert hand.end("x1") == 0
    assert hand.state() == State(destroyed=1, done=True)


def test_a_vm_record_is_destroyed_while_its_sr_is_busy() -> None:
    hand = Hand(served("vm", old("x", "A")), vm("busy", "A"))
    assert sorted(hand.start()) == [(DESTROY_VM, "x"), (TAKE_SNAPSHOT, "busy")]


def test_the_memory_of_a_checkpoint_goes_before_its_record() -> None:
    hand = Hand(served("vm", old("x", "AB", suspended=True)), vm("busy", "B"))
    assert hand.start() == [(TAKE_SNAPSHOT, "busy")]  # the memory is on an SR, and any of them is held
    assert hand.follow("busy") == [(SHUT_DOWN, "x")]
    assert hand.engine.running == {Operation(0, SHUT_DOWN, "x", frozenset("AB"))}
    assert hand.follow("x") == [(DESTROY_VM, "x")]
    assert sorted(hand.follow("x")) == [(DESTROY_VDI, "x0"), (DESTROY_VDI, "x1")]


def test_a_snapshot_without_disks_is_gone_with_its_record() -> None:
    hand = Hand(served("vm", old("x"), old("y")))
    assert hand.start() == [(DESTROY_VM, "x")]
    assert hand.follow("x") == [(DESTROY_VM, "y")]
    assert hand.end("y") == 0
    assert hand.state() == State(destroyed=2, done=True)


def test_the_next_oldest_begins_when_the_oldest_is_gone_with_all_its_disks() -> None:
    hand = Hand(served("vm", old("x", "A"), old("y", "B")))
    assert hand.start() == [(DESTROY_VM, "x")]
    assert hand.follow("x") == [(DESTROY_VDI, "x0")]
    assert hand.follow("x0") == [(DESTROY_VM, "y")]


def test_where_only_the_disks_are_left_only_they_are_destroyed() -> None:
    hand = Hand(leftover("gone", "AB"))
    assert sorted(hand.start()) == [(DESTROY_VDI, "gone0"), (DESTROY_VDI, "gone1")]
    assert hand.end("gone0") is None
    assert hand.end("gone1") == 0
    assert hand.state() == State(destroyed=1, done=True)


def test_one_record_serves_many_jobs_but_no_more_than_it_may() -> None:
    hand = Hand(*[vm("vm%d" % number, "", expired=[old("x%d" % number)]) for number in range(5)])
    hand.start()
    for number in (3, 0, 4, 1, 2):
        hand.end("vm%d" % number)
    assert hand.record(3) == [3, 0, 4]
    assert hand.record(3) == [1, 2]
    assert hand.record(3) == []
    assert len(hand.start()) == 5


def test_nothing_is_recorded_while_snapshots_keep_the_same_sr_busy() -> None:
    hand = Hand(*[vm(name, "A", expired=[old("x" + name, "A")]) for name in ("one", "two", "three")])
    hand.start()
    assert hand.end("one") is None
    assert hand.start() == [(TAKE_SNAPSHOT, "two")]
    assert hand.record() == []
    assert hand.end("two") is None
    assert hand.start() == [(TAKE_SNAPSHOT, "three")]
    assert hand.record() == [0, 1]  # nobody waits for A any more
    assert hand.follow("three") == [(DESTROY_VM, "xone"), (DESTROY_VM, "xtwo"), (DESTROY_VM, "xthree")]


def test_an_sr_that_waits_for_a_host_or_another_sr_deletes_meanwhile() -> None:
    hand = Hand(
        vm("one", "A", TAKE_CHECKPOINT, host="host", expired=[old("x", "A")]),
        vm("long", "B", TAKE_CHECKPOINT, host="other"),
    )
    assert len(hand.start()) == 2
    hand.engine.add([vm("two", "AB", TAKE_CHECKPOINT, host="host")])
    assert hand.follow("one") == [(DESTROY_VM, "x")]  # the other one waits for B
    assert hand.follow("x") == [(DESTROY_VDI, "x0")]


def test_a_vm_on_several_srs_is_tried_before_those_on_one_of_them() -> None:
    hand = Hand(vm("a", "A"), vm("b", "B"), vm("both", "AB"), vm("a2", "A"), vm("b2", "B"))
    assert hand.start() == [(TAKE_SNAPSHOT, "both")]


def test_where_room_is_short_what_expires_makes_room_first() -> None:
    jobs = [vm(name, "A", expired=[old("x" + name, "A")]) for name in ("one", "two")]
    hand = Hand(*jobs, tight="A")
    assert hand.start() == [(TAKE_SNAPSHOT, "one")]
    assert hand.end("one") is None
    assert hand.start() == [(TAKE_SNAPSHOT, "two")]  # what cannot go yet, for it is not recorded, costs no time
    hand = Hand(*jobs, vm("three", "A"), tight="A")
    hand.start()
    assert hand.end("one") is None
    assert hand.record() == [0]
    assert sorted(hand.start()) == [(DESTROY_VM, "xone"), (TAKE_SNAPSHOT, "two")]
    hand.end("xone")
    assert hand.follow("two") == [(DESTROY_VDI, "xone0"), (DESTROY_VM, "xtwo")]
    assert hand.follow("xtwo") == []
    assert hand.follow("xone0") == [(DESTROY_VDI, "xtwo0")]
    assert hand.follow("xtwo0") == [(TAKE_SNAPSHOT, "three")]


def test_an_operation_that_is_parked_leaves_its_sr_to_others_until_it_is_resumed() -> None:
    hand = Hand(vm("one", "A", expired=[old("x", "A")]), vm("two", "A"))
    assert hand.start() == [(TAKE_SNAPSHOT, "one")]
    (operation,) = hand.engine.running
    hand.engine.park(operation)
    assert hand.start() == [(TAKE_SNAPSHOT, "two")]
    assert hand.end("two") == 1
    assert hand.start() == [] and not hand.engine.finished
    hand.engine.resume(operation)
    assert hand.start() == [(TAKE_SNAPSHOT, "one")]
    assert hand.follow("one") == [(DESTROY_VM, "x")]
    assert hand.follow("x") == [(DESTROY_VDI, "x0")]
    (operation,) = hand.engine.running
    hand.engine.park(operation)
    assert hand.start() == []
    hand.engine.resume(operation)
    assert hand.start() == [(DESTROY_VDI, "x0")]
    assert hand.end("x0") == 0 and hand.engine.finished


def test_jobs_that_come_later_are_taken_in_hand_with_the_others() -> None:
    hand = Hand(vm("one", "A"))
    assert hand.start() == [(TAKE_SNAPSHOT, "one")]
    hand.engine.add([vm("two", "A"), vm("three", "B"), served("four")])
    assert hand.start() == [(TAKE_SNAPSHOT, "three")]
    assert hand.follow("one") == [(TAKE_SNAPSHOT, "two")]
    assert hand.end("two") == 1 and not hand.engine.finished
    assert hand.end("three") == 2 and hand.engine.finished


def test_a_vm_on_two_srs_that_waits_for_the_busier_one_does_not_leave_the_other_idle() -> None:
    # A is busy 121 times. B has its 50 snapshots done after 50, and 50 disks to destroy meanwhile.
    quick = [vm("b%d" % number, "B", expired=[old("x%d_" % number, "B")]) for number in range(50)]
    busy = [vm("a%d" % number, "A") for number in range(120)]
    hand = Hand(*busy, *quick, vm("both", "AB"))
    rounds = 0
    while not hand.engine.finished:
        rounds += 1
        started = hand.start()
        while hand.record():
            started += hand.start()
        assert started
        for operation in hand.engine.running:
            hand.end(operation.ref)
    assert rounds <= 121 * 1.05  # the busiest SR alone, and 5%


def test_what_stands_recorded_already_is_not_recorded_again() -> None:
    hand = Hand(served("vm", old("x")), served("other", old("y"), recorded=False))
    assert hand.start() == [(DESTROY_VM, "x")]
    assert hand.record() == [1]
    assert hand.start() == [(DESTROY_VM, "y")]


# Failures


def test_after_a_snapshot_that_failed_nothing_of_the_vm_is_deleted() -> None:
    hand = Hand(vm("vm", "A", expired=[old("x", "A")]), vm("other", "A"))
    hand.start()
    assert hand.end("vm", *FULL) == 0
    assert hand.record() == []
    assert hand.state() == State(error=FULL, done=True)
    assert hand.start() == [(TAKE_SNAPSHOT, "other")]
    assert hand.end("other") == 1
    assert hand.state(1) == State(snapshot="new of other", done=True)


@pytest.mark.parametrize(
    "error", [("HANDLE_INVALID", "VM", "vm"), ("OPERATION_BLOCKED", "vm", "snapshot"), ("VDI_MISSING", "A", "vm")]
)
@pytest.mark.parametrize("take", TAKES)
def test_a_vm_that_is_gone_or_blocked_has_no_snapshot(take: str, error: Error) -> None:
    hand = Hand(vm("vm", "A", take, expired=[old("x", "A")]))
    hand.start()
    assert hand.end("vm", *error) == 0
    assert hand.state() == State(error=error, done=True)


def test_after_a_snapshot_that_failed_what_exceeds_retention_is_deleted_all_the_same() -> None:
    # Of what expires, the youngest would have made room for the new one.
    hand = Hand(vm("vm", "A", expired=[old("x", "A"), old("y", "A")]))
    hand.start()
    assert hand.follow("vm", *FULL) == [(DESTROY_VM, "x")]
    hand.follow("x")
    assert hand.end("x0") == 0
    assert hand.start() == []
    assert hand.state() == State(error=FULL, destroyed=1, done=True)


def test_a_snapshot_that_cannot_be_destroyed_keeps_its_disks_and_no_younger_one() -> None:
    hand = Hand(vm("vm", "A", expired=[old("x", "A"), old("y", "A"), old("z", "A")]))
    hand.start()
    assert hand.follow("vm") == [(DESTROY_VM, "x")]
    hand.follow("x")
    assert hand.follow("x0") == [(DESTROY_VM, "y")]
    assert hand.follow("y", "VM_BAD_POWER_STATE", "y", "halted", "suspended") == [(DESTROY_VM, "z")]
    hand.follow("z")
    assert hand.end("z0") == 0
    assert hand.start() == []
    assert hand.state() == State(
        snapshot="new of vm", error=("VM_BAD_POWER_STATE", "y", "halted", "suspended"), destroyed=2, done=True
    )


def test_a_run_deletes_a_few_beyond_the_one_that_the_new_snapshot_replaces() -> None:
    hand = Hand(vm("vm", expired=[old(name) for name in "abcdef"])._replace(more=2))
    hand.start()
    assert hand.follow("vm") == [(DESTROY_VM, "a")]
    assert hand.follow("a") == [(DESTROY_VM, "b")]
    assert hand.follow("b") == [(DESTROY_VM, "c")]
    assert hand.end("c") == 0
    assert hand.state() == State("new of vm", destroyed=3, done=True, left=3)
    assert hand.engine.finished


def test_a_run_deletes_only_the_few_if_the_new_snapshot_fails() -> None:
    hand = Hand(vm("vm", expired=[old(name) for name in "abcd"])._replace(more=2))
    hand.start()
    assert hand.follow("vm", *FULL) == [(DESTROY_VM, "a")]
    assert hand.follow("a") == [(DESTROY_VM, "b")]
    assert hand.end("b") == 0
    assert hand.state() == State(error=FULL, destroyed=2, done=True, left=1)  # the fourth does not exceed retention


def test_what_stays_does_not_count_among_the_few_unless_it_may_be_gone() -> None:
    hand = Hand(served("vm", *[old(name) for name in "abcdefg"])._replace(more=2))
    assert hand.start() == [(DESTROY_VM, "a")]
    assert hand.follow("a", *BLOCKED) == [(DESTROY_VM, "b")]
    assert hand.follow("b", "INTERNAL_ERROR", "stuck") == [(DESTROY_VM, "c")]
    assert hand.follow("c", RESULT_LOST, DESTROY_VM) == [(DESTROY_VM, "d")]
    assert hand.follow("d", "HANDLE_INVALID", "VM", "d") == [(DESTROY_VM, "e")]
    assert hand.end("e") == 0
    assert hand.state() == State(error=("INTERNAL_ERROR", "stuck"), destroyed=2, done=True, left=2)


@pytest.mark.parametrize("code", [TIMED_OUT, RUN_OVER])
def test_a_deletion_that_runs_into_its_limit_is_the_last_of_its_vm(code: str) -> None:
    hand = Hand(served("vm", old("x", "A"), old("y", "A")))
    hand.start()
    assert hand.end("x", code, "1 s") == 0
    assert hand.start() == []
    assert hand.state() == State(error=(code, "1 s"), done=True)


def test_memory_that_cannot_be_dropped_keeps_its_snapshot_and_no_younger_one() -> None:
    hand = Hand(served("vm", old("x", "A", suspended=True), old("y")))
    hand.start()
    assert hand.follow("x", "INTERNAL_ERROR", "trouble") == [(DESTROY_VM, "y")]
    assert hand.end("y") == 0
    assert hand.state() == State(error=("INTERNAL_ERROR", "trouble"), destroyed=1, done=True)


def test_a_disk_that_cannot_be_destroyed_does_not_spare_the_others_of_its_snapshot() -> None:
    hand = Hand(served("vm", old("x", "AAB"), old("y", "C")))
    hand.start()
    hand.follow("x")
    assert hand.follow("x0", "VDI_IN_USE", "x0", "destroy") == [(DESTROY_VDI, "x1")]
    assert hand.end("x2", *FULL) is None
    assert hand.follow("x1") == [(DESTROY_VM, "y")]
    hand.follow("y")
    assert hand.end("y0") == 0
    assert hand.state() == State(error=("VDI_IN_USE", "x0", "destroy"), destroyed=1, done=True)  # the first one


def test_a_snapshot_that_was_pinned_meanwhile_stays_whole_and_is_no_failure() -> None:
    hand = Hand(served("vm", old("x", "A"), old("y", "A")))
    hand.start()
    assert hand.follow("x", "OPERATION_BLOCKED", "x", "destroy") == [(DESTROY_VM, "y")]
    hand.follow("y")
    assert hand.end("y0") == 0
    assert hand.state() == State(destroyed=1, done=True)


def test_a_job_whose_last_expired_snapshot_is_pinned_ends_well() -> None:
    hand = Hand(served("vm", old("x", "A")))
    hand.start()
    assert hand.end("x", *BLOCKED) == 0
    assert hand.state() == State(done=True)


def test_a_disk_that_may_not_be_destroyed_is_a_failure() -> None:
    hand = Hand(leftover("x", "A"))
    hand.start()
    assert hand.end("x0", "OPERATION_BLOCKED", "x0", "destroy") == 0
    assert hand.state().error == ("OPERATION_BLOCKED", "x0", "destroy")


def test_what_is_gone_already_counts_as_destroyed() -> None:
    hand = Hand(served("vm", old("x", "AB", suspended=True), old("y")))
    assert hand.start() == [(SHUT_DOWN, "x")]
    assert hand.follow("x", "HANDLE_INVALID", "VM", "x") == [(DESTROY_VM, "x")]
    assert len(hand.follow("x", "HANDLE_INVALID", "VM", "x")) == 2  # its disks may be there still
    hand.end("x0", "HANDLE_INVALID", "VDI", "x0")
    assert hand.follow("x1", "VDI_MISSING", "B", "x1") == [(DESTROY_VM, "y")]
    assert hand.end("y") == 0
    assert hand.state() == State(destroyed=2, done=True)


@pytest.mark.parametrize(
    "error",
    [
        NOT_OF_THE_OBJECT,
        ("HANDLE_INVALID", "VM", "another"),
        ("HANDLE_INVALID",),
        ("VDI_MISSING", "A", "another"),
        ("INTERNAL_ERROR", "x"),
        ("x",),
    ],
)
def test_trouble_with_another_object_is_an_error(error: Error) -> None:
    hand = Hand(served("vm", old("x", "A")))
    hand.start()
    assert hand.end("x", *error) == 0
    assert hand.state() == State(error=error, done=True)
    hand = Hand(leftover("x", "A"))
    hand.start()
    assert hand.end("x0", *error) == 0
    assert hand.state() == State(error=error, done=True)


@pytest.mark.parametrize("action", [SHUT_DOWN, DESTROY_VM, DESTROY_VDI, *TAKES])
def test_memory_that_another_pass_has_dropped_meanwhile_is_gone_already(action: str) -> None:
    operation = Operation(0, action, "x", frozenset())
    halted = ("VM_BAD_POWER_STATE", "x", "running, suspended, paused", "halted")
    assert already_gone(operation, Outcome(error=halted)) == (action == SHUT_DOWN)
    assert not already_gone(operation, Outcome(error=halted[:-1] + ("running",)))


@pytest.mark.parametrize(
    "action, gone",
    [
        (SHUT_DOWN, True),
        (DESTROY_VM, True),
        (DESTROY_VDI, True),
        (TAKE_SNAPSHOT, False),
        (TAKE_QUIESCED, False),
        (TAKE_CHECKPOINT, False),
    ],
)
def test_only_what_was_to_be_destroyed_can_be_gone_already(action: str, gone: bool) -> None:
    operation = Operation(0, action, "x", frozenset())
    assert already_gone(operation, Outcome(error=("HANDLE_INVALID", "VM", "x"))) == gone
    assert not already_gone(operation, Outcome(error=NOT_OF_THE_OBJECT))
    assert not already_gone(operation, Outcome("x"))


# Quiesced snapshots


def test_where_quiescing_was_removed_plain_snapshots_are_taken_and_marked() -> None:
    hand = Hand(vm("one", "A", TAKE_QUIESCED), vm("two", "A", TAKE_QUIESCED), vm("three", "A"))
    assert hand.start() == [(TAKE_QUIESCED, "one")]
    assert hand.end("one", *REMOVED) is None
    taken = []
    for _ in range(3):
        [(action, ref)] = hand.start()
        assert action == TAKE_SNAPSHOT
        taken.append(ref)
        hand.end(ref)
    assert sorted(taken) == ["one", "three", "two"]
    assert hand.engine.finished
    assert hand.state(0) == State(snapshot="new of one", degraded=REMOVED, done=True)
    assert hand.state(1) == State(snapshot="new of two", degraded=REMOVED, done=True)
    assert hand.state(2) == State(snapshot="new of three", done=True)


def test_quiesced_snapshots_that_run_when_the_first_is_refused_are_taken_again_when_they_are() -> None:
    hand = Hand(vm("one", "A", TAKE_QUIESCED), vm("two", "B", TAKE_QUIESCED))
    assert len(hand.start()) == 2
    assert hand.follow("one", *REMOVED) == [(TAKE_SNAPSHOT, "one")]
    assert hand.follow("two", *REMOVED) == [(TAKE_SNAPSHOT, "two")]
    assert hand.end("one") == 0 and hand.end("two") == 1
    assert hand.state(1) == State(snapshot="new of two", degraded=REMOVED, done=True)


def test_a_plain_snapshot_instead_can_fail_and_says_both() -> None:
    hand = Hand(vm("vm", "A", TAKE_QUIESCED))
    hand.start()
    hand.follow("vm", *REMOVED)
    assert hand.end("vm", *FULL) == 0
    assert hand.state() == State(error=FULL, degraded=REMOVED, done=True)


def test_where_plain_ones_are_not_wanted_a_removed_quiescing_is_a_failure() -> None:
    hand = Hand(vm("vm", "A", TAKE_QUIESCED, expired=[old("x")]), plain_instead=False)
    hand.start()
    assert hand.end("vm", *REMOVED) == 0
    assert hand.state() == State(error=("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", "vm"), done=True)


def test_another_refusal_of_a_quiesced_snapshot_is_that_vms_failure() -> None:
    hand = Hand(vm("one", "A", TAKE_QUIESCED), vm("two", "A", TAKE_QUIESCED))
    hand.start()
    assert hand.end("one", "VM_SNAPSHOT_WITH_QUIESCE_FAILED", "one") == 0
    assert hand.start() == [(TAKE_QUIESCED, "two")]


def test_a_message_that_was_removed_is_a_failure_of_any_other_operation() -> None:
    hand = Hand(vm("vm", "A", TAKE_CHECKPOINT))
    hand.start()
    assert hand.end("vm", "MESSAGE_REMOVED", "VM.checkpoint") == 0
    assert hand.state().error == ("MESSAGE_REMOVED", "VM.checkpoint")


# At random, with books kept from outside


class Pool(NamedTuple):
    jobs: Tuple[Job, ...]
    operations_max: int
    plain_instead: bool
    quiescing: bool  # whether the server has quiesced snapshots
    trouble: float  # how often an operation fails
    record_max: int
    tight: FrozenSet[str]
    later: int  # how many of the jobs come when the others are under way
    seed: int

    def outcome(self, operation: Operation) -> Outcome:
        """How an operation ends: always the same, whatever happens around it."""
        if operation.action == TAKE_QUIESCED and not self.quiescing:
            return Outcome(error=REMOVED)
        random = Random("%d %s %s" % (self.seed, operation.action, operation.ref))
        if random.random() >= self.trouble:
            return Outcome("new of " + operation.ref)
        return Outcome(
            error=random.choice(
                [
                    FULL,
                    FULL,
                    NOT_OF_THE_OBJECT,
                    ("HANDLE_INVALID", "VM", operation.ref),
                    ("VDI_MISSING", "A", operation.ref),
                    ("OPERATION_BLOCKED", operation.ref, "destroy"),
                ]
            )
        )


SRS = frozenset("ABCD")
srs_of_a_vm = st.text("ABCD", max_size=3)
expired_of_a_vm = st.lists(st.tuples(srs_of_a_vm, st.booleans()), max_size=3)
shapes = st.tuples(
    st.sampled_from([TAKE_SNAPSHOT, TAKE_SNAPSHOT, TAKE_QUIESCED, TAKE_CHECKPOINT, "", "leftover"]),
    srs_of_a_vm,
    st.sampled_from(["host1", "host2"]),
    expired_of_a_vm,
    st.booleans(),
)
Shape = Tuple[str, str, str, List[Tuple[str, bool]], bool]


def job_of(number: int, shape: Shape) -> Job:
    take, srs, host, expired, recorded = shape
    name = "vm%d" % number
    if take == "leftover":
        return leftover(name, srs)
    return vm(
        name,
        srs,
        take,
        host if take == TAKE_CHECKPOINT else "",
        [old("%s_%d_" % (name, index), disks, suspended) for index, (disks, suspended) in enumerate(expired)],
        recorded and not take,
    )


pools = st.builds(
    Pool,
    st.lists(shapes, max_size=10).map(lambda all_of_them: tuple(map(job_of, range(10), all_of_them))),
    st.integers(1, 6),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.integers(1, 4),
    st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from("ABCD"))),
    st.integers(0, 4),
    st.integers(0, 2**32),
)
at_random = settings(max_examples=250 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def part(operation: Operation) -> Fraction:
    """For how much of its time an operation needs each of its tokens: a plain snapshot is on one SR at a time."""
    return Fraction(1, len(operation.tokens)) if operation.action == TAKE_SNAPSHOT and operation.tokens else Fraction(1)


class Books:
    """What an onlooker of a pass knows: what waits, what runs, what was done, and the seconds left for each token.

    Every step is compared with them. `steps` is what happened: ("start", operation), ("end", operation),
    ("recorded", job).
    """

    def __init__(self, pool: Pool) -> None:
        jobs = tuple(job._replace(plain_instead=pool.plain_instead) for job in pool.jobs)
        self.pool = pool = pool._replace(jobs=jobs)
        self.engine = Engine(pool.operations_max)
        self.waiting: Set[Operation] = set()
        self.running: List[Operation] = []
        self.unrecorded: Set[int] = set()
        self.left: Dict[int, List[ExpiredSnapshot]] = {}
        self.disks: Dict[int, Set[str]] = {}
        self.ended: List[int] = []
        self.steps: List[Tuple[str, Operation]] = []
        self.recorded_at: Dict[int, int] = {}
        self.work = dict.fromkeys(SRS | {"host1", "host2"}, 0.0)
        self.admit(len(pool.jobs) - pool.later)

    # The steps

    def admit(self, until: int) -> None:
        first = len(self.engine.jobs)
        jobs = self.pool.jobs[first : max(first, until)]
        self.engine.add(jobs, self.pool.tight)
        for number, job in enumerate(jobs, first):
            for token in job.tokens:
                self.work[token] += job.seconds
            for doomed in job.expired:
                self._account(doomed, 1)
            if job.take:
                self.waiting.add(Operation(number, job.take, job.vm, job.tokens))
            else:
                self._expire(number, job.expired)

    def start(self) -> None:
        for operation in self.engine.start():
            assert operation in self.waiting, "it must not start yet, or again"
            assert self._fits(operation), "a token is held twice"
            self._check_order(operation)
            self.waiting.remove(operation)
            self.running.append(operation)
            self.steps.append(("start", operation))
        assert len(self.running) <= self.pool.operations_max
        assert self.engine.running == frozenset(self.running)
        if len(self.running) < self.pool.operations_max:
            assert not self._could_start(), "something waits that could start"

    def record(self) -> bool:
        jobs = self.engine.to_record(self.pool.record_max)
        assert len(set(jobs)) == len(jobs) <= self.pool.record_max
        assert self.unrecorded.issuperset(jobs)
        wanted = any(map(self._may_delete, self.unrecorded)) and len(self.running) < self.pool.operations_max
        assert bool(jobs) == wanted
        assert not jobs or any(map(self._may_delete, jobs)), "what keeps an SR idle comes first"
        self.engine.recorded(jobs)
        for number in jobs:
            self.unrecorded.remove(number)
            self.recorded_at[number] = len(self.steps)
            self._next_doomed(number)
        return bool(jobs)

    def end(self, operation: Operation) -> None:
        outcome = self.pool.outcome(operation)
        number = operation.job
        done_before = self.engine.states[number].done
        finished = self.engine.end(operation, outcome)
        assert not done_before
        assert finished == (number if self.engine.states[number].done else None)
        if finished is not None:
            self.ended.append(finished)
        self.running.remove(operation)
        self.steps.append(("end", operation))
        self._follow(operation, outcome.error)
        busy = {item.job for item in self.running} | {item.job for item in self.waiting} | self.unrecorded
        assert self.engine.states[number].done == (number not in busy)

    def run(self, random: Random) -> "Books":
        """Everything to its end, in an order drawn at random."""
        while True:
            self.start()
            if not self.running or random.random() < 0.7:
                while self.record():
                    self.start()
            if not self.running:
                if len(self.engine.jobs) == len(self.pool.jobs):
                    break
                self.admit(len(self.pool.jobs))
                continue
            if random.random() < 0.2:
                self.admit(random.randint(0, len(self.pool.jobs)))
            for _ in range(random.randint(1, len(self.running))):
                self.end(random.choice(self.running))
        assert self.engine.finished, "nothing runs, nothing can start, and it is not at its end"
        assert not self.waiting and not self.unrecorded
        assert not any(self.work.values())
        return self

    # What follows from what

    @property
    def taken(self) -> FrozenSet[str]:
        return frozenset(token for operation in self.running for token in operation.tokens)

    def _could_start(self) -> List[Operation]:
        return [operation for operation in self.waiting if self._fits(operation)]

    def _fits(self, operation: Operation) -> bool:
        """Whether no token of an operation would be held for more than all of the time."""
        beside = [item for item in self.running if item.tokens & operation.tokens]
        return all(
            sum(map(part, (item for item in beside if token in item.tokens)), part(operation)) <= 1
            for token in operation.tokens
        )

    def _may_delete(self, number: int) -> bool:
        """Whether deletions of a job would hold no snapshot back, on one of its SRs at least."""
        waited_for = {token for item in self.waiting if item.action in TAKES for token in item.tokens}
        snapshots_wait = any(item.action in TAKES for item in self.waiting)
        srs = {disk.sr for doomed in self.left[number] for disk in doomed.disks}
        if not srs:
            return not snapshots_wait
        return any(sr not in waited_for or sr not in self.taken or sr in self.pool.tight for sr in srs)

    def _check_order(self, operation: Operation) -> None:
        assert self._rank(operation) == min(map(self._rank, self._could_start()))

    def _rank(self, operation: Operation) -> Tuple[int, List[float]]:
        after = 0 if operation.tokens & self.pool.tight else 2
        rank = 1 if operation.action in TAKES else after
        # The busiest first, and of those that are equally busy the one whose next token is busier.
        return rank, sorted(-self.work[token] for token in operation.tokens) + [0.0] if operation.tokens else []

    def _account(self, doomed: ExpiredSnapshot, sign: int) -> None:
        for disk in doomed.disks:
            self.work[disk.sr] += sign

    def _follow(self, operation: Operation, error: Error) -> None:
        if operation.action in TAKES:
            self._after_take(operation, error)
            return
        number, left = operation.job, self.left[operation.job]
        gone = bool(error) and error[0] in ("HANDLE_INVALID", "VDI_MISSING") and operation.ref in error
        if operation.action == DESTROY_VDI:
            self.disks[number].remove(operation.ref)
            self.work[next(iter(operation.tokens))] -= 1
            if not self.disks[number]:
                left.pop(0)
                self._next_doomed(number)
        elif error and not gone:
            self._account(left.pop(0), -1)
            self._next_doomed(number)
        elif operation.action == SHUT_DOWN:
            self.waiting.add(Operation(number, DESTROY_VM, operation.ref, frozenset()))
        else:
            self._destroy_disks(number)

    def _after_take(self, operation: Operation, error: Error) -> None:
        number = operation.job
        if error == REMOVED and operation.action == TAKE_QUIESCED and self.pool.plain_instead:
            quiesced = {item for item in self.waiting if item.action == TAKE_QUIESCED}
            self.waiting -= quiesced
            self.waiting |= {item._replace(action=TAKE_SNAPSHOT) for item in quiesced | {operation}}
            return
        for token in self.pool.jobs[number].tokens:
            self.work[token] -= self.pool.jobs[number].seconds
        expired = self.pool.jobs[number].expired
        if error:
            for doomed in expired:
                if doomed.after_new:
                    self._account(doomed, -1)
            expired = tuple(doomed for doomed in expired if not doomed.after_new)
        self._expire(number, expired)

    def _expire(self, number: int, expired: Sequence[ExpiredSnapshot]) -> None:
        self.left[number] = list(expired)
        if self.pool.jobs[number].recorded or not expired:
            self._next_doomed(number)
        else:
            self.unrecorded.add(number)

    def _next_doomed(self, number: int) -> None:
        left = self.left[number]
        if left and left[0].suspended:
            srs = frozenset(disk.sr for disk in left[0].disks)
            self.waiting.add(Operation(number, SHUT_DOWN, left[0].ref, srs))
        elif left and left[0].ref:
            self.waiting.add(Operation(number, DESTROY_VM, left[0].ref, frozenset()))
        elif left:
            self._destroy_disks(number)

    def _destroy_disks(self, number: int) -> None:
        doomed = self.left[number][0]
        self.disks[number] = {disk.ref for disk in doomed.disks}
        for disk in doomed.disks:
            self.waiting.add(Operation(number, DESTROY_VDI, disk.ref, frozenset([disk.sr])))
        if not doomed.disks:
            self.left[number].pop(0)
            self._next_doomed(number)

    # Looking back

    def where(self, what: str, action: str, ref: str) -> List[int]:
        return [
            index
            for index, (happened, operation) in enumerate(self.steps)
            if (happened, operation.action, operation.ref) == (what, action, ref)
        ]

    def started(self, number: int) -> List[Operation]:
        return [operation for what, operation in self.steps if what == "start" and operation.job == number]


def run(pool: Pool, seed: int) -> Books:
    return Books(pool).run(Random(seed))


def results(books: Books) -> List[Tuple[State, bool]]:
    """How each job ended, and whether well: which of several disks failed first depends on the order."""
    return [(state._replace(error=()), not state.error) for state in books.engine.states]


seeds = st.integers(0, 2**32)


@given(pools, seeds)
@at_random
def test_every_pass_keeps_its_limits_wastes_no_time_and_comes_to_its_end(pool: Pool, seed: int) -> None:
    books = run(pool, seed)
    assert all(state.done for state in books.engine.states)
    at_once = [number for number, job in enumerate(pool.jobs) if not job.take and not books.started(number)]
    assert sorted(books.ended + at_once) == list(range(len(pool.jobs)))


@given(pools, seeds)
@at_random
def test_nothing_is_deleted_before_the_new_snapshot_exists_and_is_recorded(pool: Pool, seed: int) -> None:
    books = run(pool, seed)
    for number, job in enumerate(pool.jobs):
        deletions = [
            index
            for index, (what, operation) in enumerate(books.steps)
            if what == "start" and operation.job == number and operation.action not in TAKES
        ]
        if not deletions:
            continue
        if job.take:
            if not books.engine.states[number].snapshot:  # then one more of the old ones stays
                (stays,) = (snapshot for snapshot in job.expired if snapshot.after_new)
                refs = {stays.ref} | {disk.ref for disk in stays.disks}
                assert not refs & {operation.ref for operation in books.started(number)}
            taken = max(index for take in TAKES for index in books.where("end", take, job.vm))
            assert taken < min(deletions)
        assert job.recorded or books.recorded_at[number] <= min(deletions)


@given(pools, seeds)
@at_random
def test_what_expires_goes_oldest_first_its_record_before_its_disks_and_each_once(pool: Pool, seed: int) -> None:
    books = run(pool, seed)
    for number, job in enumerate(pool.jobs):
        asked = [operation for operation in books.started(number) if operation.action not in TAKES]
        assert len({(operation.action, operation.ref) for operation in asked}) == len(asked)
        expected: List[List[Tuple[str, str]]] = []
        for doomed in job.expired:
            expected.append([(SHUT_DOWN, doomed.ref)] if doomed.suspended else [])
            expected.append([(DESTROY_VM, doomed.ref)] if doomed.ref else [])
            expected.append([(DESTROY_VDI, disk.ref) for disk in doomed.disks])
        stage = {step: index for index, steps in enumerate(expected) for step in steps}
        stages = [stage[operation.action, operation.ref] for operation in asked]
        assert stages == sorted(stages)


@given(pools.map(lambda pool: pool._replace(trouble=0.0)), seeds)
@at_random
def test_where_nothing_fails_every_expired_snapshot_is_gone_with_all_its_disks(pool: Pool, seed: int) -> None:
    books = run(pool, seed)
    for number, (job, state) in enumerate(zip(pool.jobs, books.engine.states)):
        if job.take == TAKE_QUIESCED and not pool.quiescing and not pool.plain_instead:
            error = ("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", job.vm)
            assert state == State(error=error, destroyed=len(job.expired[:-1]), done=True)
            continue
        degraded = job.take == TAKE_QUIESCED and not pool.quiescing
        snapshot = "new of " + job.vm if job.take else ""
        assert state == State(snapshot, (), len(job.expired), REMOVED if degraded else (), True)
        disks = [operation.ref for operation in books.started(number) if operation.action == DESTROY_VDI]
        assert sorted(disks) == sorted(disk.ref for doomed in job.expired for disk in doomed.disks)


@given(pools, seeds, seeds)
@at_random
def test_the_result_does_not_depend_on_the_order_in_which_operations_end(pool: Pool, seed: int, another: int) -> None:
    one_by_one = pool._replace(operations_max=1)
    assert results(run(pool, seed)) == results(run(one_by_one, another))


@given(pools, seeds, st.integers(0, 9))
@at_random
def test_a_job_that_fails_changes_no_other_ones_result(pool: Pool, seed: int, victim: int) -> None:
    class Failing(Pool):
        def outcome(self, operation: Operation) -> Outcome:
            return Outcome(error=FULL) if operation.job == victim else super().outcome(operation)

    well, ill = results(run(pool, seed)), results(run(Failing(*pool), seed))
    assert well[:victim] + well[victim + 1 :] == ill[:victim] + ill[victim + 1 :]
