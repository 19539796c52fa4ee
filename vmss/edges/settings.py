"""The settings: one table for the configuration file, pool.other_config and the documentation."""

import os
import re
import stat
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.problem import Problem
from vmss.core.text import one_line, quoted
from vmss.edges.zones import time_zone

if TYPE_CHECKING:
    from vmss.core.policy import Policy
    from vmss.core.retention import Keep

DEFAULT_XAPI = "unix:/var/lib/xcp/xapi"
DEFAULT_CONFIG = "/etc/vmss.conf"
DEFAULT_LOG = "/var/log/VMSSlog"
DEFAULT_LOCK_DIR = "/var/lock/vmss"

# The prefix of a setting in pool.other_config, where it stays with the pool when the coordinator changes.
POOL_PREFIX = "vmss:"


# Upper limits on the size of the configuration file, and on the mistakes that are told one by one.
_FILE_BYTES_MAX = 256 << 10
_MISTAKES_MAX = 20


class SettingsError(Problem):
    """A mistake in the configuration file; `remedy` is what to do about it."""

    def __init__(self, text: str, remedy: str = "correct the file: /etc/vmss.conf.example has all settings") -> None:
        Problem.__init__(self, text)
        self.remedy = remedy


class Place(NamedTuple):
    """The addresses of xapi and of the files, and the login, from the environment."""

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
    """The values of the settings. SETTINGS has the meaning, the range and the reason of each."""

    timezone: str = ""
    quiesce: str = "snapshot"
    max_operations: int = 64
    max_policies: int = 100
    snapshot_limit: int = 3600
    checkpoint_limit: int = 7200
    destroy_limit: int = 3600
    pass_limit: int = 86400
    resume: bool = True
    resume_limit: int = 3600
    cancel_limit: int = 30
    stop_limit: int = 60
    retries: int = 5
    retry_pause: int = 10
    late_limit: int = 86400
    assign_by_tag: bool = False
    login_limit: int = 60
    call_limit: int = 300
    waits_per_second: int = 5
    verify_tls: bool = True
    ca_file: str = ""

    def keep(self, policy: "Policy") -> "Keep":
        """The rule of retention for the VMs of a policy."""
        from vmss.core.retention import MORE_IN_A_RUN, Keep  # not needed by an idle tick

        return Keep(policy.retained, MORE_IN_A_RUN)


class Setting(NamedTuple):
    """One row of the table: how its text is read (ValueError with the rule), and its meaning and reason. `pool`:
    whether it may come from pool.other_config, into which a pool-operator may write: no path, command or address may,
    and nothing that is needed before the session."""

    name: str
    parse: Callable[[str], Any]
    help: str
    pool: bool = True


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
    Setting("timezone", _zone, "Time zone of the schedules. Empty: dom0's own, which xapi and XenCenter use too."),
    Setting(
        "quiesce",
        _choice("snapshot", "fail"),
        "Quiesced schedules on a pool without quiescing: take plain snapshots and raise an alert (snapshot), or fail "
        "(fail).",
    ),
    Setting(
        "max_operations",
        _number(1, 90),
        "Upper limit on XAPI operations in flight in the whole pool. xapi refuses work when more than 100 wait.",
    ),
    Setting(
        "max_policies",
        _number(1, 1000),
        "Upper limit on schedules that are served at the same time. The records of their VMs are kept in memory.",
    ),
    Setting("snapshot_limit", _number(10, 86400), "Timeout in seconds of a snapshot."),
    Setting(
        "checkpoint_limit", _number(10, 86400), "Timeout in seconds of a checkpoint, which writes the VM's memory."
    ),
    Setting("destroy_limit", _number(10, 86400), "Timeout in seconds of each step of the deletion of a snapshot."),
    Setting(
        "pass_limit",
        _number(600, 604800),
        "Upper limit in seconds on a whole pass. A schedule that becomes due in its second half is left to the next "
        "pass. At the limit, operations in flight are cancelled, and the VMs that were not reached are reported. xapi "
        "itself forgets an operation without progress after a day.",
    ),
    Setting(
        "resume",
        _boolean,
        "Whether a VM is resumed that ran, and that a checkpoint of vmss has left suspended: it failed, was cancelled, "
        "or xapi was restarted. Such a VM is reported in any case, and one that somebody else has suspended is left "
        "alone.",
    ),
    Setting("resume_limit", _number(10, 86400), "Timeout in seconds of resuming a VM, which reads its memory."),
    Setting(
        "cancel_limit",
        _number(1, 3600),
        "Seconds for a cancelled operation to end. Then its storage repository is freed for the others.",
    ),
    Setting("stop_limit", _number(0, 3600), "Seconds for operations in flight to end when a pass is told to stop."),
    Setting(
        "retries",
        _number(0, 20),
        "Upper limit on the retries, within one pass, of an operation that xapi refuses because something is busy.",
    ),
    Setting(
        "retry_pause",
        _number(1, 600),
        "Pause in seconds before the first retry. Each further one is twice as long. Other operations go on meanwhile.",
    ),
    Setting(
        "late_limit",
        _number(0, 604800),
        "Seconds after a slot for which the ticks try again to serve the VMs that failed for a reason that may pass. "
        "The next slot ends it too.",
    ),
    Setting(
        "assign_by_tag",
        _boolean,
        "Whether each tick puts VMs on schedules by their tags: a VM that is on none and has the tag vmss:NAME comes "
        "on the schedule of that name. It takes none off, moves none, and puts none on a schedule that keeps fewer "
        "scheduled snapshots than the VM has. It costs a tick one query, which reads the VMs on no schedule that have "
        "tags, 9 kB each.",
    ),
    Setting(
        "login_limit", _number(0, 600), "Seconds for which the login is retried while xapi does not answer.", False
    ),
    Setting(
        "call_limit",
        _number(10, 3600),
        "Timeout in seconds of an ordinary call. xapi waits for busy objects only in operations, which have their own.",
        False,
    ),
    Setting(
        "waits_per_second",
        _number(1, 20),
        "Upper limit on event.from calls per second, by which a pass learns that operations have ended. Without it, "
        "xapi would answer at every step of every operation.",
    ),
    Setting("verify_tls", _boolean, "Whether the certificate of an https server is verified.", False),
    Setting(
        "ca_file",
        _path,
        "File with the certificate of an https server, or of its authority. Empty: the authorities that the system "
        "trusts.",
        False,
    ),
)

