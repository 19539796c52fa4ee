"""The error codes of XAPI: the kind of each, one plain sentence, and the next step.

xapi's data model documents the codes and their parameters; what xapi sends differs (docs/xapi-facts.md, Errors).
"""

from typing import NamedTuple, Sequence

from vmss.core.text import is_uuid

TRANSIENT = "transient"  # busy: retry
PERMANENT = "permanent"  # this VM, this time: report it
OUTCOME_UNKNOWN = "unknown"  # no answer, or a timeout: the state of the pool tells how it ended
OPERATOR = "operator"  # licence or configuration: an administrator has to change it


class Failure(NamedTuple):
    """The kind of an error, one sentence without a full stop, and the reader's next step.

    In its commands VM and SCHEDULE stand for the uuids of these; whoever knows them fills them in. Other words in
    capitals are for the reader: OTHER is the uuid of another schedule, N a number, DISK the uuid of a disk.
    """

    kind: str
    sentence: str
    remedy: str


_FEWER = "vmss xe vmss-param-set retained-snapshots=N uuid=SCHEDULE"
_FULL = Failure(
    OPERATOR,
    "The storage repository is full",
    "Free space on it: delete snapshots or disks, keep fewer (%s, then vmss prune --policy SCHEDULE), or extend it; "
    "coalescing needs space too." % _FEWER,
)
_GONE = Failure(PERMANENT, "The object no longer exists", "Nothing to do if it was deleted on purpose.")
_OFF = "xe vm-param-set snapshot-schedule= uuid=VM"
_LEAVE_OUT = "or leave that disk out of its snapshots: xe vdi-param-set other-config:vmss:skip=yes uuid=DISK"
_LEAVE_IN = "xe vdi-param-remove param-name=other-config param-key=vmss:skip uuid=DISK"
_TAKE_OFF = "Move the disk, or take the VM off the schedule: %s; %s." % (_OFF, _LEAVE_OUT)
_NO_MEMORY = "xe vm-param-add param-name=tags param-key=vmss:no-memory uuid=VM"
_DISKS_ONLY = (
    "Put the VM on a schedule of type snapshot: xe vm-param-set snapshot-schedule=OTHER uuid=VM; or let this one take "
    "its snapshots without memory: %s." % _NO_MEMORY
)
_SET_TYPE = "Set the schedule's type: vmss xe vmss-param-set type=snapshot uuid=SCHEDULE."
_AGAIN = "The next run takes it; to take that of the latest slot now: vmss run --policy SCHEDULE --missing."
_UNATTACHED = "Which one, and the command that attaches it: vmss doctor."
_SM = "See /var/log/SMlog on the coordinator."

