"""Stands in for xe where tests follow remedies: what `vmss xe` has is its own, the rest are the calls that xe makes
(xen-api: ocaml/xapi-cli-server/cli_operations.ml)."""

import os
import sys
from typing import Callable, Dict, List

from vmss.cli.commands import xe
from vmss.edges.xapi import Xapi
from vmss.xe.commands import COMMANDS

Words = Dict[str, str]


def _ref(xapi: Xapi, cls: str, uuid: str) -> str:
    return str(xapi.call(cls + ".get_by_uuid", uuid))


def _cd_eject(xapi: Xapi, words: Words) -> None:
    vbds = xapi.call("VM.get_VBDs", _ref(xapi, "VM", words["uuid"]))
    (drive,) = [vbd for vbd in vbds if xapi.call("VBD.get_type", vbd) == "CD"]
    xapi.call("VBD.eject", drive)


def _vdi_param_set(xapi: Xapi, words: Words) -> None:
    vdi, ((name, value),) = _ref(xapi, "VDI", words.pop("uuid")), words.items()
    if name == "on-boot":
        xapi.call("VDI.set_on_boot", vdi, value)
    else:
        field, key = name.split(":")
        assert field == "other-config"
        xapi.call("VDI.add_to_other_config", vdi, key, value)


def _listed(cls: str, field: str, of: str) -> Callable[[Xapi, Words], None]:
    def do(xapi: Xapi, words: Words) -> None:
        wanted = _ref(xapi, of, next(iter(words.values())))
        for ref in xapi.call("%s.get_all" % cls):
            if xapi.call("%s.get_%s" % (cls, field), ref) == wanted:
                print("uuid ( RO) : %s" % xapi.call("%s.get_uuid" % cls, ref))

    return do


def _shown(cls: str) -> Callable[[Xapi, Words], None]:
    return lambda xapi, words: print(xapi.call("%s.get_record" % cls, _ref(xapi, cls, words["uuid"])))


def _disk_list(xapi: Xapi, words: Words) -> None:
    for vbd in xapi.call("VM.get_VBDs", _ref(xapi, "VM", words["uuid"])):
        if xapi.call("VBD.get_type", vbd) == "Disk":
            print("uuid ( RO) : %s" % xapi.call("VDI.get_uuid", xapi.call("VBD.get_VDI", vbd)))


def _pbd_create(xapi: Xapi, words: Words) -> None:
    config = {name.split(":", 1)[1]: value for name, value in words.items() if name.startswith("device-config:")}
    sr, host = _ref(xapi, "SR", words["sr-uuid"]), _ref(xapi, "host", words["host-uuid"])
    made = xapi.call("PBD.create", {"SR": sr, "host": host, "device_config": config})
    print(xapi.call("PBD.get_uuid", made))


def _snapshot_uninstall(xapi: Xapi, words: Words) -> None:
    assert words["force"] == "true"  # else it asks
    snapshot = _ref(xapi, "VM", words["uuid"])
    vdis = [xapi.call("VBD.get_VDI", vbd) for vbd in xapi.call("VM.get_VBDs", snapshot)]
    xapi.call("VM.destroy", snapshot)
    for vdi in vdis:
        if vdi in xapi.call("VDI.get_all"):
            xapi.call("VDI.destroy", vdi)


MORE: Dict[str, Callable[[Xapi, Words], None]] = {
    "pbd-plug": lambda xapi, words: xapi.call("PBD.plug", _ref(xapi, "PBD", words["uuid"])),
    "pbd-create": _pbd_create,
    "snapshot-uninstall": _snapshot_uninstall,
    "vm-cd-eject": _cd_eject,
    "vm-shutdown": lambda xapi, words: xapi.call("VM.hard_shutdown", _ref(xapi, "VM", words["uuid"])),
    "vm-start": lambda xapi, words: xapi.call("VM.start", _ref(xapi, "VM", words["uuid"]), False, False),
    "vm-resume": lambda xapi, words: xapi.call("VM.resume", _ref(xapi, "VM", words["uuid"]), False, False),
    "vbd-eject": lambda xapi, words: xapi.call("VBD.eject", _ref(xapi, "VBD", words["uuid"])),
    "vdi-destroy": lambda xapi, words: xapi.call("VDI.destroy", _ref(xapi, "VDI", words["uuid"])),
    "vdi-param-set": _vdi_param_set,
    "vdi-param-list": _shown("VDI"),
    "sr-param-list": _shown("SR"),
    "pbd-list": _listed("PBD", "SR", "SR"),
    "vbd-list": _listed("VBD", "VDI", "VDI"),
    "vm-disk-list": _disk_list,
}


def main(line: List[str]) -> int:
    if line[0] in COMMANDS:
        return xe.main(line)
    xapi = Xapi(os.environ["VMSS_XAPI"])
    xapi.login("root", "")
    try:
        MORE[line[0]](xapi, dict(word.split("=", 1) for word in line[1:]))
    finally:
        xapi.logout()
        xapi.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
