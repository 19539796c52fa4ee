"""The settings: one table for the configuration file, pool.other_config and the documentation."""

import re
from datetime import timedelta, tzinfo
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from vmss.core.problem import Problem
from vmss.core.text import quoted
from vmss.edges.forms import boolean as _boolean
from vmss.edges.forms import choice as _choice
from vmss.edges.forms import keep as _keep
from vmss.edges.forms import number as _number
from vmss.edges.forms import number_or_empty as _number_or_empty
from vmss.edges.forms import path as _path
from vmss.edges.forms import zone as _zone

if TYPE_CHECKING:
    from vmss.core.policy import Policy
    from vmss.core.retention import Keep

DEFAULT_XAPI = "unix:/var/lib/xcp/xapi"
DEFAULT_CONFIG = "/etc/vmss.conf"
DEFAULT_LOG = "/var/log/VMSSlog"
DEFAULT_LOCK_DIR = "/var/lock/vmss"

# The prefix of a setting in pool.other_config, where it stays with the pool when the coordinator changes.
POOL_PREFIX = "vmss:"


# Upper limit on the mistakes that are told one by one.
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


class OfSchedule(NamedTuple):
    """What is set for one schedule, by its uuid or, in the file, by its name; `where` it stands, for a complaint."""

    schedule: str
    values: Tuple[Tuple[str, Any], ...]
    where: str
    pool: bool = False


class Settings(NamedTuple):
    """The values of the settings. SETTINGS has the meaning, the range and the reason of each; `schedules` is what is
    set for single schedules."""

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
    late_limit: Optional[int] = None
    checkpoint_late_limit: Optional[int] = None
    login_limit: int = 60
    call_limit: int = 300
    waits_per_second: int = 5
    verify_tls: bool = True
    ca_file: str = ""
    keep: str = ""
    keep_days: int = 0
    keep_halted: bool = False
    schedules: Tuple[OfSchedule, ...] = ()

    def of(self, policy: "Policy") -> "Settings":
        """The settings that hold for one schedule. What is set for it wins over what is set for all, the pool over the
        file, and its uuid over its name."""
        mine = [one for one in self.schedules if one.schedule in (policy.uuid, policy.name)]
        settings = self
        for one in sorted(mine, key=lambda one: (one.pool, one.schedule == policy.uuid)):
            values = dict(one.values)
            if "late_limit" in values:  # of this schedule, so it is meant, whatever its type
                values.setdefault("checkpoint_late_limit", None)
            settings = settings._replace(**values)
        return settings

    def applied(self, policy: "Policy") -> "Policy":
        """A policy with the limit on how late its slots are served."""
        mine = self.of(policy)
        limit = mine.late_limit
        if policy.type == "checkpoint" and mine.checkpoint_late_limit is not None:
            limit = mine.checkpoint_late_limit
        return policy if limit is None else policy._replace(late_limit=timedelta(seconds=limit))

    def of_none(self, schedules: Iterable[Tuple[str, str]]) -> List[OfSchedule]:
        """What is set for schedules that are none of these, given by their uuids and names."""
        if not self.schedules:
            return []
        known = {text for schedule in schedules for text in schedule}
        return [one for one in self.schedules if one.schedule not in known]

    def keep_of(self, policy: "Policy", zone: tzinfo, tags: FrozenSet[str]) -> "Keep":
        """The rule of retention for a VM of a policy, by the VM's tags; `zone` is that of the schedules."""
        from vmss.core import retention, thinning  # not needed by an idle tick

        mine = self.of(policy)
        spread, _ = thinning.of_tags(tags, thinning.read(mine.keep))
        return retention.Keep(policy.retained, retention.MORE_IN_A_RUN, spread, mine.keep_days, policy.schedule, zone)


class Setting(NamedTuple):
    """One row of the table: how its text is read (ValueError with the rule), and its meaning and reason. `pool`:
    whether it may come from pool.other_config, into which a pool-operator may write: no path, command or address may,
    and nothing that is needed before the session. `schedule`: whether it may be set for one schedule."""

    name: str
    parse: Callable[[str], Any]
    help: str
    pool: bool = True
    schedule: bool = False