CATALOGUE = {
    "OTHER_OPERATION_IN_PROGRESS": Failure(
        TRANSIENT, "Another operation holds the object", "Wait until it has ended; what it is: xe task-list."
    ),
    "TOO_MANY_PENDING_TASKS": Failure(
        TRANSIENT, "Too many operations wait in xapi", "Wait until they have ended; which they are: xe task-list."
    ),
    "VDI_IN_USE": Failure(
        TRANSIENT,
        "The disk is in use",
        "See who has its disks: xe vm-disk-list uuid=VM, then xe vbd-list vdi-uuid=DISK.",
    ),
    "HOST_STILL_BOOTING": Failure(TRANSIENT, "xapi is still starting", "Wait for it."),
    "CANNOT_CONTACT_HOST": Failure(TRANSIENT, "A host of the pool does not answer", "Check the host and its network."),
    "HOST_OFFLINE": Failure(PERMANENT, "The VM's host is offline", "Bring the host back."),
    "NO_HOSTS_AVAILABLE": Failure(
        PERMANENT, "No host sees all storage repositories of the VM, those of its CDs included", _UNATTACHED
    ),
    "HANDLE_INVALID": _GONE,
    "UUID_INVALID": _GONE,
    "VM_BAD_POWER_STATE": Failure(PERMANENT, "The VM is in the wrong power state", _AGAIN),
    "OPERATION_BLOCKED": Failure(
        PERMANENT,
        "An administrator has blocked the operation on this VM",
        "Unblock it: xe vm-param-remove param-name=blocked-operations param-key=snapshot uuid=VM "
        "(where memory is saved: param-key=checkpoint).",
    ),
    "OPERATION_NOT_ALLOWED": Failure(PERMANENT, "The operation is not allowed", "See the reason in the error."),
    "VM_IS_IMMOBILE": Failure(PERMANENT, "The VM cannot be suspended", _DISKS_ONLY),
    "VM_LACKS_FEATURE": Failure(PERMANENT, "The VM lacks the guest tools", "Install them, or: " + _DISKS_ONLY),
    "VM_NON_SUSPENDABLE": Failure(PERMANENT, "The guest cannot be suspended now", _DISKS_ONLY),
    "VM_NO_SUSPEND_SR": Failure(PERMANENT, "The VM's host has no storage repository for memory", _DISKS_ONLY),
    "VM_HAS_PCI_ATTACHED": Failure(PERMANENT, "The VM has a PCI device", _DISKS_ONLY),
    "VM_HAS_VGPU": Failure(PERMANENT, "The VM has a virtual GPU", _DISKS_ONLY),
    "VM_HAS_VUSBS": Failure(
        PERMANENT,
        "The VM has a USB device",
        "Detach it (xe vusb-list vm-uuid=VM, xe vusb-destroy uuid=VUSB), or take the VM off the schedule: %s." % _OFF,
    ),
    "VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED": Failure(OPERATOR, "The pool has no quiesced snapshots", _SET_TYPE),
    "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION": Failure(
        PERMANENT,
        "A disk of the VM is reset on boot",
        "Take the VM off the schedule: %s; or let the disk keep its state: xe vdi-param-set on-boot=persist uuid=DISK; "
        "%s." % (_OFF, _LEAVE_OUT),
    ),
    "VDI_IS_SHARABLE": Failure(
        PERMANENT, "A disk of the VM is shared", "Take the VM off the schedule: %s; %s." % (_OFF, _LEAVE_OUT)
    ),
    "VDI_NOT_MANAGED": Failure(PERMANENT, "The disk belongs to the storage layer", "Nothing to do."),
    "SR_OPERATION_NOT_SUPPORTED": Failure(
        PERMANENT, "The storage repository does not support the operation", _TAKE_OFF
    ),
    "UNIMPLEMENTED_IN_SM_BACKEND": Failure(PERMANENT, "The storage cannot snapshot a disk of this VM", _TAKE_OFF),
    "SR_HAS_NO_PBDS": Failure(PERMANENT, "The storage repository is not attached", _UNATTACHED),
    "SR_NOT_ATTACHED": Failure(PERMANENT, "The storage repository is not attached", _UNATTACHED),
    "NOT_SUPPORTED_DURING_UPGRADE": Failure(PERMANENT, "The pool is being upgraded", "Finish the upgrade."),
    "LICENCE_RESTRICTION": Failure(
        OPERATOR,
        "The pool's licence does not include the operation",
        "Compare the licences of the hosts: xe host-list params=name-label,edition,license-params.",
    ),
    "MESSAGE_PARAMETER_COUNT_MISMATCH": Failure(
        OPERATOR,
        "The server cannot leave a disk out of a snapshot",
        "Upgrade the pool, or leave no disk of the VM out: %s; and no name by the setting skip_disks." % _LEAVE_IN,
    ),
    "MESSAGE_REMOVED": Failure(OPERATOR, "The server no longer has this call", _SET_TYPE),
    "RBAC_PERMISSION_DENIED": Failure(
        OPERATOR, "The session lacks the permission", "Run it in dom0 of the coordinator."
    ),
    "TASK_CANCELLED": Failure(PERMANENT, "The operation was cancelled", _AGAIN),
    "SR_FULL": _FULL,
    "SR_SUSPEND_SPACE_INSUFFICIENT": _FULL._replace(sentence="The storage repository for the memory of VMs is full"),
    "SR_BACKEND_FAILURE_44": _FULL,
    "SR_BACKEND_FAILURE_46": Failure(PERMANENT, "A disk of the VM is missing from its storage", _SM),
    "SR_BACKEND_FAILURE_47": Failure(PERMANENT, "The storage repository is not available", _SM),
    "SR_BACKEND_FAILURE_65": Failure(PERMANENT, "A disk of the VM cannot be read", _SM),
    "SR_BACKEND_FAILURE_81": Failure(PERMANENT, "The storage could not make the snapshot", _SM),
    "SR_BACKEND_FAILURE_82": Failure(PERMANENT, "The storage could not make the snapshot", _SM),
    "SR_BACKEND_FAILURE_109": Failure(
        OPERATOR,
        "The disk's chain of snapshots is too long",
        "Keep fewer (%s, then vmss prune --policy SCHEDULE), delete other snapshots of the VM, and give the storage "
        "time to coalesce." % _FEWER,
    ),
    "VMSS_OPERATION_TIMED_OUT": Failure(
        OUTCOME_UNKNOWN,
        "The operation did not end in time",
        "Find its task: xe task-list. If it is only slow, raise snapshot_limit or checkpoint_limit: "
        "xe pool-param-set other-config:vmss:snapshot_limit=N uuid=POOL.",
    ),
    "VMSS_RUN_TIMED_OUT": Failure(
        PERMANENT,
        "The run reached its time limit before it came to this VM",
        "Spread the schedules: vmss next. Or raise the limit: "
        "xe pool-param-set other-config:vmss:pass_limit=N uuid=POOL.",
    ),
    "VMSS_STORAGE_STUCK": Failure(
        OUTCOME_UNKNOWN,
        "Another operation reached its limit on the storage or the host that this VM needs",
        "See to the VM whose uuid is in the error first: find its task with: xe task-list.",
    ),
    "VMSS_OVERTAKEN_BY_NEXT_SLOT": Failure(
        OUTCOME_UNKNOWN,
        "The snapshot of the slot before had not ended when the next slot came",
        "Find the task that hangs with: xe task-list.",
    ),
    "VMSS_RUN_STOPPED": Failure(
        PERMANENT,
        "The run was stopped before the VM had its snapshot",
        "Snapshot the VMs that have none of the latest slot: vmss run --policy SCHEDULE --missing.",
    ),
    "VMSS_NO_ROOM": Failure(
        OPERATOR,
        "The storage repository has less room than the setting room_reserve wants to stay free",
        "See what occupies it: xe vdi-list sr-uuid=UUID; free space on it, or keep fewer (%s, then "
        "vmss prune --policy SCHEDULE), or lower the reserve: "
        "xe pool-param-set other-config:vmss:room_reserve=N uuid=POOL." % _FEWER,
    ),
    "VMSS_CHAIN_TOO_LONG": Failure(
        OPERATOR,
        "A disk's chain of images is as long as the setting chain_limit allows",
        "Delete other snapshots of the VM, keep fewer (%s, then vmss prune --policy SCHEDULE), and give the storage "
        "time to coalesce; or raise the limit: xe pool-param-set other-config:vmss:chain_limit=N uuid=POOL." % _FEWER,
    ),
    "VMSS_ALL_DISKS_NEEDED": Failure(
        PERMANENT,
        "A disk of the VM is to be left out, and only a plain snapshot can do that",
        "Let the schedule take its snapshots without memory: %s; or leave no disk of it out: %s; and no name by the "
        "setting skip_disks." % (_NO_MEMORY, _LEAVE_IN),
    ),
    "VMSS_HOOK_FAILED": Failure(
        PERMANENT,
        "A hook before the snapshot has failed, and hook_error = skip",
        "What it said is in /var/log/VMSSlog. Mend it, then: vmss run --policy SCHEDULE --missing. Or have snapshots "
        "taken all the same: hook_error = continue in /etc/vmss.conf.",
    ),
    "VMSS_UNREADABLE_RECORD": Failure(
        PERMANENT, "The VM's record cannot be understood", "Read it with: xe vm-param-list uuid=VM."
    ),
    "VMSS_RESULT_LOST": Failure(
        OUTCOME_UNKNOWN, "xapi lost the result of the operation", "See /var/log/xensource.log."
    ),
    "VMSS_SNAPSHOT_MISSING": Failure(
        OUTCOME_UNKNOWN, "xapi says that the snapshot was taken, and the VM has none", "See /var/log/xensource.log."
    ),
    "VMSS_SNAPSHOT_UNFIT": Failure(
        PERMANENT,
        "The new snapshot lacks something, and nothing of the VM was deleted for it",
        "Delete it, its uuid is in the error (xe snapshot-uninstall uuid=UUID force=true), and take another: "
        "vmss run --policy SCHEDULE --missing.",
    ),
    "VMSS_SNAPSHOT_NOT_READ_BACK": Failure(
        OUTCOME_UNKNOWN,
        "The new snapshot could not be read back, and nothing of the VM was deleted for it",
        "See /var/log/xensource.log.",
    ),
    "VMSS_VM_LEFT_SUSPENDED": Failure(
        PERMANENT,
        "The VM ran, and its checkpoint has left it suspended",
        "Resume it: xe vm-resume uuid=UUID. If an operation is still in progress on it, end that first: "
        "xe-toolstack-restart on the host where the VM ran. If its memory is gone, it can only be started anew: "
        "xe vm-shutdown force=true uuid=UUID, then xe vm-start uuid=UUID.",
    ),
}