_TABLE: Dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
_FILE_ONLY = frozenset(setting.name for setting in SETTINGS if not setting.pool)


def place(environment: Mapping[str, str]) -> Place:
    """Given the environment, return the addresses, with the default of each that is missing or empty."""
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
    """Given the path of the configuration file, return the settings. A file at the default path may be missing.

    Raise SettingsError with the mistakes in the file.
    """
    try:
        data = b"" if path == os.devnull else _content(path)
    except FileNotFoundError:
        if path == DEFAULT_CONFIG:
            return Settings()
        raise SettingsError("%s: no such configuration file" % one_line(path))
    except OSError as error:
        raise SettingsError("%s: cannot be read: %s" % (one_line(path), error.strerror or error))
    settings, mistakes = _read(data)
    if mistakes:
        raise SettingsError("%s: %s" % (one_line(path), "; ".join(_first(mistakes))))
    return settings


def _content(path: str) -> bytes:
    with open(path, "rb", opener=without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if os.geteuid() == 0 and _is_others(status):
            # Such as verify_tls = no, with which root would send a password to anybody.
            from vmss.edges.shell import shell_word

            raise SettingsError(
                "%s: others than root can write to it, so root believes nothing in it" % one_line(path),
                "chown root:root {0} && chmod 0644 {0}".format(shell_word(path)),
            )
        data = file.read(_FILE_BYTES_MAX + 1)
    if len(data) > _FILE_BYTES_MAX:
        raise OSError("it is larger than %d KiB" % (_FILE_BYTES_MAX >> 10))
    return data


def without_waiting(path: str, flags: int) -> int:
    """The opener of files that somebody may have put a pipe in place of: opening it must not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _is_others(status: os.stat_result) -> bool:
    """Whether somebody else than root can write to the file with this status, or make it so."""
    of_group = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    return bool(status.st_uid != 0 or of_group or status.st_mode & stat.S_IWOTH)


def _read(data: bytes) -> Tuple[Settings, List[str]]:
    """The settings in the configuration file, and the mistakes: each names its line, and repeats nothing that stands
    there but the name of a setting."""
    from vmss.core import ini  # most hosts have no such file

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return Settings(), ["line %d: is not UTF-8" % (data.count(b"\n", 0, error.start) + 1)]
    found, mistakes = ini.entries(text, "vmss")
    settings, wrong = apply(Settings(), {name: entry.text for name, entry in found.items()})
    told = sorted((found[name].line, name, rule) for name, rule in wrong.items())
    return settings, mistakes + ["line %d: %s %s" % each for each in told]


def apply(settings: Settings, values: Mapping[str, str]) -> Tuple[Settings, Dict[str, str]]:
    """Given settings and texts by name, return the settings with the valid ones, and for the others by name what is
    wrong: a rule that repeats no text."""
    good: Dict[str, Any] = {}
    wrong: Dict[str, str] = {}
    for name, text in sorted(values.items()):
        setting = _TABLE.get(name)
        if setting is None:
            wrong[name] = "is not a setting; the settings are %s" % ", ".join(sorted(_TABLE))
            continue
        try:
            good[name] = setting.parse(text.strip())
        except ValueError as error:
            wrong[name] = str(error)
    return settings._replace(**good), wrong


def of_pool(settings: Settings, other_config: Mapping[str, str]) -> Tuple[Settings, List[str]]:
    """Given settings and pool.other_config, return the settings with those of the pool, which win, and the mistakes in
    them: one bad value must not stop the snapshots of a whole pool. Everybody may read these: they are repeated."""
    values = {
        key[len(POOL_PREFIX) :]: value
        for key, value in other_config.items()
        if key.startswith(POOL_PREFIX) and isinstance(value, str)
    }
    settings, wrong = apply(settings, {name: text for name, text in values.items() if name not in _FILE_ONLY})
    wrong.update({name: "works in %s only" % DEFAULT_CONFIG for name in values if name in _FILE_ONLY})
    told = [
        "%s: %s %s" % (name, quoted(values[name]), rule) if name in _TABLE else "%s %s" % (quoted(name), rule)
        for name, rule in sorted(wrong.items())
    ]
    return settings, _first(told)


def _first(mistakes: Sequence[str]) -> List[str]:
    more = len(mistakes) - _MISTAKES_MAX
    return list(mistakes[:_MISTAKES_MAX]) + (["and %d more of the kind" % more] if more > 0 else [])
