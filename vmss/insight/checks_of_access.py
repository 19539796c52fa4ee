"""The check whether each SR of a VM's disks and CDs is attached where the VM's snapshot is taken."""

from typing import Iterator, Mapping, Sequence, Tuple

from vmss.core.text import quoted
from vmss.core.words import counted, listed
from vmss.edges.access import Blocked
from vmss.insight.findings import WARNING, Finding
from vmss.insight.names import called, first_names
from vmss.insight.unfit import Examined


def unattached(groups: Sequence[Blocked], vms: Mapping[str, Examined]) -> Iterator[Tuple[Finding, int]]:
    """Findings about SRs that are not attached where these VMs need them, one for all VMs that need the same; and the
    number of these VMs."""
    for found in groups:
        group = [vms[ref] for ref in found.vms]
        names = [str(item.record["name_label"]) for item in group]
        who = quoted(names[0]) if len(group) == 1 else counted(len(group), "VM")
        policies = listed(sorted({called(item.policy) for item in group}))
        text = "%s of %s cannot be snapshotted: %s" % (who, policies, found.text)
        yield Finding(WARNING, "VMs", text, "%s: %s" % (found.code, first_names(names)), found.remedy), len(group)
