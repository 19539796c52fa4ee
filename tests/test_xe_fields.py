"""The fields of `vmss xe`: their names, order and marks, against what a real xe showed and what xapi's data model says.

The recordings have all fields of schedules only. What was seen of VMs, snapshots and hosts is in
docs/xapi-facts.md, Which fields xe has.
"""

import re
from typing import Dict, List

import pytest

from tests import test_xe, xe_model
from tests.documents import ROOT
from tests.front import Front
from tests.pool import TestPool
from tests.test_xe import GOLDEN, do
from vmss.xe import names
from vmss.xe.classes import BY_NAME, CLASSES
from vmss.xe.fields import HIDDEN, LIST, MAP, SET, TABLE
from vmss.xe.model import MEMBERS
from vmss.xe.names import FIELDS

here = test_xe.here

# Fields that newer servers have, in xe's order; once they were missing here.
NEWER = [
    "actions-after-softreboot",
    "numa-optimised",
    "numa-nodes",
    "numa-node-memory",
    "netbios-name",
    "services",
    "groups",
    "secureboot-certificates-state",
    "pending-guidances-recommended",
    "pending-guidances-full",
]


def labels(out: str) -> List[str]:
    """The names and marks of the fields of the first record in an output."""
    lines = out.split("\n\n\n")[0].splitlines()
    return [re.sub(r"^ *(\S+ +\(...\)(?: \[DEPRECATED\])?) *:.*", r"\1", line) for line in lines]


def expected(name: str) -> List[str]:
    return [field.label for field in BY_NAME[name].fields if field.seen != HIDDEN]


def test_the_extract_is_that_of_the_data_model() -> None:
    model = ROOT / "vmss" / "xe" / "model.py"
    assert model.read_text("utf-8") == xe_model.text(), "python -m tests.xe_model >vmss/xe/model.py"


def test_all_fields_of_a_class_in_order_and_with_their_marks() -> None:
    """Of each class that has a recording of all of them."""
    whole = {
        recorded["argv"][0].split("-")[0]: recorded["stdout"]
        for recorded in GOLDEN
        if recorded["argv"][0].endswith("-param-list") and recorded["status"] == 0
    }
    assert list(whole) == ["vmss"]
    for name, out in whole.items():
        assert labels(out) == expected(name)


def test_the_fields_that_were_recorded_are_in_order_and_have_their_marks() -> None:
    """Also those of classes of which only some were listed."""
    seen: Dict[str, int] = {}
    for recorded in GOLDEN:
        name, _, verb = recorded["argv"][0].partition("-")
        if verb == "list" and recorded["stdout"].strip() and "--minimal" not in recorded["argv"]:
            found, all_of_them = labels(recorded["stdout"]), expected(name)
            assert [label for label in all_of_them if label in found] == found, recorded["argv"]
            seen[name] = seen.get(name, 0) + 1
    assert set(seen) == {"vmss", "vm", "snapshot"}


