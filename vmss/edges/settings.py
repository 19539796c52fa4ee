"""The settings: one table for the configuration file, for pool.other_config and for the documentation."""

import os
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, TextIO, Tuple

from vmss.core.problem import Problem
from vmss.core.text import one_line, quoted
from vmss.edges.zones import time_zone

DEFAULT_XAPI = "unix:/var/lib/xcp/xapi"
DEFAULT_CONFIG = "/etc/vmss.conf"
DEFAULT_LOG = "/var/log/VMSSlog"
DEFAULT_LOCK_DIR = "/var/lock/vmss"

# A setting in pool.other_config under this prefix follows the pool when the coordinator changes.
POOL_PREFIX = "vmss:"


class SettingsError(Problem):
    """A mistake in the configuration file."""


class Place(NamedTuple):
    """Where things are, from the environment."""

    xapi: str = DEFAULT_XAPI
    config: str = DEFAULT_CONFIG
    log: str = DEFAULT_LOG
    lock_dir: str = DEFAULT_LOCK_DIR
    user: str = "root"
    password: Optional[str] = None  # for https only; never logged

    @property
    def local(self) -> bool:
        """Whether this is xapi's own socket, which exists in dom0 only."""
        return self.xapi == DEFAULT_XAPI


class Settings(NamedTuple):
    """What can be set; the meaning of each, its range and its reason stand in SETTINGS."""

    timezone: str = ""
    quiesce: str = "snapshot"
    max_operations: int = 64
    max_policies: int = 100
    snapshot_limit: int = 3600
    checkpoint_limit: int = 7200
    destroy_limit: int = 3600
    pass_limit: int = 86400
    cancel_limit: int = 30
    stop_limit: int = 60
    retries: int = 5
    retry_pause: int = 10
    login_limit: int = 60
    call_limit: int = 300
    waits_per_second: int = 5
    verify_tls: bool = True
    ca_file: str = ""


class Setting(NamedTuple):
    """One row of the table: how a text becomes its value (ValueError with the rule), and why it exists."""

    name: str
    parse: Callable[[str], Any]
    help: str


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.match(r"[0-9]{1,9}\Z", text):
            raise ValueError("is not a whole number from %d to %d" % (low, high))
        if not low <= int(text) <= high:
            raise ValueError("is not within %d to %d" % (low, high))
        return int(text)

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("is not one of %s" % ", ".join(choices))
        return text

    return parse


