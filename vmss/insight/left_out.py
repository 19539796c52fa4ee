"""Which VMs have disks that their snapshots leave out on purpose: by a key on the disk, or by a setting."""

from typing import Dict, List, Mapping

from vmss.core.coverage import LeftOut
from vmss.core.ways import left_out
from vmss.edges.query import where
from vmss.edges.settings import Settings
from vmss.edges.storage import read_disks, read_marked
from vmss.edges.xapi import Xapi, understood
from vmss.insight.unfit import Examined

# Upper limit on the disks that are left out and whose VMs are looked for.
_DISKS_MAX = 1000


def read(xapi: Xapi, vms: Mapping[str, Examined], settings: Settings) -> Dict[str, LeftOut]:
    """Those of these VMs, by their references, with such disks."""
    ways = {ref: settings.ways(vm.policy) for ref, vm in vms.items()}
    prefixes = tuple(sorted({prefix for way in ways.values() for prefix in way.skip_disks}))
    suspects = _users(xapi, read_marked(xapi, prefixes)[:_DISKS_MAX], vms)
    disks = read_disks(xapi, suspects).of
    found = {}
    for ref in suspects:
        out = left_out(disks.get(ref, []), ways[ref])
        if out:
            marked = tuple(disk.uuid for disk in out if not left_out([disk._replace(skip=False)], ways[ref]))
            found[ref] = LeftOut(tuple(disk.name or disk.uuid for disk in out), len(disks[ref]), marked)
    return found


@understood("VBD")
def _users(xapi: Xapi, disks: List[str], vms: Mapping[str, Examined]) -> List[str]:
    return sorted({str(vbd["VM"]) for _, vbd in where(xapi, "VBD", "VDI", disks)}.intersection(vms))