def test_what_a_real_xe_showed_of_vms_snapshots_and_hosts(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    vm = here.vm("vm", [here.sr()], running=True)
    here.call("VM.snapshot", vm, "s")
    for name in ("vm", "snapshot"):
        shown = labels(do(capfdbinary, name + "-list", "is-control-domain=false", "params=all").out)
        assert [word for word in (label.split()[0] for label in shown) if word in NEWER] == NEWER
        assert shown == expected(name)
    host = {label.split()[0]: label for label in labels(do(capfdbinary, "host-list", "params=all").out)}
    assert host["hostname"] == "hostname ( RO)" and host["address"] == "address ( RO)"
    uuid = "uuid=" + here.uuid("host", here.host)
    assert "read-only" in do(capfdbinary, "host-param-set", uuid, "address=192.0.2.9").err
    gone = do(capfdbinary, "host-param-get", uuid, "param-name=license-params")
    assert gone.status == 1 and "license-params" in gone.err
    # A word after database: that xe does not know has no effect.
    assert do(capfdbinary, "vm-list", "database:vdis=1", "--minimal").out == do(capfdbinary, "vm-list", "--minimal").out


def test_every_object_of_every_class_shows_all_its_fields(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    """And of what xe reads with calls of its own, nothing stops it on a pool of ours."""
    vm = here.vm("vm", [here.sr()], running=True)
    here.call("VM.snapshot", vm, "s")
    here.policy([vm])
    here.call("message.create", "N", 1, "VM", here.uuid("VM", vm), "body")
    for cls in CLASSES:
        listed = do(capfdbinary, cls.name + "-list", "params=all")
        assert listed.status == 0, listed.err
        uuids = do(capfdbinary, cls.name + "-list", "--minimal").out.strip().split(",")
        if uuids != [""]:
            whole = do(capfdbinary, cls.name + "-param-list", "uuid=" + uuids[0])
            assert whole.status == 0 and "<expensive field>" not in whole.out, whole.err
            assert labels(whole.out) == [label for label in expected(cls.name) if label in labels(whole.out)]
            assert len(labels(whole.out)) > len(expected(cls.name)) - 8
        else:
            assert cls.name in ("template", "task")


def test_an_older_server_has_fewer_fields(
    pool: TestPool, monkeypatch: pytest.MonkeyPatch, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    """Neither a member of the record nor one of the records that it refers to is made up."""

    def older(method: str, body: bytes) -> bytes:
        return body.replace(b'"groups":', b'"-":').replace(b'"numa_nodes":', b'"-":')

    Front(str(pool.folder / "front"), pool.socket, rewrite=older)
    monkeypatch.setenv("VMSS_XAPI", "unix:" + str(pool.folder / "front"))
    pool.vm("vm")
    words = ("vm-list", "is-control-domain=false", "params=name-label,groups,numa-nodes,numa-optimised")
    shown = do(capfdbinary, *words)
    assert [label.split()[0] for label in labels(shown.out)] == ["name-label", "numa-optimised"], shown.err
    assert do(capfdbinary, "vm-list", "numa-nodes=1").out == ""


def test_no_field_is_named_twice() -> None:
    for text in FIELDS.values():
        assert len(text.split()) == len(set(text.split()))


def test_no_exception_is_idle() -> None:
    """Each names a field, and breaks a rule: what a rule says already is no exception."""
    for table in (names.READ_ONLY, names.WHOLE, names.COSTLY, names.HIDDEN, names.DEPRECATED):
        for api, text in table.items():
            assert set(text.split()) <= set(FIELDS[api].split()), api
    fields = {(cls.api, field.name): field for cls in CLASSES for field in cls.fields}
    for api, text in names.READ_ONLY.items():
        for name in text.split():
            field = fields[api, name]
            member = next(item for item in MEMBERS[api].split("; ") if item.split()[0] == field.member)
            assert member.endswith("+" if field.holds in (MAP, SET) else ("=", "=+")), (api, name)
    assert all(fields[api, name].holds in (LIST, TABLE) for api, text in names.WHOLE.items() for name in text.split())


# Sets, maps and references


def test_the_disks_of_a_pool(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    sr = here.sr("storage")
    vm = here.vm("vm", [sr])
    (vbd,) = here.call("VM.get_VBDs", vm)
    vdi = here.call("VBD.get_VDI", vbd)
    disk, storage = here.uuid("VDI", vdi), here.uuid("SR", sr)
    assert do(capfdbinary, "vdi-list", "sr-uuid=" + storage, "--minimal").out == disk + "\n"
    assert do(capfdbinary, "vdi-list", "sr-name-label=storage", "params=sr-name-label,type,vbd-uuids").out == (
        "sr-name-label ( RO)    : storage\n        vbd-uuids (SRO): %s\n             type ( RO): User\n\n\n"
        % here.uuid("VBD", vbd)
    )
    found = do(capfdbinary, "vbd-list", "vdi-uuid=" + disk, "params=vm-name-label,vdi-name-label,mode").out
    assert re.findall(r": (.*)", found) == ["vm", "vm 0", "RW"]
    assert do(capfdbinary, "vbd-list", "vm-name-label=vm", "type=Disk", "--minimal").out.strip() == here.uuid(
        "VBD", vbd
    )
    assert re.findall(r"host .*: (.*)", do(capfdbinary, "sr-list", "uuid=" + storage).out) == [
        here.call("host.get_name_label", here.host)
    ]
    assert "VDI.snapshot" in do(capfdbinary, "sr-param-get", "uuid=" + storage, "param-name=allowed-operations").out
    assert do(capfdbinary, "vdi-param-set", "uuid=" + disk, "other-config:a=b", "on-boot=reset").status == 0
    assert here.call("VDI.get_other_config", vdi)["a"] == "b" and here.call("VDI.get_on_boot", vdi) == "reset"
    assert "read-only" in do(capfdbinary, "vdi-param-set", "uuid=" + disk, "sharable=true").err
    pbd = do(capfdbinary, "pbd-list", "sr-uuid=" + storage, "params=host-uuid,currently-attached").out
    assert re.findall(r": (.*)", pbd) == [here.uuid("host", here.host), "true"]
    drive = here.vbd(vm, "OpaqueRef:NULL", 3, type="CD", mode="RO", empty=True)
    shown = do(capfdbinary, "vbd-list", "uuid=" + here.uuid("VBD", drive), "params=vdi-uuid,vdi-name-label")
    assert re.findall(r": (.*)", shown.out) == ["<not in database>", "<EMPTY>"]


def test_templates_are_neither_vms_nor_snapshots(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm, template = here.vm("vm", [here.sr()]), here.vm("template")
    here.call("VM.snapshot", vm, "s")
    here.call("VM.set_is_a_template", template, True)
    for name, wanted in (("vm", "vm"), ("template", "template"), ("snapshot", "s")):
        found = do(capfdbinary, name + "-list", "is-control-domain=false", "params=name-label", "--minimal").out
        assert wanted in found.strip().split(","), name
        others = {"vm", "template", "s"} - {wanted}
        assert not others & set(found.strip().split(",")), name