def _boolean(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false"):
        raise ValueError("is neither yes nor no")
    return text.lower() in ("yes", "true")


def _zone(text: str) -> str:
    try:
        time_zone(text or None)
    except ValueError:
        raise ValueError("is not the name of a time zone, such as Europe/London")
    return text


def _path(text: str) -> str:
    if text and not os.path.isabs(text):
        raise ValueError("is not an absolute path")
    return text


SETTINGS: Tuple[Setting, ...] = (
    Setting("timezone", _zone, "The zone of the schedules; empty: dom0's own, as xapi and XenCenter have it."),
    Setting(
        "quiesce",
        _choice("snapshot", "fail"),
        "What a quiesced schedule does on a pool without quiescing (every current one): take a plain "
        "snapshot and say so, or fail.",
    ),
    Setting(
        "max_operations",
        _number(1, 90),
        "XAPI operations in flight in the whole pool: xapi refuses work when more than 100 wait.",
    ),
    Setting(
        "max_policies", _number(1, 1000), "Schedules in hand at once: what is known of their VMs is kept in memory."
    ),
    Setting("snapshot_limit", _number(10, 86400), "Seconds until a snapshot that has not ended is given up."),
    Setting("checkpoint_limit", _number(10, 86400), "The same for a checkpoint, which writes the VM's memory."),
    Setting("destroy_limit", _number(10, 86400), "The same for each step of deleting a snapshot."),
    Setting(
        "pass_limit",
        _number(600, 604800),
        "Seconds that a whole run may last. What becomes due after half of that is the next run's; at the end of "
        "it operations in flight are cancelled, and the VMs that were not reached are reported. xapi itself "
        "forgets an operation without progress after a day.",
    ),
    Setting(
        "cancel_limit",
        _number(1, 3600),
        "Seconds that an operation gets to end once it was cancelled; then its storage repository is freed for "
        "the others.",
    ),
    Setting("stop_limit", _number(0, 3600), "Seconds that operations in flight get to end when a run is told to stop."),
    Setting(
        "retries",
        _number(0, 20),
        "How often an operation is tried again that xapi refuses because something is busy, within one run.",
    ),
    Setting(
        "retry_pause",
        _number(1, 600),
        "Seconds before it is tried again for the first time; each further pause is twice as long. Others go on "
        "meanwhile.",
    ),
    Setting("login_limit", _number(0, 600), "Seconds during which an xapi that does not answer is tried again."),
    Setting(
        "call_limit",
        _number(10, 3600),
        "Seconds until a plain call is given up that xapi does not answer: it waits for busy objects only in "
        "operations.",
    ),
    Setting(
        "waits_per_second",
        _number(1, 20),
        "event.from calls in a second at most, over which the ends of operations are heard of: without that bound "
        "xapi answers at every step of every operation.",
    ),
    Setting("verify_tls", _boolean, "Whether an https server has to show a certificate that can be verified."),
    Setting("ca_file", _path, "The certificate, or the authority, that an https server is verified with."),
)

_TABLE: Dict[str, Setting] = {setting.name: setting for setting in SETTINGS}


def place(environment: Mapping[str, str]) -> Place:
    """Given the environment, return where things are."""
    defaults = Place()
    return Place(
        xapi=environment.get("VMSS_XAPI") or defaults.xapi,
        config=environment.get("VMSS_CONFIG") or defaults.config,
        log=environment.get("VMSS_LOG") or defaults.log,
        lock_dir=environment.get("VMSS_LOCK_DIR") or defaults.lock_dir,
        user=environment.get("VMSS_USER") or defaults.user,
        password=environment.get("VMSS_PASSWORD"),
    )


def load(path: str) -> Settings:
    """Given the path of the configuration file, return the settings; the default path may be absent.

    Raise SettingsError that names every mistake in the file.
    """
    try:
        with open(path, encoding="utf-8", opener=_opener) as file:
            values, mistakes = _read(file, path)
    except FileNotFoundError:
        if path == DEFAULT_CONFIG:
            return Settings()
        raise SettingsError("%s: no such configuration file" % one_line(path))
    except OSError as error:
        raise SettingsError("%s: cannot be read: %s" % (one_line(path), error.strerror))
    settings, wrong = apply(Settings(), values)
    if mistakes or wrong:
        raise SettingsError("%s: %s" % (one_line(path), "; ".join(mistakes + wrong)))
    return settings


def _opener(path: str, flags: int) -> int:
    # No waiting for somebody to write into a pipe.
    return os.open(path, flags | os.O_NONBLOCK)


def _read(file: TextIO, path: str) -> Tuple[Dict[str, str], List[str]]:
    """The texts of the section [vmss] by name, and what is wrong with the file's sections."""
    import configparser  # most hosts have no such file

    parser = configparser.ConfigParser(interpolation=None, default_section="\n")
    try:
        parser.read_file(file, path)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise SettingsError("%s: is not an INI file: %s" % (one_line(path), one_line(" ".join(str(error).split()))))
    strange = [name for name in parser.sections() if name != "vmss"]
    return (
        dict(parser.items("vmss")) if parser.has_section("vmss") else {},
        ["section %s is not known; the only one is [vmss]" % quoted(name) for name in strange],
    )


def apply(settings: Settings, values: Mapping[str, str]) -> Tuple[Settings, List[str]]:
    """Given settings and texts by name, return the settings with those texts, and what was wrong with some."""
    good: Dict[str, Any] = {}
    mistakes: List[str] = []
    for name, text in sorted(values.items()):
        setting = _TABLE.get(name)
        if setting is None:
            mistakes.append("%s is not a setting; they are %s" % (quoted(name), ", ".join(sorted(_TABLE))))
            continue
        try:
            good[name] = setting.parse(text.strip())
        except ValueError as error:
            mistakes.append("%s: %s %s" % (name, quoted(text), error))
    return settings._replace(**good), mistakes


def of_pool(settings: Settings, other_config: Mapping[str, str]) -> Tuple[Settings, List[str]]:
    """Given settings and pool.other_config, return the settings with those of the pool, which win, and what
    was wrong with some: one bad value must not stop the snapshots of a whole pool."""
    values = {
        key[len(POOL_PREFIX) :]: value
        for key, value in other_config.items()
        if key.startswith(POOL_PREFIX) and isinstance(value, str)
    }
    return apply(settings, values)
