"""The configuration file and the settings in pool.other_config."""

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
        ("[vmss]\nmax_operatoins = 8\n", ["'max_operatoins'", "is not a setting", "max_operations"]),
        ("[vmss]\nmax_operations = 91\n", ["max_operations", "'91'", "1 to 90"]),
        ("[vmss]\nmax_operations = -1\n", ["max_operations", "'-1'", "1 to 90"]),
        ("[vmss]\nmax_operations = ٣\n", ["max_operations", "whole number"]),
        ("[vmss]\nquiesce = maybe\n", ["quiesce", "'maybe'", "snapshot, fail"]),
        ("[vmss]\nverify_tls = perhaps\n", ["verify_tls", "'perhaps'", "yes nor no"]),
        ("[vmss]\ntimezone = Mars/Olympus\n", ["timezone", "'Mars/Olympus'", "Europe/London"]),
        ("[vmss]\nca_file = ca.pem\n", ["ca_file", "'ca.pem'", "absolute"]),
        ("[vms]\nmax_operations = 8\n", ["'vms'", "[vmss]"]),
        ("max_operations = 8\n", ["not an INI file"]),
        ("[vmss]\nquiesce = fail\nquiesce = fail\n", ["not an INI file", "quiesce"]),
        ("[vmss]\nquiesce = \udcff\n", ["not an INI file"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_the_thing_the_value_and_the_rule(
    tmp_path: Path, text: str, words: "list[str]"
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    line = str(caught.value)
    assert "\n" not in line
    for word in [path] + words:
        assert word in line


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, "[vmss]\nquiesce = x\nmax_policies = 0\ntypo = 1\n"))
    assert all(word in str(caught.value) for word in ("quiesce", "max_policies", "typo"))


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
