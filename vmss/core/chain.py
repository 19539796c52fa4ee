"""The chain of images that a disk is made of: how long it is, and how much of it waits to be coalesced.

Each snapshot makes the disk's image longer by one, until its storage has merged what no snapshot needs any more. Of a
chain that has LIMIT images no snapshot can be taken (docs/xapi-facts.md, Chains of VHDs).
"""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

# sm: MAX_CHAIN_SIZE. A snapshot of a disk whose chain is as long fails with SR_BACKEND_FAILURE_109.
LIMIT = 30
# A run leaves one image to be merged for each snapshot that it deletes: mostly one.
_BEHIND = 2


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
    children = _children(images)
    found = {}
    for disk in disks:
        line = _line(disk, images)
        merged = _merged(line, images, children)
        found[disk] = Chain(len(line), len(merged), sum(image.bytes for image in merged))
    return found


def expected(chain: Chain, times: int, expire: int) -> int:
    """How long a chain is after so many more snapshots, while so many expire. Where more waits than one run leaves, the
    storage may be behind: then nothing is expected to be merged."""
    if chain.waiting > _BEHIND:
        return chain.length + times
    return chain.length - chain.waiting + times - expire


def written(disk: str, images: Mapping[str, Image], snapshots: int) -> Optional[int]:
    """What was written to a disk between two of its snapshots, in bytes, in the mean of those that exist; None if there
    are not two. The base copy at the end of the chain is none of these: it has what was written before, too."""
    between = [images[uuid] for uuid in _line(disk, images)[1:-1]]
    if not between or snapshots < 2:
        return None
    # Where nothing was written a snapshot makes no base copy.
    return sum(image.bytes for image in between) // max(len(between), snapshots - 1)


def waiting(disks: Sequence[str], images: Mapping[str, Image]) -> List[str]:
    """The uuids of the images in the chains of these disks that wait to be merged, each once. Once its storage has
    merged an image, there is none of its uuid any more."""
    children = _children(images)
    found = {image.uuid for disk in disks for image in _merged(_line(disk, images), images, children)}
    return sorted(found)


def _children(images: Mapping[str, Image]) -> Dict[str, int]:
    """How many images build on each."""
    children: Dict[str, int] = {}
    for image in images.values():
        children[image.parent] = children.get(image.parent, 0) + 1
    return children


def _line(disk: str, images: Mapping[str, Image]) -> List[str]:
    """The uuids of the images of a disk, its own first."""
    seen = [disk]
    while seen[-1] in images and images[seen[-1]].parent in images and images[seen[-1]].parent not in seen:
        seen.append(images[seen[-1]].parent)
    return seen


def _merged(line: Sequence[str], images: Mapping[str, Image], children: Mapping[str, int]) -> List[Image]:
    """Those of a chain that wait to be merged into the next one."""
    pairs = [(images[one], images[following]) for one, following in zip(line, line[1:])]
    return [child for child, parent in pairs if child.base_copy and parent.base_copy and children[parent.uuid] == 1]
