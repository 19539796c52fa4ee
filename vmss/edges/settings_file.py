"""The configuration file: how it is read, whom root believes, and its mistakes by their lines."""

import os
import stat
from typing import List, Tuple

from vmss.core.text import one_line
from vmss.edges.settings import DEFAULT_CONFIG, OfSchedule, Settings, SettingsError, first, parsed
from vmss.edges.settings_table import OF_A_SCHEDULE, TABLE

# Upper limit on the size of the file.
_FILE_BYTES_MAX = 256 << 10


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
        raise SettingsError("%s: %s" % (one_line(path), "; ".join(first(mistakes))))
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
    sections, mistakes = ini.sections(text, "vmss")
    settings, told = Settings(), []
    for section in sections:
        values = {name: entry.text for name, entry in section.entries.items()}
        good, wrong = parsed(values, OF_A_SCHEDULE if section.name else TABLE)
        told += [(section.entries[name].line, name, rule) for name, rule in wrong.items()]
        if not section.name:
            settings = settings._replace(**good)
        else:
            where = "the settings file, line %d" % section.line
            mine = OfSchedule(section.name, tuple(sorted(good.items())), where)
            settings = settings._replace(schedules=settings.schedules + (mine,))
    return settings, mistakes + ["line %d: %s %s" % each for each in sorted(told)]
