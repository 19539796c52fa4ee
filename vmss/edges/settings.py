"""The settings: their values, from the configuration file and pool.other_config, and where the files are."""

import re
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.problem import Problem
from vmss.core.text import quoted
from vmss.edges.settings_table import FILE_ONLY, OF_A_SCHEDULE, TABLE, Setting

if TYPE_CHECKING:
    from vmss.core.policy import Policy
    from vmss.core.retention import Keep
    from vmss.core.ways import Ways

DEFAULT_XAPI = "unix:/var/lib/xcp/xapi"
DEFAULT_CONFIG = "/etc/vmss.conf"
DEFAULT_LOG = "/var/log/VMSSlog"
DEFAULT_LOCK_DIR = "/var/lock/vmss"
DEFAULT_HOOKS_DIR = "/etc/vmss/hooks.d"

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
    checkpoint_fallback: str = "fail"
    skip_disks: str = ""
    room_reserve: str = "0"
    chain_limit: int = 0
    room_warning: int = 90
    room_critical: int = 98
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
    catch_up_changed: bool = True
    assign_by_tag: bool = False
    login_limit: int = 60
    call_limit: int = 300
    waits_per_second: int = 5
    verify_tls: bool = True
    ca_file: str = ""
    hooks_dir: str = DEFAULT_HOOKS_DIR
    hook_limit: int = 60
    hook_error: str = "continue"
    sync_hook: bool = False
    sync_secret_file: str = ""
    sync_ca_file: str = ""
    keep: str = ""
    keep_days: int = 0
    keep_halted: bool = False
    metrics_file: str = ""
    report_file: str = ""
    report_mail: bool = False
    report_hour: int = 7
    ping_url: str = ""
    webhook_url: str = ""
    notify_ca_file: str = ""
    notify_proxy: str = ""
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

    @property
    def guarded(self) -> bool:
        """Whether snapshots are refused where room is short, or a chain long."""
        return self.chain_limit > 0 or self.room_reserve not in ("0", "0%")

    def ways(self, policy: "Policy") -> "Ways":
        """How the snapshots of the VMs of a policy are taken."""
        from vmss.core.ways import Ways  # not needed by an idle tick

        mine = self.of(policy)
        return Ways(tuple(mine.skip_disks.split()), mine.checkpoint_fallback == "snapshot", mine.quiesce == "snapshot")


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:")


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
            if name in TABLE:
                wrong[name] = "holds for all schedules; for one there are %s" % ", ".join(sorted(table))
            else:  # to name all of them would fill the line that a monitoring system shows
                from vmss.core.words import did_you_mean  # an idle tick needs none

                wrong[name] = "is not a setting%s" % did_you_mean(name, table)
            continue
        try:
            good[name] = setting.parse(text.strip())
        except ValueError as error:
            wrong[name] = str(error)
    return good, wrong


def of_pool(settings: Settings, other_config: Mapping[str, str]) -> Tuple[Settings, List[str]]:
    """Given settings and pool.other_config, return the settings with those of the pool, which win, and the mistakes in
    them: one bad value must not stop the snapshots of a whole pool. Everybody may read these: they are repeated, but
    secrets, which do not belong there, are not."""
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
    good, wrong = parsed({name: text for name, text in values.items() if name not in FILE_ONLY}, TABLE)
    wrong.update({name: "works in %s only" % DEFAULT_CONFIG for name in values if name in FILE_ONLY})
    told = [_told(name, values[name], rule) for name, rule in sorted(wrong.items())]
    settings = settings._replace(**good)
    for uuid, texts in schedules.items():
        good, wrong = parsed(texts, OF_A_SCHEDULE)
        told += [_told("%s:%s" % (uuid, name), texts[name], rule, name) for name, rule in sorted(wrong.items())]
        mine = OfSchedule(uuid, tuple(sorted(good.items())), "pool.other_config, %s%s" % (POOL_PREFIX, uuid), True)
        settings = settings._replace(schedules=settings.schedules + (mine,))
    return settings, first(told)


def _told(key: str, value: str, rule: str, name: str = "") -> str:
    setting = TABLE.get(name or key)
    if setting is not None:
        return "%s %s" % (key, rule) if setting.secret else "%s: %s %s" % (key, quoted(value), rule)
    return "%s %s" % (quoted(key), rule)


def first(mistakes: Sequence[str]) -> List[str]:
    """The first of these mistakes, and how many more there are."""
    more = len(mistakes) - _MISTAKES_MAX
    return list(mistakes[:_MISTAKES_MAX]) + (["and %d more of the kind" % more] if more > 0 else [])
