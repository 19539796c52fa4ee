"""The package called `vmss` in a root, as rpm knows it, and the commands of rpm that put ours in place."""

import os
import subprocess
from typing import NamedTuple, Optional

from vmss.core.text import one_line
from vmss.installation.root import Root

# The seconds in which rpm has to answer: another one may have locked its database.
RPM_S = 20.0
# Where rpm has its database; newer systems have it in the second place.
_DATABASES = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")

_FILE = "vmss-VERSION-RELEASE.noarch.rpm (packaging/build makes it)"
# The one way to replace the vendor's package: xapi-core requires one of this name, so that rpm removes none.
REPLACE_VENDORS = "put our RPM in its place, for xapi-core requires a package of this name: rpm -U " + _FILE
UPGRADE_OURS = "upgrade it: rpm -U " + _FILE
# Over the same version too, where files of it are missing.
REPAIR = "rpm -U --replacepkgs " + _FILE


class Package(NamedTuple):
    """A package called `vmss`: its name with version and release, and whether it is ours."""

    name: str
    ours: bool


def installed(root: Root) -> Optional[Package]:
    """The package that is installed there; None if there is none, or rpm cannot be asked. Ours has an epoch."""
    database = _database(root)
    if database is None:
        return None  # rpm would make one
    # Named, for the root may be another system's than this one's, whose rpm has it elsewhere.
    words = ["/usr/bin/rpm", "--root", root.path, "--dbpath", database]
    try:
        done = subprocess.run(
            words + ["-q", "--qf", "%{EPOCH} %{NAME}-%{VERSION}-%{RELEASE}\n", "vmss"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=RPM_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    epoch, _, name = done.stdout.decode("utf-8", "replace").strip().partition(" ")
    return Package(one_line(name, 200), epoch != "(none)") if done.returncode == 0 and name else None


def takes_packages(root: Root) -> bool:
    """Whether the system in this root is made of RPMs. A Debian may have the program, and so a database, as well."""
    return _database(root) is not None and root.read("/etc/debian_version") is None


def _database(root: Root) -> Optional[str]:
    return next((path for path in _DATABASES if os.path.isdir(root.locate(path + "/."))), None)
