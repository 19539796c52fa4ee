"""What others than root can make the plugin do: by settings in pool.other_config, and role by role of xapi's."""

import json
import re
import sys
from pathlib import Path
from typing import Any, Iterable, List

import pytest

from tests import xencenter
from tests.documents import ROOT, read, table
from tests.pool import VM, TestPool
from vmss.core.records import NULL
from vmss.edges.settings import POOL_PREFIX, Settings, of_pool
from vmss.edges.settings_table import SETTINGS
from vmss.edges.zones import time_zone
from vmss.passes.request import Report
from vmss.simulator.errors import XapiError

HOSTILE = [
    "../../../etc/passwd",
    "Europe/../../../../etc/passwd",
    "/etc/shadow",
    "/dev/zero",
    ":/etc/localtime",
    "EST5EDT,M3.2.0,M11.1.0",
    "file:///etc/passwd",
    "https://evil.example",
    "$(reboot)",
    "; reboot",
    "x" * 100000,
    "A/" * 50000,
    "9" * 400,
    "-1",
    "-99999",
    "1e3",
    "1e999",
    "nan",
    "inf",
    "0x10",
    "1_0",
    "\u0663\u0664",
    "\uff15",
    "5\n6",
    "Europe/London\nFORGED",
    "yes\nno",
    "\u202eevil",
    "%s%d{0}",
]
# What neither XML nor xapi's database can hold.
BEYOND = ["5\x00", "Europe/London\x00/etc/shadow", "\x00", "\ud800", "x" * (4 << 20), "/" * (4 << 20), "9" * (1 << 20)]


def told(names: Iterable[str]) -> List[str]:
    """The first twenty of these names, in order, and how many more there are."""
    first = sorted(names)
    return first[:20] + ["and %d more of the kind" % (len(first) - 20)] * (len(first) > 20)


@pytest.mark.parametrize("text", HOSTILE + BEYOND)
def test_no_value_in_the_pool_gets_past_the_check(text: str) -> None:
    settings, mistakes = of_pool(Settings(), {POOL_PREFIX + setting.name: text for setting in SETTINGS})
    assert settings == Settings()
    assert [line.split(":")[0] for line in mistakes] == told(setting.name for setting in SETTINGS)
    for line in mistakes:
        assert len(line) < 300 and line.isprintable()


