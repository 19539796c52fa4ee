"""What went wrong, by the error code of XAPI: its kind, a plain sentence and what to do about it.

xapi's data model documents the codes and their parameters; what xapi sends differs (docs/xapi-facts.md, Errors).
"""

from typing import NamedTuple, Sequence

TRANSIENT = "transient"  # busy: try again
PERMANENT = "permanent"  # this VM, this time: report it
OUTCOME_UNKNOWN = "unknown"  # no answer, or a deadline passed: look at the pool before deciding anything
OPERATOR = "operator"  # licence or configuration: somebody has to change something


class Failure(NamedTuple):
    """A kind, one sentence without a full stop, and the next step of the reader."""

    kind: str
    sentence: str
    remedy: str


_FULL = Failure(
    OPERATOR,
    "The storage repository is full",
    "Free space on it: delete snapshots or disks, lower the retention, or extend it; coalescing needs space too.",
)
_GONE = Failure(PERMANENT, "The object is gone", "Nothing to do if it was deleted on purpose.")
_SM = "See /var/log/SMlog on the coordinator."

CATALOGUE = {
    "OTHER_OPERATION_IN_PROGRESS": Failure(
        TRANSIENT, "Another operation holds the object", "Wait, or find it with: xe task-list."
    ),
    "TOO_MANY_PENDING_TASKS": Failure(TRANSIENT, "Too many operations wait in xapi", "Find them with: xe task-list."),
    "VDI_IN_USE": Failure(TRANSIENT, "The disk is in use", "See which VM uses it: xe vbd-list vdi-uuid=UUID."),
    "HOST_STILL_BOOTING": Failure(TRANSIENT, "xapi is still starting", "Wait for it."),
    "CANNOT_CONTACT_HOST": Failure(TRANSIENT, "A host of the pool does not answer", "Check the host and its network."),
    "HOST_OFFLINE": Failure(PERMANENT, "The VM's host is offline", "Bring the host back."),
    "NO_HOSTS_AVAILABLE": Failure(
        PERMANENT,
        "No host sees all storage repositories of the VM",
        "Check that they are plugged on a live host: xe pbd-list sr-uuid=UUID.",
    ),
    "HANDLE_INVALID": _GONE,
    "UUID_INVALID": _GONE,
    "VM_BAD_POWER_STATE": Failure(PERMANENT, "The VM is in the wrong power state", "Start or stop it."),
    "OPERATION_BLOCKED": Failure(
        PERMANENT,
        "An administrator has blocked the operation on this VM",
        "Unblock it: xe vm-param-remove param-name=blocked-operations param-key=OPERATION uuid=UUID.",
    ),
    "OPERATION_NOT_ALLOWED": Failure(PERMANENT, "The operation is not allowed", "See the reason given."),
    "VM_IS_IMMOBILE": Failure(PERMANENT, "The VM cannot be suspended", "Use a schedule of type snapshot."),
    "VM_LACKS_FEATURE": Failure(PERMANENT, "The VM lacks the guest tools", "Install them, or use type snapshot."),
    "VM_NON_SUSPENDABLE": Failure(PERMANENT, "The guest cannot be suspended now", "Use type snapshot."),
    "VM_HAS_PCI_ATTACHED": Failure(PERMANENT, "The VM has a PCI device", "Use a schedule of type snapshot."),
    "VM_HAS_VGPU": Failure(PERMANENT, "The VM has a virtual GPU", "Use a schedule of type snapshot."),
    "VM_HAS_VUSBS": Failure(PERMANENT, "The VM has a USB device", "Detach it, or take the VM off the schedule."),
    "VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED": Failure(
        OPERATOR, "The pool has no quiesced snapshots", "Set the schedule's type to snapshot."
    ),
    "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION": Failure(
        PERMANENT, "A disk of the VM is reset on boot", "Take the VM off the schedule, or set on-boot=persist."
    ),
    "VDI_IS_SHARABLE": Failure(PERMANENT, "A disk of the VM is shared", "Take the VM off the schedule."),
    "VDI_NOT_MANAGED": Failure(PERMANENT, "The disk belongs to the storage layer", "Nothing to do."),
    "SR_OPERATION_NOT_SUPPORTED": Failure(
        PERMANENT, "The storage repository cannot do this", "Move the disk, or take the VM off the schedule."
    ),
    "UNIMPLEMENTED_IN_SM_BACKEND": Failure(
        PERMANENT, "The storage cannot snapshot a disk of this VM", "Move the disk, or take the VM off the schedule."
    ),
    "SR_HAS_NO_PBDS": Failure(PERMANENT, "The storage repository is not plugged", "Plug it: xe pbd-plug uuid=UUID."),
    "NOT_SUPPORTED_DURING_UPGRADE": Failure(PERMANENT, "The pool is being upgraded", "Finish the upgrade."),
    "LICENCE_RESTRICTION": Failure(OPERATOR, "The pool's licence does not include this", "Check the licence."),
    "MESSAGE_REMOVED": Failure(OPERATOR, "The server no longer has this call", "Set the schedule's type to snapshot."),
    "RBAC_PERMISSION_DENIED": Failure(OPERATOR, "The session may not do this", "Run it in dom0 of the coordinator."),
    "TASK_CANCELLED": Failure(PERMANENT, "The operation was cancelled", "See who cancelled it in XenCenter's log."),
    "SR_FULL": _FULL,
    "SR_BACKEND_FAILURE_44": _FULL,
    "SR_BACKEND_FAILURE_46": Failure(PERMANENT, "A disk of the VM is missing from its storage", _SM),
    "SR_BACKEND_FAILURE_47": Failure(PERMANENT, "The storage repository is not available", _SM),
    "SR_BACKEND_FAILURE_65": Failure(PERMANENT, "A disk of the VM cannot be read", _SM),
    "SR_BACKEND_FAILURE_81": Failure(PERMANENT, "The storage could not make the snapshot", _SM),
    "SR_BACKEND_FAILURE_82": Failure(PERMANENT, "The storage could not make the snapshot", _SM),
    "SR_BACKEND_FAILURE_109": Failure(
        OPERATOR,
        "The disk's chain of snapshots is too long",
        "Delete snapshots of the VM and give the storage time to coalesce; lower the retention.",
    ),
    "VMSS_OPERATION_TIMED_OUT": Failure(
        OUTCOME_UNKNOWN,
        "The operation did not end in time",
        "Look at its task: xe task-list; raise the limit if it was slow.",
    ),
    "VMSS_RUN_TIMED_OUT": Failure(
        PERMANENT,
        "The whole run did not end in time, and did not come to this VM",
        "See what took so long in /var/log/VMSSlog; spread the schedules, or raise pass_limit.",
    ),
    "VMSS_UNREADABLE_RECORD": Failure(
        PERMANENT, "The VM's record cannot be understood", "Look at it: xe vm-param-list uuid=UUID."
    ),
    "VMSS_RESULT_LOST": Failure(
        OUTCOME_UNKNOWN, "xapi lost the result of the operation", "See /var/log/xensource.log."
    ),
}


def explain(error: Sequence[str]) -> Failure:
    """Given a XAPI error array, return what is known of it."""
    code = error[0] if error else ""
    if code in ("SR_BACKEND_FAILURE_81", "SR_BACKEND_FAILURE_82") and _no_space(error):
        return _FULL
    found = CATALOGUE.get(code)
    if found:
        return found
    if code.startswith("SR_BACKEND_FAILURE"):
        return Failure(PERMANENT, "The storage reports an error", _SM)
    return Failure(PERMANENT, "xapi reports %s" % (code or "an error without a code"), "See /var/log/xensource.log.")


def _no_space(error: Sequence[str]) -> bool:
    """File based storage reports a full file system as errno 28 inside the text of another error."""
    text = " ".join(error[1:])
    return "error 28" in text or "No space" in text