# Errors that no later try changes: somebody has to change the VM, its disks, the schedule or the licence first.
_LASTING = {
    "HANDLE_INVALID",
    "UUID_INVALID",
    "OPERATION_BLOCKED",
    "VM_IS_TEMPLATE",
    "VM_IS_IMMOBILE",
    "VM_LACKS_FEATURE",
    "VM_HAS_PCI_ATTACHED",
    "VM_HAS_VGPU",
    "VM_HAS_VUSBS",
    "VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED",
    "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION",
    "VDI_IS_SHARABLE",
    "VDI_NOT_MANAGED",
    "SR_OPERATION_NOT_SUPPORTED",
    "UNIMPLEMENTED_IN_SM_BACKEND",
    "SR_BACKEND_FAILURE_46",
    "SR_BACKEND_FAILURE_109",
    "LICENCE_RESTRICTION",
    "MESSAGE_PARAMETER_COUNT_MISMATCH",
    "MESSAGE_REMOVED",
    "RBAC_PERMISSION_DENIED",
    "VMSS_ALL_DISKS_NEEDED",
    "VMSS_UNREADABLE_RECORD",
    # Each try would leave one more of them.
    "VMSS_SNAPSHOT_UNFIT",
}


def may_pass(error: Sequence[str]) -> bool:
    """Whether an operation that failed with this XAPI error array can succeed later by itself."""
    return bool(error) and error[0] not in _LASTING


