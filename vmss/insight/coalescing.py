"""Coalescing on storage repositories: where it is switched off, and where none of what waits has gone for a day."""

from datetime import datetime
from typing import Any, Iterator, List, Mapping, Sequence

from vmss.core import words
from vmss.core.text import quoted
from vmss.edges.chain_notes import LONG, all_wait, waiting_of
from vmss.edges.storage import named
from vmss.edges.xapi import Refused, Xapi
from vmss.insight.findings import WARNING, Finding
from vmss.insight.names import first_names

_SWITCHES = ("gc", "coalesce")


def stalled(xapi: Xapi, srs: Sequence[str], now: datetime) -> List[Finding]:
    """The storage repositories where images have waited for a day to be coalesced, and none of them has been."""
    return [finding for sr in srs for finding in _stalled(xapi, sr, now)]


def switched_off(xapi: Xapi, sr: str, other_config: Any) -> Iterator[Finding]:
    """By which of its keys coalescing is switched off on a storage repository."""
    for key in _switches(other_config):
        name, uuid = named(xapi, sr)
        yield Finding(
            WARNING,
            "chains",
            "coalescing is switched off on the storage repository %s: what is deleted there frees nothing"
            % quoted(name),
            "other-config:%s=false" % key,
            _switch_on(key, uuid),
        )


def _stalled(xapi: Xapi, sr: str, now: datetime) -> Iterator[Finding]:
    try:
        other_config = xapi.call("SR.get_other_config", sr)
    except Refused:
        return  # it is gone
    noted = waiting_of(other_config)
    if noted is None or now - noted.since < LONG or not all_wait(xapi, sr, noted):
        return
    name, uuid = named(xapi, sr)
    off, count = _switches(other_config), len(noted.images)
    yield Finding(
        WARNING,
        "chains",
        "the storage repository %s has coalesced nothing for %s"
        % (quoted(name), words.duration((now - noted.since).total_seconds())),
        "%s that waited then %s still: %s"
        % (words.counted(count, "image"), words.agree(count, "waits", "wait"), first_names(noted.images)),
        _switch_on(off[0], uuid) if off else "start it: xe sr-scan uuid=%s; SMGC in /var/log/SMlog tells more" % uuid,
    )


def _switches(other_config: Any) -> List[str]:
    if not isinstance(other_config, Mapping):
        return []
    return [key for key in _SWITCHES if other_config.get(key) == "false"]


def _switch_on(key: str, uuid: str) -> str:
    """The remedy where this key switches coalescing off."""
    return "switch it on: xe sr-param-remove param-name=other-config param-key=%s uuid=%s" % (key, uuid)
