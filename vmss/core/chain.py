"""The chain of images that a disk is made of: how long it is, and how much of it waits to be coalesced.

Each snapshot makes the disk's image longer by one, until its storage has merged what no snapshot needs any more. Of a
chain that has LIMIT images no snapshot can be taken (docs/xapi-facts.md, Chains of VHDs).
"""

from typing import Dict, Mapping, NamedTuple, Sequence

# sm: MAX_CHAIN_SIZE. A snapshot of a disk whose chain is as long fails with SR_BACKEND_FAILURE_109.
LIMIT = 30


class Image(NamedTuple):
    """The image of a VDI: the uuid of the image that it builds on, if it builds on one; whether it is a base copy,
    which belongs to the storage; and what it occupies, in bytes."""

    uuid: str
    parent: str = ""
    base_copy: bool = False
    bytes: int = 0


class Chain(NamedTuple):
    """A disk's chain: the number of its images, the disk's own among them; and those of them, with their bytes, that
    wait to be merged: base copies that only one other image builds on, which is a base copy too."""

    length: int
    waiting: int = 0
    bytes: int = 0


def chains(disks: Sequence[str], images: Mapping[str, Image]) -> Dict[str, Chain]:
    """The chains of these disks, by their uuids, given all images that are known. A chain ends where an image is not
    known; one that turns in a circle ends there."""
    children: Dict[str, int] = {}
    for image in images.values():
        children[image.parent] = children.get(image.parent, 0) + 1
    return {disk: _chain(disk, images, children) for disk in disks}


def _chain(disk: str, images: Mapping[str, Image], children: Mapping[str, int]) -> Chain:
    seen = [disk]
    waiting = occupied = 0
    while seen[-1] in images and images[seen[-1]].parent in images and images[seen[-1]].parent not in seen:
        child, parent = images[seen[-1]], images[images[seen[-1]].parent]
        if parent.base_copy and child.base_copy and children[parent.uuid] == 1:
            waiting, occupied = waiting + 1, occupied + child.bytes
        seen.append(parent.uuid)
    return Chain(len(seen), waiting, occupied)