def test_a_pass_goes_on_with_the_defaults_and_says_one_line_for_each(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", retries=7)
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], schedule={"min": "0"}, retained_snapshots="10")
    (ref,) = pool.call("pool.get_all")
    names = [setting.name for setting in SETTINGS if setting.pool]
    for served, text in enumerate(HOSTILE[::4], 1):
        before = len(pool.log())
        for name in names:
            pool.call("pool.add_to_other_config", ref, POOL_PREFIX + name, text[:2000])
        pool.at(10 + served, 0)
        assert pool.tick().status == 0
        lines = [line for line in pool.log()[before:] if "(ignored)" in line]
        said = [re.sub(r"pool.other_config: (and .* kind|\w+).*", r"\1", line, flags=re.DOTALL) for line in lines]
        assert said == told(names), lines
        assert len(pool.snapshots(vm)) == served and pool.names(policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"
        for name in names:
            pool.call("pool.remove_from_other_config", ref, POOL_PREFIX + name)


def test_many_keys_are_told_by_the_first_of_them(pool: TestPool) -> None:
    (ref,) = pool.call("pool.get_all")
    for number in range(60):
        pool.call("pool.add_to_other_config", ref, "%s../%d\n" % (POOL_PREFIX, number), "x")
    pool.policy([pool.vm("vm", [pool.sr()])], schedule={"min": "0"})
    pool.at(11, 0)
    assert pool.tick().status == 0
    lines = [line for line in pool.log() if "(ignored)" in line]
    assert len(lines) == 21 and "and 40 more of the kind" in lines[-1]


@pytest.mark.parametrize("name", ["Europe/London", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "UTC", "EST5EDT"])
def test_a_name_of_a_zone_is_taken(name: str) -> None:
    assert of_pool(Settings(), {"vmss:timezone": name}) == (Settings(timezone=name), [])


def test_a_path_is_not_opened_whoever_names_it(tmp_path: Path) -> None:
    zone = tmp_path / "zone"
    zone.write_bytes(Path("/usr/share/zoneinfo/UTC").read_bytes() if Path("/usr/share/zoneinfo/UTC").exists() else b"")
    for name in (str(zone), ":" + str(zone), "../" * 20 + str(zone)):
        with pytest.raises(ValueError, match="is not a known time zone"):
            time_zone(name)


def test_the_table_says_of_each_setting_where_it_may_come_from_and_its_range() -> None:
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table("SECURITY.md", "setting")]
    assert [(name, file, pool) for name, file, pool, _, _ in rows] == [
        ("`%s`" % setting.name, "yes", "yes" if setting.pool else "no") for setting in SETTINGS
    ]
    for setting, (_, _, pool, values, worst) in zip(SETTINGS, rows):
        assert worst and (worst == "Only root chooses it") == (pool == "no")
        span = re.match(r"(\d+) to (\d+)\Z", values)
        good = (
            span.groups()
            if span
            else values.split(", ")
            if setting.name in ("quiesce", "resume", "verify_tls", "keep_halted", "catch_up_changed")
            else ()
        )
        for text in good:
            setting.parse(text)
        for text in (str(int(span.group(1)) - 1), str(int(span.group(2)) + 1)) if span else ("other",):
            with pytest.raises(ValueError):
                setting.parse(text)
    # docs/settings.md says the same.
    (line,) = re.findall(r"^(.*) work in the file only", read("docs/settings.md"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", line) == [setting.name for setting in SETTINGS if not setting.pool]


def test_what_works_in_the_file_only_has_no_effect_from_the_pool() -> None:
    values = {"login_limit": "1", "call_limit": "11", "verify_tls": "no", "ca_file": "/etc/shadow"}
    values.update(hooks_dir="/tmp", hook_limit="9", hook_error="skip", sync_hook="yes")
    values.update(sync_secret_file="/etc/shadow", sync_ca_file="/etc/shadow", metrics_file="/etc/x")
    values.update(report_file="/etc/x", report_mail="yes", report_hour="3")
    values.update(ping_url="https://h/x", webhook_url="https://h/x", notify_ca_file="/etc/x", notify_proxy="http://h:1")
    settings, mistakes = of_pool(Settings(), {POOL_PREFIX + name: text for name, text in values.items()})
    assert settings == Settings() and len(mistakes) == len(values)
    assert all("works in /etc/vmss.conf only" in line for line in mistakes)


# Role by role


class As:
    """A session with one role."""

    def __init__(self, pool: TestPool, role: str) -> None:
        self._pool = pool
        self._session = pool.call("simulator.create_session", "somebody", role)

    def __call__(self, method: str, *params: Any) -> Any:
        return self._pool.simulator.call(method, self._session, *params)

    def may_not(self, method: str, *params: Any) -> None:
        with pytest.raises(XapiError) as caught:
            self(method, *params)
        assert caught.value.details[0] == "RBAC_PERMISSION_DENIED", caught.value.details


class Scene:
    """A pool with a schedule of one VM that has two snapshots and keeps two, and a VM that is on none."""

    def __init__(self, pool: TestPool) -> None:
        self.pool, self.sr = pool, pool.sr()
        (self.ref,) = pool.call("pool.get_all")
        self.vm, self.other = pool.vm("vm", [self.sr]), pool.vm("other", [self.sr])
        self.policy = pool.policy([self.vm], schedule={"min": "0"})
        for hour in (11, 12):
            self.serve(hour)
        self.disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", self.other)[0])

    def serve(self, hour: int) -> Report:
        self.pool.at(hour)
        return self.pool.tick()

    def is_served_as_ever(self, hour: int) -> None:
        assert self.serve(hour).status == 0
        times = [str(record["snapshot_time"]) for record in self.pool.snapshots(self.vm)]
        assert len(times) == 2 and times[-1] >= "20260302T%02d" % hour
        assert self.pool.names(self.policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"
        assert self.pool.snapshots(self.other) == []


@pytest.fixture
def scene(pool: TestPool) -> Scene:
    return Scene(pool)


def marks_of(scene: Scene, somebody: As, task: str) -> None:
    """Give a task the marks that xapi gives to that of a scheduled snapshot."""
    for key, value in (("ShowInXenCenter", ""), ("applies_to", scene.vm)):
        somebody("task.add_to_other_config", task, key, value)


def test_read_only_changes_nothing_that_a_pass_reads(scene: Scene) -> None:
    reader = As(scene.pool, "read-only")
    snapshot = scene.pool.call("VM.get_snapshots", scene.vm)[0]
    reader.may_not("pool.add_to_other_config", scene.ref, "vmss:retries", "0")
    reader.may_not("VM.add_to_other_config", scene.vm, "vmss:seconds", "1")
    reader.may_not("VM.set_name_label", scene.vm, "x")
    reader.may_not("VM.add_tags", scene.vm, "x")
    reader.may_not("VM.add_to_blocked_operations", snapshot, "destroy", "")
    reader.may_not("VMSS.set_enabled", scene.policy, False)
    reader.may_not("VMSS.snapshot_now", scene.policy)
    reader.may_not("message.create", "X", "1", "Pool", scene.pool.uuid("pool", scene.ref), "")
    reader.may_not("host.call_plugin", scene.pool.host, "vmss", "status", {})
    task = reader("task.create", "Async.VM.snapshot", "")
    reader.may_not("task.add_to_other_config", task, "applies_to", scene.vm)
    theirs = scene.pool.call("task.create", "Async.VM.snapshot", "")
    for method, more in (("task.cancel", ()), ("task.add_to_other_config", ("applies_to", "x"))):
        with pytest.raises(XapiError):
            reader(method, theirs, *more)
    scene.is_served_as_ever(13)
    assert scene.pool.call("task.get_status", task) == "pending"


def test_a_vm_operators_tags_and_a_vm_that_it_suspends_are_left_alone(scene: Scene) -> None:
    operator = As(scene.pool, "vm-operator")
    for tag in HOSTILE[:8]:
        operator("VM.add_tags", scene.vm, tag)
    operator.may_not("VM.set_name_label", scene.vm, "x")
    operator.may_not("VM.add_to_other_config", scene.vm, "vmss:seconds", "1")
    operator.may_not("VM.add_to_blocked_operations", scene.vm, "snapshot", "")
    # A task of its own may bear every mark: a pass looks at those of an operation on the VM, and of its own sessions.
    task = operator("task.create", "Async.VM.snapshot", "")
    marks_of(scene, operator, task)
    operator("VM.start", scene.vm, False, False)
    operator("VM.suspend", scene.vm)
    scene.is_served_as_ever(13)
    assert scene.pool.call("VM.get_power_state", scene.vm) == "Suspended"
    operator("VM.resume", scene.vm, False, False)  # what a pass may do after a checkpoint, it may do itself


FORGED = "x\nVM:forged UUID:x Error:['FORGED'],\n\u202e\x1b[2J"


def test_a_vm_admin_puts_no_vm_on_a_schedule_and_marks_no_snapshot(scene: Scene) -> None:
    admin = As(scene.pool, "vm-admin")
    admin.may_not("VM.set_snapshot_schedule", scene.other, scene.policy)
    admin.may_not("VM.snapshot", scene.other, "x")
    admin.may_not("pool.add_to_other_config", scene.ref, "vmss-destroying:x", "")
    mine = admin("VM.create", dict(VM, name_label="mine", snapshot_schedule=scene.policy, is_vmss_snapshot=True))
    record = scene.pool.call("VM.get_record", mine)
    assert record["snapshot_schedule"] == NULL and not record["is_vmss_snapshot"]
    assert mine not in scene.pool.call("VMSS.get_VMs", scene.policy)
    for text in ("nan", "-1", "1e999", "x" * 5000, "../.."):
        admin("VM.set_other_config", scene.vm, {"vmss:seconds": text})
        assert scene.pool.simulator.call("VM.get_other_config", admin._session, scene.vm)["vmss:seconds"] == text
    scene.is_served_as_ever(13)
    # It can have the plugin raise an alert with a name of its choice in it: one line, and no other VM's.
    admin("VM.set_name_label", scene.vm, FORGED.replace("\x1b", ""))
    admin("VM.add_to_blocked_operations", scene.vm, "snapshot", "no")
    assert scene.serve(14).status == 1
    body = scene.pool.alerts(scene.policy)[-1]["body"]
    assert [vm.uuid for vm in xencenter.current(body)] == [scene.pool.uuid("VM", scene.vm)]
    assert "\u202e" not in body and not any(line.startswith("VM:forged") for line in body.split("\n"))


def test_a_vm_power_admins_own_snapshot_with_forged_marks_makes_nothing_expire(scene: Scene) -> None:
    admin = As(scene.pool, "vm-power-admin")
    admin.may_not("VM.set_snapshot_schedule", scene.other, scene.policy)
    before = [record["uuid"] for record in scene.pool.snapshots(scene.vm)]
    scene.pool.at(13)
    task = admin("Async.VM.snapshot", scene.vm, "mine")
    marks_of(scene, admin, task)
    assert task in scene.pool.call("VM.get_current_operations", scene.vm)
    assert scene.pool.tick().status == 1
    assert any("it is not marked as scheduled" in line for line in scene.pool.log())
    assert [record["uuid"] for record in scene.pool.snapshots(scene.vm)] == before
    scene.is_served_as_ever(14)
    names = [scene.pool.call("VM.get_name_label", ref) for ref in scene.pool.call("VM.get_snapshots", scene.vm)]
    assert "mine" in names


def test_a_pool_operators_forged_records_do_what_it_may_do_itself(scene: Scene) -> None:
    operator, pool = As(scene.pool, "pool-operator"), scene.pool
    spare, own = (pool.call("VDI.snapshot", pool.vdi(scene.sr), {}) for _ in range(2))
    taken = pool.call("VM.snapshot", scene.other, "by hand")
    of_snapshot = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", taken)[0])
    disks = {name: pool.uuid("VDI", ref) for name, ref in (("a", scene.disk), ("b", of_snapshot), ("c", spare))}
    gone = "00000000-0000-4000-8000-00000000000%s"
    for number, uuid in enumerate(disks.values()):
        forged = json.dumps({"destroying": {gone % number: [uuid]}})
        operator("pool.add_to_other_config", scene.ref, "vmss-destroying:%d" % number, forged)
    scene.is_served_as_ever(13)
    there = pool.call("VDI.get_all")
    assert scene.disk in there and of_snapshot in there and spare not in there
    operator("VDI.destroy", own)  # the same with its own hands
    operator("VMSS.set_retained_snapshots", scene.policy, 1)
    operator.may_not("host.call_plugin", pool.host, "vmss", "status", {})
    operator.may_not("VMSS.set_last_run_time", scene.policy, "20300101T00:00:00Z")
    assert not pool.call("VM.get_is_vmss_snapshot", operator("VM.snapshot", scene.vm, "mine"))


def test_a_pool_admin_gets_nothing_of_the_plugin_but_its_three_functions(tmp_path: Path) -> None:
    (tmp_path / "vmss").write_text("#!%s\n%s" % (sys.executable, CALLED % (str(ROOT), str(ROOT / "plugins" / "vmss"))))
    (tmp_path / "vmss").chmod(0o755)
    with TestPool(tmp_path, plugins=str(tmp_path)) as pool:
        admin = As(pool, "pool-admin")
        for function in ("main", "_dispatch", "os.system", "__import__", "../vmss", "status\n", "", "run", "trigger"):
            with pytest.raises(XapiError) as caught:
                admin("host.call_plugin", pool.host, "vmss", function, {})
            assert caught.value.details[0] == "UNKNOWN_XENAPI_PLUGIN_FUNCTION"
        for args in ({"config": "/etc/shadow"}, {"vmss_uuid": "../../etc/shadow"}, {"VMSS_CONFIG": "/etc/shadow"}):
            with pytest.raises(XapiError) as caught:
                admin("host.call_plugin", pool.host, "vmss", "snapshot_now", args)
            assert caught.value.details[0] == "INVALID_VALUE"
        admin.may_not("VMSS.set_last_run_time", pool.policy(), "20300101T00:00:00Z")


# The plugin, started by a file that is Python's own.
CALLED = """import sys
sys.path.insert(0, %r)
sys.argv[0] = %r
from vmss import plugin
sys.exit(plugin.main(sys.argv))
"""


def test_the_table_has_a_row_for_each_role_and_a_test_for_each_row() -> None:
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table("SECURITY.md", "role")]
    roles = json.loads((ROOT / "vmss" / "simulator" / "datamodel.json").read_text(encoding="utf-8"))["role_sets"]["ALL"]
    assert {name for row in rows for name in re.findall(r"[a-z][a-z-]+", row[0])} == set(roles)
    tests = [re.findall(r"`(test_\w+)`", row[-1]) for row in rows]
    assert all(len(names) == 1 and callable(globals()[names[0]]) for names in tests)
    assert len({names[0] for names in tests}) == len(rows)
