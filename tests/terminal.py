"""A command on a terminal of its own, with rich or without."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parent.parent

_WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from vmss.cli.main import main; sys.exit(main())"
_AS_IT_IS = "import sys; from vmss.cli.main import main; sys.exit(main())"


def on_terminal(*words: str, rich: bool, width: int = 120, status: int = 0, **environment: str) -> str:
    """What `vmss WORDS` shows on a terminal so wide, its lines ended as in a file. It has to end with this status."""
    path = os.pathsep.join([str(ROOT)] + os.environ.get("PYTHONPATH", "").split(os.pathsep)).rstrip(os.pathsep)
    variables: Dict[str, str] = dict(os.environ, PYTHONPATH=path, COLUMNS=str(width), TERM="xterm-256color")
    variables.pop("NO_COLOR", None)
    variables.update(environment)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _AS_IT_IS if rich else _WITHOUT_RICH] + list(words),
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    with open(master, "rb", buffering=0) as terminal:
        try:
            for data in iter(lambda: terminal.read(65536), b""):
                shown += data
        except OSError:  # so Linux tells that nobody has it open any more
            pass
    assert process.wait() == status, shown.decode("utf-8", "replace")
    return shown.decode("utf-8").replace("\r\n", "\n")
