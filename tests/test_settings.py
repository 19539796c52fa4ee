"""The configuration file and the settings in pool.other_config."""

import os
import subprocess
from pathlib import Path

import pytest

from vmss.edges.settings import DEFAULT_CONFIG, SETTINGS, Place, Settings, SettingsError, load, of_pool, place


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "vmss.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return str(path)


def test_every_setting_has_a_row_in_the_table_and_a_default() -> None:
    assert [setting.name for setting in SETTINGS] == list(Settings._fields)
    for setting in SETTINGS:
        default = getattr(Settings(), setting.name)
        text = {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)
        assert setting.parse(text) == default
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
        ("[vmss]\nmax_operatoins = 8\n", ["line 2", "max_operatoins is not a setting", "max_operations"]),
        ("[vmss]\n\nmax_operations = 91\n", ["line 3", "max_operations", "1 to 90"]),
        ("[vmss]\nmax_operations = -1\n", ["line 2", "max_operations", "1 to 90"]),
        ("[vmss]\nmax_operations = ٣\n", ["line 2", "max_operations", "whole number"]),
        ("[vmss]\nquiesce = maybe\n", ["line 2", "quiesce", "snapshot, fail"]),
        ("[vmss]\nverify_tls = perhaps\n", ["line 2", "verify_tls", "yes nor no"]),
        ("[vmss]\ntimezone = Mars/Olympus\n", ["line 2", "timezone", "Europe/London"]),
        ("# mine\n[vmss]\nca_file = ca.pem\n", ["line 3", "ca_file", "absolute"]),
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


def test_the_environment_says_where_things_are_and_empty_means_the_default() -> None:
    assert place({}) == Place()
    assert place({}).local
    there = place({"VMSS_XAPI": "unix:x_y", "VMSS_LOG": "l", "VMSS_LOCK_DIR": "d", "VMSS_CONFIG": ""})
    assert there == Place(xapi="unix:x_y", log="l", lock_dir="d")
    assert not there.local
