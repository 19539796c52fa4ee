"""The table of the settings: how each is read, its meaning and its reason; for the files and for the documentation."""

from typing import Any, Callable, Dict, NamedTuple, Tuple

from vmss.edges import forms


class Setting(NamedTuple):
    """One row of the table: how its text is read (ValueError with the rule), and its meaning and reason. `pool`:
    whether it may come from pool.other_config, into which a pool-operator may write: no path, command or address may,
    and nothing that is needed before the session. `schedule`: whether it may be set for one schedule. `secret`: it is
    never shown."""

    name: str
    parse: Callable[[str], Any]
    help: str
    pool: bool = True
    schedule: bool = False
    secret: bool = False


SETTINGS: Tuple[Setting, ...] = (
    Setting("timezone", forms.zone, "Time zone of the schedules. Empty: dom0's own, which xapi and XenCenter use too."),
    Setting(
        "quiesce",
        forms.choice("snapshot", "fail"),
        "Quiesced schedules on a pool without quiescing: take plain snapshots and raise an alert (snapshot), or fail "
        "(fail).",
        schedule=True,
    ),
    Setting(
        "checkpoint_fallback",
        forms.choice("fail", "snapshot"),
        "VMs that cannot be checkpointed (a PCI device, no guest tools, not mobile, or a disk that is left out): they "
        "fail (fail), or get a plain snapshot, and the run's alert names them (snapshot).",
        schedule=True,
    ),
    Setting(
        "skip_disks",
        forms.prefixes,
        "Marks in brackets, such as [NOSNAP] [NOBAK]: snapshots leave out disks whose names begin with one. A disk "
        "with the key vmss:skip in its other_config is left out in any case.",
        schedule=True,
    ),
    Setting(
        "room_reserve",
        forms.reserve,
        "What is to stay free on each storage repository: bytes, with K, M, G or T, or per cent of its size. A VM "
        "whose snapshot would leave less gets none, and is reported. 0: nothing, as the vendor's plugin.",
    ),
    Setting(
        "chain_limit",
        forms.number(0, 30),
        "A VM with a disk whose chain has so many images gets no snapshot, and is reported. The storage refuses one at "
        "30. 0: no limit, as the vendor's plugin.",
    ),
    Setting(
        "room_warning",
        forms.number(1, 100),
        "Per cent of a storage repository in use, from which on the commands status and doctor warn.",
    ),
    Setting("room_critical", forms.number(1, 100), "The same, from which on they are CRITICAL."),
    Setting(
        "max_operations",
        forms.number(1, 90),
        "Upper limit on XAPI operations in flight in the whole pool. xapi refuses work when more than 100 wait.",
    ),
    Setting(
        "max_policies",
        forms.number(1, 1000),
        "Upper limit on schedules that are served at the same time. The records of their VMs are kept in memory.",
    ),
    Setting("snapshot_limit", forms.number(10, 86400), "Timeout in seconds of a snapshot."),
    Setting(
        "checkpoint_limit", forms.number(10, 86400), "Timeout in seconds of a checkpoint, which writes the VM's memory."
    ),
    Setting("destroy_limit", forms.number(10, 86400), "Timeout in seconds of each step of the deletion of a snapshot."),
    Setting(
        "pass_limit",
        forms.number(600, 604800),
        "Upper limit in seconds on a whole pass. A schedule that becomes due in its second half is left to the next "
        "pass. At the limit, operations in flight are cancelled, and the VMs that were not reached are reported. xapi "
        "itself forgets an operation without progress after a day.",
    ),
    Setting(
        "resume",
        forms.boolean,
        "Whether a VM is resumed that ran, and that a checkpoint of vmss has left suspended: it failed, was cancelled, "
        "or xapi was restarted. Such a VM is reported in any case, and one that somebody else has suspended is left "
        "alone.",
    ),
    Setting("resume_limit", forms.number(10, 86400), "Timeout in seconds of resuming a VM, which reads its memory."),
    Setting(
        "cancel_limit",
        forms.number(1, 3600),
        "Seconds for a cancelled operation to end. Then its storage repository is freed for the others.",
    ),
    Setting(
        "stop_limit", forms.number(0, 3600), "Seconds for operations in flight to end when a pass is told to stop."
    ),
    Setting(
        "retries",
        forms.number(0, 20),
        "Upper limit on the retries, within one pass, of an operation that xapi refuses because something is busy.",
    ),
    Setting(
        "retry_pause",
        forms.number(1, 600),
        "Pause in seconds before the first retry. Each further one is twice as long. Other operations go on meanwhile.",
    ),
    Setting(
        "late_limit",
        forms.number_or_empty(0, 604800),
        "Seconds after a slot for which it is served at all: one that was missed for longer is told, and not made up "
        "for, and VMs that failed are not tried again. The tick of the slot serves it, unless the pass cannot begin "
        "its run within that time, for other schedules or hooks. Empty: a missed slot is made up for however late, "
        "and VMs are tried again for a day. The next slot ends both.",
        schedule=True,
    ),
    Setting(
        "checkpoint_late_limit",
        forms.number_or_empty(0, 604800),
        "The same for checkpoints, which pause VMs: for their schedules it wins over late_limit. Empty: late_limit.",
        schedule=True,
    ),
    Setting(
        "catch_up_changed",
        forms.boolean,
        "Whether a schedule that is enabled, or moved to another time, makes up for the slot that has passed by its "
        "new times, as with the vendor's plugin. No: it counts as never run until its next slot.",
    ),
    Setting(
        "assign_by_tag",
        forms.boolean,
        "Whether each tick puts VMs on schedules by their tags: a VM that is on none and has the tag vmss:NAME comes "
        "on the schedule of that name. It takes none off, moves none, and puts none on a schedule that keeps fewer "
        "scheduled snapshots than the VM has. It costs a tick one query, which reads the VMs on no schedule that have "
        "tags, 3 kB each.",
    ),
    Setting(
        "login_limit", forms.number(0, 600), "Seconds for which the login is retried while xapi does not answer.", False
    ),
    Setting(
        "call_limit",
        forms.number(10, 3600),
        "Timeout in seconds of an ordinary call. xapi waits for busy objects only in operations, which have their own.",
        False,
    ),
    Setting(
        "waits_per_second",
        forms.number(1, 20),
        "Upper limit on event.from calls per second, by which a pass learns that operations have ended. Without it, "
        "xapi would answer at every step of every operation.",
    ),
    Setting("verify_tls", forms.boolean, "Whether the certificate of an https server is verified.", False),
    Setting(
        "ca_file",
        forms.path,
        "File with the certificate of an https server, or of its authority. Empty: the authorities that the system "
        "trusts.",
        False,
    ),
    Setting(
        "hooks_dir",
        forms.path,
        "Directory of hooks, programs of your own that are started before and after passes and snapshots. Empty: "
        "none are.",
        False,
    ),
    Setting(
        "hook_limit",
        forms.number(1, 600),
        "Timeout in seconds of each hook, and of a request of the VM sync hook. A guest may be frozen for as long.",
        False,
    ),
    Setting(
        "hook_error",
        forms.choice("continue", "skip"),
        "If a before-hook fails: take the snapshot all the same (continue), or none, and let the VM fail (skip).",
        False,
    ),
    Setting(
        "sync_hook",
        forms.boolean,
        "Whether guests are asked before and after their snapshots, as Xen Orchestra's VM sync hook does: those of "
        "running VMs with the tag xo:notify-on-snapshot.",
        False,
    ),
    Setting(
        "sync_secret_file",
        forms.path,
        "File, of root's and with mode 0600, with the secret that such a request carries. Empty: it carries none.",
        False,
    ),
    Setting(
        "sync_ca_file",
        forms.path,
        "File with the certificates of the guests, or of their authority. Empty: their certificates are not verified, "
        "as in Xen Orchestra.",
        False,
    ),
    Setting(
        "keep",
        forms.keep,
        "Which snapshots of a VM are retained: hourly:4 daily:4 weekly:2 keeps the newest of each of 4 hours, 4 days "
        "and 2 weeks; monthly too. Their number stays retained-snapshots. A VM's tag vmss:keep=hourly:4,daily:4 wins. "
        "Empty: the newest.",
        schedule=True,
    ),
    Setting(
        "keep_days",
        forms.number(0, 366),
        "With a rule in keep: snapshots younger than so many days come first, as far as retained-snapshots allows.",
        schedule=True,
    ),
    Setting(
        "keep_halted",
        forms.boolean,
        "Whether a VM that is halted and unchanged since its last scheduled snapshot gets no further one, so that "
        "equal ones do not push out its history. A run by hand takes one all the same.",
        schedule=True,
    ),
    Setting(
        "metrics_file",
        forms.path,
        "File into which each pass writes, at its end, what vmss metrics prints: FILE.prom in the directory of "
        "node_exporter's textfile collector. Empty: none.",
        False,
    ),
    Setting(
        "report_file",
        forms.path,
        "File into which a pass writes the page of vmss report, once a day. Empty: none.",
        False,
    ),
    Setting(
        "report_mail",
        forms.boolean,
        "Whether a pass hands the report in short to the pool's mail, once a day, also if nothing ran.",
        False,
    ),
    Setting(
        "report_hour",
        forms.number(0, 23),
        "The hour of the day, on the clock of the schedules, after which the first pass makes the report.",
        False,
    ),
    Setting(
        "ping_url",
        forms.https_url,
        "The https address of a dead-man's switch, such as a check of Healthchecks: each tick on the coordinator asks "
        "for it at its end, for its /fail if that was none as it should be, and for its /start before it begins to "
        "work. Empty: none.",
        False,
        secret=True,
    ),
    Setting(
        "webhook_url",
        forms.https_url,
        "The https address to which the result of each run is sent, as JSON, after the pass. Empty: none.",
        False,
        secret=True,
    ),
    Setting(
        "notify_ca_file",
        forms.path,
        "File with the certificate of these two receivers, or of its authority. Empty: the authorities that the system "
        "trusts.",
        False,
    ),
    Setting(
        "notify_proxy",
        forms.proxy,
        "The HTTP proxy through which they are reached: http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT. Empty: "
        "they are reached directly.",
        False,
        secret=True,
    ),
)

TABLE: Dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
FILE_ONLY = frozenset(setting.name for setting in SETTINGS if not setting.pool)
OF_A_SCHEDULE = {name: setting for name, setting in TABLE.items() if setting.schedule}


def described(setting: Setting) -> str:
    """The meaning and reason of a setting, and whether it may be set for one schedule."""
    return setting.help + (" May be set for one schedule." if setting.schedule else "")


def shown(value: Any) -> str:
    """The value of a setting as it is written in the file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
