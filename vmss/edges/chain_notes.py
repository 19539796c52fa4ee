"""Notes of images that wait to be coalesced: in their SR's other_config, so that one can see when none of them goes.

An image that waits goes on waiting until its storage has merged it; then it is gone. So a few of them, and since when
they are noted, tell whether an SR coalesces at all, without a look at all of its disks.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.chain import waiting
from vmss.core.datetimes import EPOCH
from vmss.core.text import is_uuid
from vmss.edges.chains import read_images
from vmss.edges.query import where
from vmss.edges.storage import read_disks
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Xapi

_KEY = "vmss:waiting"
# So many VMs are looked at, and so many images are noted.
_VMS_MAX = 8
_IMAGES_MAX = 8


class Waiting(NamedTuple):
    """Images, by their uuids, that were waiting to be coalesced at an instant."""

    since: datetime
    images: Tuple[str, ...]


def waiting_of(other_config: Any) -> Optional[Waiting]:
    """What an SR's other_config notes; None if it notes nothing, or what cannot be understood."""
    text = other_config.get(_KEY, "") if isinstance(other_config, Mapping) else ""
    since, *images = str(text).split()[: 1 + _IMAGES_MAX] or [""]
    if not images or not all(map(is_uuid, images)):
        return None
    try:
        return Waiting(EPOCH + timedelta(seconds=int(since)), tuple(images))
    except (ValueError, OverflowError):
        return None


def all_wait(xapi: Xapi, noted: Waiting) -> bool:
    """Whether all of these images still wait: then nothing of them has been coalesced since."""
    return len(list(where(xapi, "VDI", "uuid", noted.images, 'field "managed" = "false"'))) == len(noted.images)


def note_waiting(xapi: Xapi, sr: str, vms: Sequence[str], now: datetime) -> None:
    """Note images of an SR that wait now, of the disks of these VMs, unless all that are noted already wait still."""
    with suppress(Refused, Misunderstood, *MISREAD):
        noted = waiting_of(xapi.call("SR.get_other_config", sr))
        # After the clock was set back the note lies ahead.
        if noted is not None and noted.since <= now and all_wait(xapi, noted):
            return
        found = _read(xapi, sr, vms)
        if found or noted is not None:
            xapi.call("SR.remove_from_other_config", sr, _KEY)
        if found:
            text = " ".join(["%d" % (now - EPOCH).total_seconds(), *found])
            xapi.call("SR.add_to_other_config", sr, _KEY, text)


def _read(xapi: Xapi, sr: str, vms: Sequence[str]) -> List[str]:
    """Some of the images that wait."""
    disks = [disk for of in read_disks(xapi, vms[:_VMS_MAX]).of.values() for disk in of if disk.sr == sr]
    images = read_images(xapi, disks, snapshots=True)
    return waiting([disk.uuid for disk in disks], images)[:_IMAGES_MAX]
