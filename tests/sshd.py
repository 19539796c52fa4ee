"""A real sshd on a loopback port, with keys of its own, which lets in who runs the test."""

import getpass
import os
import signal
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict

from tests.dom0 import need

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
PermitRootLogin prohibit-password
KbdInteractiveAuthentication no
PasswordAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


class Sshd:
    """The server. Use it as a context manager: it listens at once."""

    def __init__(self, folder: Path) -> None:
        need("ssh", "ssh-keygen", "sshd")
        self._folder = folder
        folder.mkdir()
        for name in ("host", "key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        host = (folder / "host.pub").read_text()
        (folder / "known").write_text("[127.0.0.1]:%d %s" % (self._port, host))
        (folder / "conf").write_text(CONFIG.format(port=self._port, folder=folder))

    def __enter__(self) -> "Sshd":
        self._sockets = TemporaryDirectory()  # a path that a socket can have
        if os.geteuid() == 0:  # as Debian's service makes it
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        program = next(place for place in path.split(":") if os.access(place + "/sshd", os.X_OK))
        words = [program + "/sshd", "-D", "-e", "-f", str(self._folder / "conf")]  # it has to be told by its whole path
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={"PATH": path},
            start_new_session=True,
        )
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        assert said.startswith("Server listening"), said + self._process.stderr.read()
        return self

    def __exit__(self, *error: Any) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)  # with those that serve the connections that Ansible keeps
        self._process.communicate()
        self._sockets.cleanup()

    @property
    def variables(self) -> Dict[str, Any]:
        """What Ansible has to know to come in. Its host key is verified."""
        options = "-F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=%s"
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self._port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(self._folder / "key"),
            "ansible_control_path_dir": self._sockets.name,
            # Between two tasks one connection is kept; the end of a playbook waits for it.
            "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=2s",
            "ansible_ssh_common_args": options % (self._folder / "known"),
        }
