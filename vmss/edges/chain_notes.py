"""Notes of images that wait to be coalesced: in their SR's other_config, so that one can see when none of them goes.

An image that its storage has merged is gone. So a few that wait, and since when they are noted, mostly tell whether an
SR coalesces at all, without a look at all of its disks. Before it is said that it does not, all are looked at.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.chain import waiting
from vmss.core.datetimes import EPOCH
from vmss.core.text import is_uuid
from vmss.edges.access import refs_where
from vmss.edges.chains import images_of, read_images
from vmss.edges.query import where
from vmss.edges.storage import read_disks
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Xapi

_KEY = "vmss:waiting"
# So many VMs are looked at, and so many images are noted.
_VMS_MAX = 8
_IMAGES_MAX = 8
# An SR with more images is not looked at as a whole: a record has 1.5 kB on the wire.
_LOOKED_AT_MAX = 20000
# So long something may wait: the collector of a busy repository may take hours. What has waited longer is looked at
# more closely.
LONG = timedelta(days=1)


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


def _all_exist(xapi: Xapi, noted: Waiting) -> bool:
    """Whether all of these images are there: then none of them has been coalesced since."""
    return len(list(where(xapi, "VDI", "uuid", noted.images, 'field "managed" = "false"'))) == len(noted.images)


def all_wait(xapi: Xapi, sr: str, noted: Waiting) -> bool:
    """Whether all of these images of an SR still wait. What has come to build on the image that they would be merged
    into, or a disk that a dying xapi has left there, keeps them from it rightly: so all images of the SR are looked at,
    unless they are very many. Few SRs have images that wait for so long that this is asked."""
    if not _all_exist(xapi, noted):
        return False
    asked = 'field "SR" = "%s"' % sr
    if len(refs_where(xapi, "VDI", asked)) > _LOOKED_AT_MAX:
        return True
    images = images_of(xapi.call("VDI.get_all_records_where", asked).items())
    return set(noted.images) <= set(waiting(noted.images, images))


def note_waiting(xapi: Xapi, sr: str, vms: Sequence[str], now: datetime) -> None:
    """Note images of an SR that wait now, of the disks of these VMs, unless all that are noted already wait still."""
    with suppress(Refused, Misunderstood, *MISREAD):
        noted = waiting_of(xapi.call("SR.get_other_config", sr))
        # After the clock was set back the note lies ahead.
        if noted is not None and noted.since <= now:
            long = now - noted.since >= LONG
            if all_wait(xapi, sr, noted) if long else _all_exist(xapi, noted):
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
