"""What worlds drawn from seeds have broken once: a seed, and the fewest faults, with the least that was switched on,
with which its world broke."""

from typing import Dict, NamedTuple


class Once(NamedTuple):
    """A seed, and by their words what strikes its world and what is switched on in it."""

    seed: int
    faults: str
    switches: str = ""


ONCE: Dict[str, Once] = {
    "a deletion that outlives its pass is finished, though a full disk took no note of it": Once(
        475,
        "0.33:disk_full:2923400761 0.37:policy_deleted:3860953882 0.41:policy_changed:386925576 "
        "0.67:operation_late:3451042451",
    ),
    "a task of an earlier pass that names no snapshot costs no second one": Once(
        3332254992, "3.50:refused:3290743502 4.2:result_altered:1402201746"
    ),
    "a VM that somebody has suspended is theirs, also if xapi has forgotten what came after": Once(
        1795808060940, "0.27:vm_power:3422742974 4.56:vm_power:2271822939 4.58:coordinator_changed:3887673809"
    ),
    "a VM whose memory went before xapi forgot that it was resumed is told with what helps": Once(
        1795808060205,
        "1.45:host_lost:3028331875 2.46:host_lost:1654917868 3.55:host_lost:117051516 4.17:host_lost:2783561232",
    ),
    "the same, of a pinned snapshot": Once(
        1795808060460,
        "1.96:lost_before:3550459686 2.51:snapshot_pinned:2626289899 7.36:clock_forward:3799546187 "
        "7.123:host_lost:2242478911",
    ),
    "a VM whose memory goes after it was told is told anew, with the remedy that helps": Once(
        1795832812349, "5.31:xapi_killed:1144033273 6.18:lost_after:2557508888"
    ),
    "a schedule that is on when a pass reads it, and was not before": Once(
        1795832813008,
        "3.32:clock_forward:3327212210 3.217:vm_deleted:2275329111 3.221:policy_changed:521288253 "
        "4.259:policy_changed:2116215909 4.391:policy_changed:608442416",
    ),
    "a slot that a clock comes to twice may have been served before": Once(
        1795807444307, "1.8:coordinator_changed:499410470 5.12:clock_back:1443704707"
    ),
    "the same, and others have seen its snapshot": Once(
        1795808060249,
        "1.1:clock_back:3671619617 2.15:xapi_killed:3445890261 3.59:clock_back:117937818 4.7:clock_back:784855202 "
        "8.1:killed_after:722968877 9.1:snapshot_deleted:1971605655",
    ),
    "a snapshot of an earlier pass that does not count, because the clock was set back, has its name": Once(
        1795820401141, "0.11:vm_deleted:4137350661 0.18:refused:3021548267 1.45:clock_back:1525333593"
    ),
    "the task of an earlier pass names no snapshot, and its snapshot is older than this pass": Once(
        1795833756064, "6.27:result_altered:4257872152"
    ),
    "two runs by hand in one second": Once(
        1795819025010, "0.33:operation_late:3263068225 0.63:stop_asked:1030923464 2.1:snapshot_now:4046224239"
    ),
    "a schedule whose deletion xapi forgets is back without its alerts: those were files, and that is no silence": Once(
        1795772523045, "7.24:policy_deleted:2400441500 7.37:xapi_killed:2713507996 9.41:clock_back:2286539405"
    ),
    "a VM is deleted, and its schedule right after, in the same run": Once(
        3076176352, "3.15:vm_deleted:2967622499 3.18:policy_deleted:344899583"
    ),
    "a checkpoint ends with its xapi, between the last look at the VM and the alert": Once(
        50458,
        "2.11:vm_snapshotted:3915508331 2.13:clock_back:332789817 2.65:clock_back:2219336514 2.69:stop_asked:373290656 "
        "4.16:vm_snapshotted:935432482 4.22:vm_snapshotted:1076686870 5.63:coordinator_changed:571151564",
    ),
    "a VM is down again because xapi dies in the last call of a pass, and has forgotten that it was resumed": Once(
        1795855054095,
        "0.2:killed_before:194932045 1.4:vm_power:2276210545 1.32:snapshot_deleted:3232664769 "
        "3.100:killed_before:3937948414 4.25:xapi_killed:961017837",
    ),
    "a full disk ends no pass that tells of tags which name no schedule": Once(
        3044, "4.1:disk_full:1201332840", "assign_by_tag only_running"
    ),
    "a slot after a schedule was changed is made up for, where no tick came to it": Once(1034, "", "catch_up_changed"),
    "a schedule that was changed after its slot was served is not served again": Once(
        3340, "", "assign_by_tag catch_up_changed"
    ),
    "a VM that had failed is not tried again by a schedule that was changed since": Once(10085, "", "catch_up_changed"),
    "a halted VM with disks that are left out is equal to its snapshot": Once(2277, "", "keep_halted left_out"),
    "a run waits for the earlier one of its schedule until it is too late for its slot": Once(
        1795912000252,
        "1.4:snapshot_pinned:1832750861 5.50:stop_asked:3361709518 6.47:clock_forward:3305913316 "
        "6.55:clock_forward:321334142",
        "late_limit",
    ),
    "a snapshot of the slot that does not count keeps its name, and the next one has that of a second later": Once(
        1796000002072,
        "2.23:vm_snapshotted:2611439788 2.26:vm_snapshotted:1656417445 3.19:vm_snapshotted:384283559 "
        "3.40:snapshot_pinned:3072544447 4.6:vm_snapshotted:1270763048 4.48:vm_snapshotted:723035853 "
        "5.23:success_feigned:657328547 5.33:operation_fails:2772151729",
        "assign_by_tag",
    ),
    "alerts of before the clocks were set back are dated later than the only run since": Once(
        3742664381,
        "2.124:clock_back:3335097868 2.410:vm_reassigned:2964043120 2.427:clock_back:2745873477 "
        "3.21:sr_full:2906159833 6.15:vm_reassigned:2680207205 7.34:clock_back:180052884 7.38:killed_after:1001083494",
    ),
}
