"""The configuration file and the settings in pool.other_config."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.pool import TestPool
from vmss.core.policy import Policy, from_record
from vmss.edges.settings import DEFAULT_CONFIG, Place, Settings, SettingsError, of_pool, place
from vmss.edges.settings_file import load
from vmss.edges.settings_table import SETTINGS, shown
from vmss.insight import policies, state
from vmss.insight.findings import WARNING
from vmss.insight.reading import reading


def made_policy(name: str, uuid: str) -> Policy:
    record = {"uuid": uuid, "name_label": name, "enabled": True, "type": "snapshot", "retained_snapshots": "2"}
    record.update(frequency="hourly", schedule={"min": "0"}, last_run_time="19700101T00:00:00Z", VMs=[])
    return from_record("OpaqueRef:1", record)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "vmss.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return str(path)


def test_every_setting_has_a_row_in_the_table_and_a_default() -> None:
    assert [setting.name for setting in SETTINGS] + ["schedules"] == list(Settings._fields)
    for setting in SETTINGS:
        default = getattr(Settings(), setting.name)
        assert setting.parse(shown(default)) == default
        assert setting.help.endswith(".")


def test_values_of_the_file_replace_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "[vmss]\ntimezone = Asia/Kathmandu\nmax_operations = 8\nverify_tls = no\n# comment\n")
    assert load(path) == Settings(timezone="Asia/Kathmandu", max_operations=8, verify_tls=False)


def test_the_default_file_may_be_absent_but_one_that_was_asked_for_may_not(tmp_path: Path) -> None:
    if not Path(DEFAULT_CONFIG).exists():
        assert load(DEFAULT_CONFIG) == Settings()
    with pytest.raises(SettingsError, match="no such configuration file"):
        load(str(tmp_path / "absent.conf"))


@pytest.mark.parametrize(
    "text, words",
    [
        ("[vmss]\nmax_operatoins = 8\n", ["line 2", "max_operatoins is not a setting: did you mean 'max_operations'?"]),
        ("[vmss]\n\nmax_operations = 91\n", ["line 3", "max_operations", "1 to 90"]),
        ("[vmss]\nmax_operations = -1\n", ["line 2", "max_operations", "1 to 90"]),
        ("[vmss]\nmax_operations = ٣\n", ["line 2", "max_operations", "whole number"]),
        ("[vmss]\nquiesce = maybe\n", ["line 2", "quiesce", "snapshot, fail"]),
        ("[vmss]\nverify_tls = perhaps\n", ["line 2", "verify_tls", "yes nor no"]),
        ("[vmss]\ntimezone = Mars/Olympus\n", ["line 2", "timezone", "Europe/London"]),
        ("# mine\n[vmss]\nca_file = ca.pem\n", ["line 3", "ca_file", "absolute"]),
        ("[vmss]\n[vmss:nightly]\nretries = 3\n", ["line 3", "retries holds for all schedules"]),
        ("[vmss:nightly]\nquiesce = maybe\n", ["line 2", "snapshot, fail"]),
        ("[vmss:nightly]\nquiesce = fail\n[vmss:nightly]\nquiesce = fail\n", ["line 4", "set in line 2"]),
        ("[vmss:]\nquiesce = fail\n", ["line 1", "[vmss:SCHEDULE]"]),
        ("[vms]\nmax_operations = 8\n", ["line 1", "[vmss]"]),
        ("max_operations = 8\nretries = 1\n[vmss]\n", ["line 1", "[vmss]"]),
        ("[vmss]\nquiesce = fail\nquiesce = fail\n", ["line 3", "quiesce is set in line 2"]),
        ("[vmss]\nquiesce\n", ["line 2", "NAME = VALUE"]),
        ("[vmss]\nquiesce = \udcff\n", ["line 2", "UTF-8"]),
        ("[vmss]\n" + "x" * (256 << 10), ["larger than 256 KiB"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_the_line_the_setting_and_the_rule(
    tmp_path: Path, text: str, words: "list[str]"
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    line = str(caught.value)
    assert "\n" not in line
    for word in [path] + words:
        assert word in line


def test_all_mistakes_of_a_file_are_told_at_once_up_to_twenty(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, "[vmss]\nquiesce = x\nmax_policies = 0\ntypo = 1\n"))
    assert all(word in str(caught.value) for word in ("quiesce", "max_policies", "typo"))
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, "[vmss]\n" + "x\n" * 100))
    assert str(caught.value).count("line ") == 20 and "and 80 more" in str(caught.value)


SECRET = "hunter2"
SECRETS = [
    "%s\n",
    "root:$6$%s:19000:0:99999:7:::\n",
    "%s = %s\n",
    "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n",
    "[%s]\npassword = %s\n",
    "[client]\n%s = %s\n%s\n",
    "[vmss]\n%s\n",
    "[vmss]\npassword = %s\n",
    "[vmss]\n%s: %s\n",
    "[vmss]\n$6$%s = 1\n",
    "[vmss]\nretries = %s\n",
    "[vmss]\ntimezone = %s\nca_file = %s\nquiesce = %s\nverify_tls = %s\n",
    "[vmss]\nretries = 5\n  %s\n[%s\n",
    "\udcff%s\n%s\udcff\n",
    '{"password": "%s"}\n',
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_error_repeats_what_stands_in_the_file(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text.replace("%s", SECRET))
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert SECRET not in str(caught.value) and "line " in str(caught.value)


def test_what_an_ini_file_may_have_is_read(tmp_path: Path) -> None:
    text = "\n; mine\n# too\n[vmss]\r\n  RETRIES: 3\n\tquiesce=fail  \nca_file =\n[vmss]\ntimezone = UTC"
    assert load(written(tmp_path, text)) == Settings(retries=3, quiesce="fail", timezone="UTC")
    assert load(written(tmp_path, "")) == load("/dev/null") == Settings()


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "fifo"))
    for path in (str(tmp_path / "fifo"), "/dev/zero"):
        with pytest.raises(SettingsError, match="regular file"):
            load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root that does not believe what others wrote")
@pytest.mark.parametrize(
    "mode, owner, group, believed",
    [
        (0o644, 0, 0, True),
        (0o600, 0, 0, True),
        (0o664, 0, 0, True),
        (0o640, 0, 1000, True),
        (0o664, 0, 1000, False),
        (0o646, 0, 0, False),
        (0o600, 1000, 0, False),
    ],
)
def test_root_believes_no_file_that_others_can_write(
    tmp_path: Path, mode: int, owner: int, group: int, believed: bool
) -> None:
    path = written(tmp_path, "[vmss]\nverify_tls = no\n")
    os.chown(path, owner, group)
    os.chmod(path, mode)
    if not believed:
        with pytest.raises(SettingsError, match="others than root can write to it") as caught:
            load(path)
        subprocess.run(["sh", "-c", caught.value.remedy], check=True)
    assert load(path) == Settings(verify_tls=False)


def test_a_setting_of_the_pool_wins_over_the_file_and_a_bad_one_is_told_and_ignored() -> None:
    file = Settings(max_operations=8, quiesce="fail")
    settings, mistakes = of_pool(
        file,
        {
            "vmss:max_operations": "16",
            "vmss:quiesce": "nonsense",
            "vmss:typo": "1",
            "vmss-destroying:0": "{}",
            "other": "x",
        },
    )
    assert settings == Settings(max_operations=16, quiesce="fail")
    assert len(mistakes) == 2


UUID = "7b10ea29-0000-4000-8000-0123456789ab"


def test_what_is_set_for_one_schedule_wins_there_and_nowhere_else(tmp_path: Path) -> None:
    nightly = made_policy("nightly", UUID)
    file = load(written(tmp_path, "[vmss]\nretries = 1\n[vmss:nightly]\nquiesce = fail\n[vmss:gone]\n"))
    assert file.of(nightly).quiesce == "fail" and file.of(nightly).retries == 1
    assert file.quiesce == file.of(nightly._replace(name="other")).quiesce == "snapshot"
    assert [one.schedule for one in file.of_none([(UUID, "nightly")])] == ["gone"]
    # The uuid wins over the name, the pool over the file, and what is of the schedule over what is of all.
    both = load(written(tmp_path, "[vmss:%s]\nquiesce = snapshot\n[vmss:nightly]\nquiesce = fail\n" % UUID))
    assert both.of(nightly).quiesce == "snapshot"
    pool, mistakes = of_pool(both, {"vmss:quiesce": "snapshot", "vmss:%s:quiesce" % UUID: "fail"})
    assert pool.of(nightly).quiesce == "fail" and pool.quiesce == "snapshot" and mistakes == []


def test_a_mistake_in_what_the_pool_sets_for_one_schedule_is_told_and_ignored() -> None:
    texts = {"quiesce": "x", "retries": "3", "typo": "1"}
    settings, mistakes = of_pool(Settings(), {"vmss:%s:%s" % (UUID, name): text for name, text in texts.items()})
    assert settings.of(made_policy("nightly", UUID)).quiesce == "snapshot" and len(mistakes) == 3
    assert "'x' is not one of snapshot, fail" in mistakes[0] and "retries: '3' holds for all schedules" in mistakes[1]


def test_a_section_or_key_of_no_schedule_is_logged_and_is_a_finding(pool: TestPool, tmp_path: Path) -> None:
    (ref,) = pool.call("pool.get_all")
    policy = pool.policy([pool.vm("vm", [pool.sr()])], "nightly")
    mine = "vmss:%s:quiesce" % pool.uuid("VMSS", policy)
    pool.call("pool.add_to_other_config", ref, mine, "fail")
    pool.call("pool.add_to_other_config", ref, "vmss:%s:quiesce" % UUID, "fail")
    pool.settings = load(written(tmp_path, "[vmss:nightly]\nquiesce = fail\n\n[vmss:weekly]\n"))
    pool.tick()
    told = [line for line in pool.log() if "(ignored)" in line]
    assert len(told) == 2 and "line 4" in told[0] and UUID in told[1]
    with reading(pool.surroundings()) as session:
        findings = state.settings_of_pool(session, policies.read(session))
    assert [finding.severity for finding in findings] == [WARNING, WARNING]
    assert UUID in findings[1].remedy and mine not in findings[1].remedy
    pool.settings = load(written(tmp_path, "[vmss:nightly]\nquiesce = fail\n"))
    pool.call("pool.remove_from_other_config", ref, findings[1].remedy.partition("param-key=")[2])
    with reading(pool.surroundings()) as session:
        assert state.settings_of_pool(session, policies.read(session)) == []


def test_the_environment_says_where_things_are_and_empty_means_the_default() -> None:
    assert place({}) == Place()
    assert place({}).local
    there = place({"VMSS_XAPI": "unix:x_y", "VMSS_LOG": "l", "VMSS_LOCK_DIR": "d", "VMSS_CONFIG": ""})
    assert there == Place(xapi="unix:x_y", log="l", lock_dir="d")
    assert not there.local
