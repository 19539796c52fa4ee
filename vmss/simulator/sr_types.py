"""The types of SRs, as their storage plugins describe themselves (recorded from sm, XenServer's tree)."""

from typing import Dict, List, NamedTuple


class SrType(NamedTuple):
    """One storage plugin, as its SM record describes it. `layout` is the format of its disks: vhd, raw, iso or none."""

    name: str
    label: str
    description: str
    features: List[str]
    layout: str = "vhd"
    thick: bool = False
    configuration: Dict[str, str] = {}
    required_api_version: str = "1.0"

    @property
    def driver(self) -> str:
        """The plugin's file in dom0."""
        names = {"file": "FileSR", "dummy": "DummySR", "lvmoiscsi": "LVMoISCSISR", "lvmohba": "LVMoHBASR"}
        return "/opt/xensource/sm/" + names.get(self.name, self.name.upper() + "SR")


_COMMON = [
    "SR_PROBE", "VDI_ACTIVATE", "VDI_ATTACH", "VDI_CLONE", "VDI_CREATE", "VDI_DEACTIVATE", "VDI_DELETE", "VDI_DETACH",
    "VDI_MIRROR", "VDI_RESIZE", "VDI_SNAPSHOT",
]  # fmt: skip
_FILE = [*_COMMON, "SR_UPDATE", "THIN_PROVISIONING", "VDI_CONFIG_CBT", "VDI_GENERATE_CONFIG"]
_CACHED = [*_FILE, "VDI_READ_CACHING", "VDI_RESET_ON_BOOT", "VDI_UPDATE"]
_LVM = [*_COMMON, "SR_UPDATE", "SR_TRIM", "VDI_CONFIG_CBT", "VDI_GENERATE_CONFIG", "VDI_UPDATE"]
_ISO = ["SR_ATTACH", "SR_DETACH", "SR_SCAN", "VDI_ATTACH", "VDI_CREATE", "VDI_DELETE", "VDI_DETACH"]

_NFS_VERSION = "NFS protocol version - 3, 4, 4.0, 4.1"

SR_TYPES: Dict[str, SrType] = {
    kind.name: kind
    for kind in (
        SrType(
            "ext", "Local EXT3 VHD",
            "SR plugin which represents disks as VHD files stored on a local EXT3 filesystem, created inside an LVM "
            "volume",
            [*_CACHED, "SR_SUPPORTS_LOCAL_CACHING"],
            configuration={"device": "local device path (required) (e.g. /dev/sda3)"},
        ),
        SrType(
            "file", "Local Path VHD", "SR plugin which represents disks as VHD files stored on a local path", _FILE,
            configuration={"location": "local directory path (required)"},
        ),
        SrType(
            "nfs", "NFS VHD", "SR plugin which stores disks as VHD files on a remote NFS filesystem",
            [*_CACHED, "SR_CACHING"],
            configuration={
                "server": "hostname or IP address of NFS server (required)",
                "serverpath": "path on remote server (required)",
                "nfsversion": _NFS_VERSION,
            },
        ),
        SrType("smb", "SMB VHD", "", [*_CACHED, "SR_CACHING"]),
        SrType("lvm", "Local VHD on LVM", "", _LVM, thick=True),
        SrType("lvmoiscsi", "VHD over iSCSI", "", _LVM, thick=True),
        SrType("lvmohba", "VHD over FC", "", _LVM, thick=True),
        SrType(
            "iso", "ISO", "Handles CD images stored as files in iso format", _ISO, "iso",
            configuration={
                "location": "path to mount (required) (e.g. server:/path)",
                "options": "extra options to pass to mount (e.g. '-o ro')",
                "type": "cifs (SMB) or nfs_iso",
                "nfsversion": _NFS_VERSION,
                "vers": "SMB version, default version 3",
                "username": "Username to authenticate to SMB share with, can be domain\\username",
                "cifspassword_secret": "Secret ID containing the password to authenticate to SMB",
                "cifspassword": "Password to authenticate to SMB, (deprecated see cifspassword_secret)",
            },
        ),
        SrType(
            "dummy", "dummy", "SR plugin which manages fake data", [*_COMMON, "VDI_INTRODUCE"], "none",
            required_api_version="1.1",
        ),
    )
}  # fmt: skip

# The versions of features whose version is not 1.
FEATURE_VERSIONS = {"VDI_RESET_ON_BOOT": 2}

# The key that device_config must have, by type.
NEEDED_CONFIG = {"file": "location", "iso": "location"}


def is_thick(kind: str, sm_config: Dict[str, str], device_config: Dict[str, str]) -> bool:
    """Whether an SR allocates disks in full: LVM does, unless configured as thin (sm: libs/sm/drivers/LVHDSR.py)."""
    if kind not in SR_TYPES or not SR_TYPES[kind].thick:
        return False
    return sm_config.get("allocation", device_config.get("allocation", "thick")) != "thin"


def features(kind: str) -> List[str]:
    """The features of an SR type; none for an unknown type."""
    return SR_TYPES[kind].features if kind in SR_TYPES else []