SETTINGS: Tuple[Setting, ...] = (
    Setting("timezone", _zone, "Time zone of the schedules. Empty: dom0's own, which xapi and XenCenter use too."),
    Setting(
        "quiesce",
        _choice("snapshot", "fail"),
        "Quiesced schedules on a pool without quiescing: take plain snapshots and raise an alert (snapshot), or fail "
        "(fail).",
        schedule=True,
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
        _number_or_empty(0, 604800),
        "Seconds after a slot for which it is served at all: one that was missed for longer is told, and not made up "
        "for, and VMs that failed are not tried again. The tick of the slot always serves it. Empty: a missed slot is "
        "made up for however late, and VMs are tried again for a day. The next slot ends both.",
        schedule=True,
    ),
    Setting(
        "checkpoint_late_limit",
        _number_or_empty(0, 604800),
        "The same for checkpoints, which pause VMs: for their schedules it wins over late_limit. Empty: late_limit.",
        schedule=True,
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
    Setting(
        "keep",
        _keep,
        "Which snapshots of a VM are retained: hourly:4 daily:4 weekly:2 keeps the newest of each of 4 hours, 4 days "
        "and 2 weeks; monthly too. Their number stays retained-snapshots. A VM's tag vmss:keep=hourly:4,daily:4 wins. "
        "Empty: the newest.",
        schedule=True,
    ),
    Setting(
        "keep_days",
        _number(0, 366),
        "With a rule in keep: snapshots younger than so many days come first, as far as retained-snapshots allows.",
        schedule=True,
    ),
    Setting(
        "keep_halted",
        _boolean,
        "Whether a VM that is halted and unchanged since its last scheduled snapshot gets no further one, so that "
        "equal ones do not push out its history. A run by hand takes one all the same.",
        schedule=True,
    ),
)

TABLE: Dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
_FILE_ONLY = frozenset(setting.name for setting in SETTINGS if not setting.pool)
OF_A_SCHEDULE = {name: setting for name, setting in TABLE.items() if setting.schedule}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:")


def described(setting: Setting) -> str:
    """The meaning and reason of a setting, and whether it may be set for one schedule."""
    return setting.help + (" May be set for one schedule." if setting.schedule else "")


def shown(value: Any) -> str:
    """The value of a setting as it is written in the file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


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


def parsed(values: Mapping[str, str], table: Mapping[str, Setting]) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Given texts by name, return the valid values, and for the others by name what is wrong: a rule that repeats no
    text."""
    good: Dict[str, Any] = {}
    wrong: Dict[str, str] = {}
    for name, text in sorted(values.items()):
        setting = table.get(name)
        if setting is None:
            rule = (
                "holds for all schedules; for one there are" if name in TABLE else "is not a setting; the settings are"
            )
            wrong[name] = "%s %s" % (rule, ", ".join(sorted(table)))
            continue
        try:
            good[name] = setting.parse(text.strip())
        except ValueError as error:
            wrong[name] = str(error)
    return good, wrong


def of_pool(settings: Settings, other_config: Mapping[str, str]) -> Tuple[Settings, List[str]]:
    """Given settings and pool.other_config, return the settings with those of the pool, which win, and the mistakes in
    them: one bad value must not stop the snapshots of a whole pool. Everybody may read these: they are repeated."""
    values: Dict[str, str] = {}
    schedules: Dict[str, Dict[str, str]] = {}
    for key, value in sorted(other_config.items()):
        if key.startswith(POOL_PREFIX) and isinstance(value, str):
            name = key[len(POOL_PREFIX) :]
            if _UUID.match(name):
                uuid, _, name = name.partition(":")
                schedules.setdefault(uuid, {})[name] = value
            else:
                values[name] = value
    good, wrong = parsed({name: text for name, text in values.items() if name not in _FILE_ONLY}, TABLE)
    wrong.update({name: "works in %s only" % DEFAULT_CONFIG for name in values if name in _FILE_ONLY})
    told = [_told(name, values[name], rule) for name, rule in sorted(wrong.items())]
    settings = settings._replace(**good)
    for uuid, texts in schedules.items():
        good, wrong = parsed(texts, OF_A_SCHEDULE)
        told += [_told("%s:%s" % (uuid, name), texts[name], rule, name) for name, rule in sorted(wrong.items())]
        mine = OfSchedule(uuid, tuple(sorted(good.items())), "pool.other_config, %s%s" % (POOL_PREFIX, uuid), True)
        settings = settings._replace(schedules=settings.schedules + (mine,))
    return settings, first(told)


def _told(key: str, value: str, rule: str, name: str = "") -> str:
    if (name or key) in TABLE:
        return "%s: %s %s" % (key, quoted(value), rule)
    return "%s %s" % (quoted(key), rule)


def first(mistakes: Sequence[str]) -> List[str]:
    """The first of these mistakes, and how many more there are."""
    more = len(mistakes) - _MISTAKES_MAX
    return list(mistakes[:_MISTAKES_MAX]) + (["and %d more of the kind" % more] if more > 0 else [])
