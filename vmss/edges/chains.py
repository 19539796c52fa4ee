"""The images of disks, read level by level: those that they build on, and those of their snapshots."""

from typing import Any, Dict, List, Mapping, Sequence

from vmss.core.chain import LIMIT, Image
from vmss.core.vms import Disk
from vmss.edges.query import int_of, where
from vmss.edges.storage import parent_of
from vmss.edges.xapi import Xapi, understood


@understood("VDI")
def read_images(xapi: Xapi, disks: Sequence[Disk], snapshots: bool = False) -> Dict[str, Image]:
    """The images that these disks are made of, by their uuids; with `snapshots`, those of the disks' snapshots too. A
    query has fifty uuids, whatever the number of disks."""
    images = {disk.uuid: Image(disk.uuid, disk.parent) for disk in disks}
    if snapshots:
        images.update(images_of(where(xapi, "VDI", "snapshot_of", [disk.ref for disk in disks])))
    for _ in range(LIMIT):
        wanted = sorted({image.parent for image in images.values()} - set(images) - {""})
        found = images_of(where(xapi, "VDI", "uuid", wanted)) if wanted else {}
        if not found:
            return images
        images.update(found)
    return images


def images_of(records: Any) -> Dict[str, Image]:
    """The images of these records of disks, each with its reference, by their uuids."""
    found: List[Image] = [_image(record) for _, record in records]
    return {image.uuid: image for image in found}


def _image(record: Mapping[str, Any]) -> Image:
    return Image(
        str(record["uuid"]), parent_of(record), record["managed"] is False, int_of(record["physical_utilisation"])
    )
