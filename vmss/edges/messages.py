"""The messages about an object, those included that xapi has stored without the links by which it finds them."""

from datetime import datetime, timedelta
from typing import Any, List, Mapping

from vmss.core.datetimes import format_datetime
from vmss.edges.xapi import Xapi


def before(instant: datetime) -> str:
    """What xapi has to be given to answer with the messages from an instant on: it answers with those that are strictly
    later, in whole seconds."""
    return format_datetime(instant - timedelta(seconds=1))


def messages_since(xapi: Xapi, cls: str, uuid: str, after: str) -> List[Mapping[str, Any]]:
    """The messages of an object that are later than an instant. xapi reads all messages of the pool since then, so this
    is for short times and rare questions; message.get finds nearly all of them (docs/xapi-facts.md, message.create).
    """
    records = xapi.call("message.get_since", after).values()
    return [record for record in records if record["cls"] == cls and record["obj_uuid"] == uuid]
