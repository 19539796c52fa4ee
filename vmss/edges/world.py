"""The pool and its policies, as a pass reads them: all that an idle tick needs to know."""

from typing import List, Mapping, Tuple

from vmss.core.policy import Policy, PolicyError, from_record
from vmss.core.records import NULL, Pool
from vmss.core.text import is_uuid, one_line
from vmss.edges.xapi import Xapi, understood


@understood("pool")
def read_pool(xapi: Xapi) -> Pool:
    """The pool; there is always exactly one."""
    records = xapi.call("pool.get_all_records")
    ref, record = next(iter(records.items()))
    suspend_sr = record["suspend_image_SR"]
    if not is_uuid(record["uuid"]):  # it becomes the name of the lock
        raise ValueError(record["uuid"])
    return Pool(
        ref=ref,
        uuid=str(record["uuid"]),
        coordinator=str(record["master"]),
        other_config=dict(record["other_config"]),
        # For xapi, a missing key is a restriction too (ocaml/xapi-types/features.ml).
        licensed=record["restrictions"].get("restrict_vmss") == "false",
        # What a client has set to an empty text stays one, and is no reference either.
        suspend_sr=str(suspend_sr if suspend_sr not in ("", NULL) else record["default_SR"] or NULL),
        name=str(record.get("name_label", "")),
    )


@understood("VMSS")
def read_policies(xapi: Xapi) -> Tuple[List[Policy], List[Tuple[str, str]]]:
    """The policies, by name; and the uuid of each that cannot be understood, with the reason."""
    policies, errors = [], []
    for ref, record in xapi.call("VMSS.get_all_records").items():
        try:
            policies.append(from_record(ref, record))
        except PolicyError as error:
            uuid = record.get("uuid", ref) if isinstance(record, Mapping) else ref
            errors.append((one_line(str(uuid)), str(error)))
    return sorted(policies, key=lambda policy: (policy.name, policy.uuid)), sorted(errors)
