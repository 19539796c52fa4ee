"""Modules of Python that are not ours, and how a machine gets them."""

from vmss.core.text import one_line

# Our modules and those that they need, in a folder of their own: Python's own packages stay as they are.
PRIVATE = "/usr/lib/vmss"

# The modules that are not of Python's own library, with their names in PyPI.
NEEDED = {"XenAPI": "XenAPI", "dateutil": "python-dateutil"}


def how_to_get(name: str, python: str, private: str = "") -> str:
    """What is said of a needed module that this Python does not have; `private` is the folder of an installation, in
    which the command and the plugin look first, and nothing of the system's Python is changed."""
    package = NEEDED[name]
    missing = "the Python module %s is missing (%s): " % (name, one_line(python))
    if not private:
        return missing + "%s -m pip install %s" % (one_line(python), package)
    pip = "%s -m pip install --target %s %s" % (one_line(python), private, package)
    return missing + (
        "dom0 has it from xapi (yum provides '*/%s*' names the package to reinstall); on EL: yum install -y "
        "python3-pip, then %s; on Debian: apt-get install -y python3-pip, then the same" % (name, pip)
    )