def failure_of(error: Sequence[str], vm: str = "", schedule: str = "", pool: str = "") -> Failure:
    """Given a XAPI error array, return its kind, sentence and next step. `vm`, `schedule` and `pool` are the uuids that
    the next step's commands are to have, where they are known. UUID stands for the one that the error names, else for
    the VM's."""
    failure = _failure_of(error)
    remedy = failure.remedy
    named = error[1] if len(error) > 1 and is_uuid(error[1]) else vm
    for word, uuid in (("VM", vm), ("SCHEDULE", schedule), ("POOL", pool), ("UUID", named)):
        if is_uuid(uuid):
            remedy = remedy.replace("uuid=" + word, "uuid=" + uuid).replace("policy " + word, "policy " + uuid)
    return failure._replace(remedy=remedy)


def _failure_of(error: Sequence[str]) -> Failure:
    code = error[0] if error else ""
    if code in ("SR_BACKEND_FAILURE_78", "SR_BACKEND_FAILURE_81", "SR_BACKEND_FAILURE_82") and _no_space(error):
        return _FULL
    if code in CATALOGUE:
        return CATALOGUE[code]
    if code.startswith("SR_BACKEND_FAILURE"):
        return Failure(PERMANENT, "The storage reports an error", _SM)
    return Failure(PERMANENT, "xapi reports %s" % (code or "an error without a code"), "See /var/log/xensource.log.")


def _no_space(error: Sequence[str]) -> bool:
    """Whether the storage is full: file-based storage reports errno 28 in the text of another error."""
    text = " ".join(error[1:])
    return "error 28" in text or "No space" in text
