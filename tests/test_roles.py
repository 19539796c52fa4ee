"""What others than root can make the plugin do: by settings in pool.other_config, and role by role of xapi's."""

import re
from pathlib import Path

import pytest

from tests.documents import read, table
from tests.pool import TestPool
from vmss.edges.settings import POOL_PREFIX, SETTINGS, Settings, of_pool
from vmss.edges.zones import time_zone

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


@pytest.mark.parametrize("text", HOSTILE + BEYOND)
def test_no_value_in_the_pool_gets_past_the_check(text: str) -> None:
    settings, mistakes = of_pool(Settings(), {POOL_PREFIX + setting.name: text for setting in SETTINGS})
    assert settings == Settings()
    assert [line.split(":")[0] for line in mistakes] == sorted(setting.name for setting in SETTINGS)
    for line in mistakes:
        assert len(line) < 300 and line.isprintable()


def test_a_pass_goes_on_with_the_defaults_and_says_one_line_for_each(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", retries=7)
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], schedule={"min": "0"}, retained_snapshots="10")
    (ref,) = pool.call("pool.get_all")
    names = [setting.name for setting in SETTINGS]
    for served, text in enumerate(HOSTILE[::4], 1):
        told = len(pool.log())
        for name in names:
            pool.call("pool.add_to_other_config", ref, POOL_PREFIX + name, text[:2000])
        pool.at(10 + served, 0)
        assert pool.tick().status == 0
        lines = [line for line in pool.log()[told:] if "(ignored)" in line]
        assert [re.split("pool.other_config: |: ", line)[-2].split(" ")[0] for line in lines] == sorted(names), lines
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
            span.groups() if span else values.split(", ") if setting.name in ("quiesce", "resume", "verify_tls") else ()
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
    settings, mistakes = of_pool(Settings(), {POOL_PREFIX + name: text for name, text in values.items()})
    assert settings == Settings() and len(mistakes) == 4
    assert all("works in /etc/vmss.conf only" in line for line in mistakes)
