"""Ansible's modules for XenServer work against the embedded xapi, as somebody else wrote them.

Of community.general, which the package `ansible` has, only the modules are unpacked; they need no more of Ansible than
its library for modules, and are run as on a managed machine: as programs that read their arguments.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable, List

import pytest

from vmss.simulator import Simulator
from vmss.simulator.build import Pool

from .client import Client, Serve
from .test_simulator_foreign import run, unusable, url

# The newest versions that belong together and install on Python 3.11.
CORE, COLLECTIONS = "ansible-core==2.16.14", "ansible==9.13.0"
MODULES = "ansible_collections.community.general.plugins.modules."
# The downloads are 54 MB, so one Python is enough: the modules are the same on all.
PYTHON = (3, 11)
INSTALL_TIMEOUT_S = 240.0
MODULE_TIMEOUT_S = 60.0

pytestmark = [
    pytest.mark.skipif(
        sys.version_info[:2] != PYTHON, reason="Ansible's modules are tried on Python %d.%d only" % PYTHON
    ),
    pytest.mark.timeout(540),  # two downloads, and what is around them
]

# The value of a call is what a module answers.
Module = Callable[..., Any]


@pytest.fixture(scope="session")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which Python imports the modules."""
    folder = tmp_path_factory.mktemp("ansible")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1"]
    library, wheels = folder / "library", folder / "wheels"
    _pip([*pip, "install", "-q", "--no-deps", "--no-compile", "--target", str(library), CORE])
    _pip([*pip, "download", "-q", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels), COLLECTIONS])
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(str(wheel)) as archive:
        for name in archive.namelist():
            if name.startswith("ansible_collections/community/general/plugins/") and "xenserver" in name:
                archive.extract(name, str(library))
    return library


def _pip(words: List[str]) -> None:
    try:
        status, _, complaints = run(words, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        unusable("pip has not installed Ansible in %d seconds" % INSTALL_TIMEOUT_S)
    if status != 0:
        unusable("pip cannot install Ansible: %s" % "; ".join(complaints.splitlines()[-4:]))


@pytest.fixture
def module(ansible: Path, sim: Simulator, pool: Pool, serve: Serve) -> Module:
    """Run a module with these arguments, against the pool."""
    server = serve(sim, http=("127.0.0.1", 0))
    environment = dict(os.environ, PYTHONPATH=str(ansible), PYTHONDONTWRITEBYTECODE="1")

    def call(program: str, **arguments: Any) -> Any:
        login = {"hostname": url(server), "username": "root", "password": sim.password, "validate_certs": False}
        done = subprocess.run(
            [sys.executable, "-m", MODULES + program],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": dict(login, **arguments)}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=MODULE_TIMEOUT_S,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout.decode())

    return call


def test_ansible_gathers_the_facts_of_a_vm(module: Module, root: Client) -> None:
    found = module("xenserver_guest_info", name="web01")
    (vm,) = root("VM.get_by_name_label", "web01")
    record, facts = root("VM.get_record", vm), found["instance"]
    assert (found["failed"], found["changed"]) == (False, False)
    assert (facts["uuid"], facts["name"], facts["state"]) == (record["uuid"], "web01", "poweredon")
    assert facts["hardware"]["memory_mb"] == int(record["memory_dynamic_max"]) >> 20
    disks = [vbd for vbd in record["VBDs"] if root("VBD.get_type", vbd) == "Disk"]
    assert len(facts["disks"]) == len(disks) == 2
    sr = root("VDI.get_SR", root("VBD.get_VDI", disks[0]))
    assert root("SR.get_uuid", sr) in {disk["sr_uuid"] for disk in facts["disks"]}
    # By its uuid it is the same.
    assert module("xenserver_guest_info", uuid=record["uuid"])["instance"] == facts


def test_ansible_powers_a_vm_off_and_on(module: Module, root: Client) -> None:
    (vm,) = root("VM.get_by_name_label", "web01")
    for state, power, changed in (
        ("powered-on", "Running", False),
        ("shutdown-guest", "Halted", True),
        ("powered-on", "Running", True),
        ("powered-off", "Halted", True),
        ("powered-off", "Halted", False),
    ):
        answer = module("xenserver_guest_powerstate", name="web01", state=state)
        assert (answer["failed"], answer["changed"]) == (False, changed), (state, answer)
        assert root("VM.get_power_state", vm) == power
