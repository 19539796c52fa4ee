"""The end of the log, read back: what was written when, and what is only somebody's name."""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

import pytest
from dateutil import tz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmss.core import messages
from vmss.edges.log import Log
from vmss.edges.zones import time_zone
from vmss.insight import logfile

UTC = timezone.utc
NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
LONDON = tz.gettz("Europe/London")
ZONES = [UTC, LONDON, tz.gettz("America/New_York"), tz.gettz("Asia/Kathmandu"), tz.gettz("Australia/Lord_Howe")]

quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def line(text: str, stamp: str = "Mar  2 10:15:01") -> str:
    return "%s host VMSS: [123] %s" % (stamp, text)


@given(st.sampled_from(ZONES), st.integers(0, 5 * 365 * 86400), st.integers(0, 300 * 86400))
@quick
def test_what_our_log_writes_is_read_back(tmp_path: Path, zone: object, since: int, seconds: int) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=since)
    at = now - timedelta(seconds=seconds)
    path = tmp_path / "log"
    path.unlink() if path.exists() else None
    log = Log(str(path), lambda: at, zone)  # type: ignore[arg-type]
    log(logfile.TICK_LINE)
    log("'%s': 'x'" % messages.FAILED)
    log.close()
    record = logfile.read(str(path), zone, now)  # type: ignore[arg-type]
    assert record.tick is not None and record.tick == record.since == record.complaints[messages.FAILED].last
    # A clock that shows a time twice does not say which it was: then the later one, if it is past.
    assert record.tick == at or timedelta(0) < record.tick - at <= timedelta(hours=1)
    assert record.tick.astimezone(zone).replace(tzinfo=None) == at.astimezone(zone).replace(tzinfo=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "stamp, now, at",
    [
        ("Dec 31 23:45:01", datetime(2026, 1, 1, 0, 10, tzinfo=UTC), datetime(2025, 12, 31, 23, 45, 1, tzinfo=UTC)),
        ("Jan  1 00:00:01", datetime(2025, 12, 31, 23, 59, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("Mar  5 10:00:00", NOW, datetime(2025, 3, 5, 10, tzinfo=UTC)),
        ("Feb 29 10:00:00", NOW, datetime(2024, 2, 29, 10, tzinfo=UTC)),
        ("Oct 25 01:15:00", datetime(2026, 10, 25, 0, 20, tzinfo=UTC), datetime(2026, 10, 25, 0, 15, tzinfo=UTC)),
        ("Oct 25 01:15:00", datetime(2026, 10, 25, 1, 20, tzinfo=UTC), datetime(2026, 10, 25, 1, 15, tzinfo=UTC)),
        ("Mar 29 02:30:00", datetime(2026, 3, 29, 3, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("Jul 15 11:00:00", datetime(2026, 7, 15, 10, 5, tzinfo=UTC), datetime(2026, 7, 15, 10, tzinfo=UTC)),
    ],
)
def test_the_year_and_the_offset_are_found(tmp_path: Path, stamp: str, now: datetime, at: datetime) -> None:
    assert LONDON is not None
    assert logfile.read(write(tmp_path / "log", line(logfile.TICK_LINE, stamp)), LONDON, now).tick == at


@pytest.mark.parametrize(
    "text",
    [
        "Feb 31 10:00:00 host VMSS: [1] " + logfile.TICK_LINE,
        "Xyz  1 10:00:00 host VMSS: [1] " + logfile.TICK_LINE,
        "Mar  2 29:00:00 host VMSS: [1] " + logfile.TICK_LINE,
        "Mar  2 10:00:00 host OTHER: [1] " + logfile.TICK_LINE,
        "Mar  2 10:00:00 host VMSS: [x] " + logfile.TICK_LINE,
        logfile.TICK_LINE,
        line("snapshot failed for VM: 1 (%s): X" % logfile.TICK_LINE),
        line(logfile.TICK_LINE + " "),
        line("x\r" + line(logfile.TICK_LINE)),
        line("x\u2028" + line(logfile.TICK_LINE)),
    ],
)
def test_what_is_no_tick(tmp_path: Path, text: str) -> None:
    assert logfile.read(write(tmp_path / "log", text), UTC, NOW).tick is None


@pytest.mark.parametrize(
    "text",
    [
        "snapshot failed for VM: 1 ('VMSS_SNAPSHOT_FAILED': 'x'): Y",
        "Processing VM: Traceback (most recent call last):",
        "VMSS_SNAPSHOT_FAILEDX",
        "the run ended in an error of its own: x",
    ],
)
def test_a_name_is_no_complaint(tmp_path: Path, text: str) -> None:
    assert logfile.read(write(tmp_path / "log", line(text)), UTC, NOW).complaints == {}


def test_every_alert_of_ours_that_is_no_success_is_known(tmp_path: Path) -> None:
    names = [name for name in messages.SENTENCES if name != messages.SUCCEEDED]
    path = write(
        tmp_path / "log", *[line(text) for name in messages.SENTENCES for text in messages.log_lines(name, "now")]
    )
    seen = logfile.read(path, UTC, NOW).complaints
    assert sorted(seen) == sorted(names) and all(one.times == 1 for one in seen.values())


def test_the_article_is_understood(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        "May 21 10:15:01 xrtuk-09-11 VMSS: [10097] ===Kicking cron job for VMSS===",
        "May 21 10:15:01 xrtuk-09-11 VMSS: [10123] No of Policies: 2",
        "May 21 10:16:01 xrtuk-09-11 VMSS: [10123] 'VMSS_SNAPSHOT_LOCK_FAILED': 'The snapshot phase is already …'",
    )
    record = logfile.read(path, UTC, NOW)
    assert record.tick == datetime(2025, 5, 21, 10, 15, 1, tzinfo=UTC)
    assert list(record.complaints) == [messages.LOCK_FAILED]


def test_cron_started_it(tmp_path: Path) -> None:
    ours = '(root) CMD (python -c \'import imp; vmss = imp.load_source("vmss", "/etc/xapi.d/plugins/vmss")\')'
    path = write(
        tmp_path / "cron",
        "Mar  2 09:00:01 host CROND[1]: (root) CMD (run-parts /etc/cron.hourly)",
        "Mar  2 10:00:01 host CROND[17114]: " + ours,
        "Mar  2 10:05:01 host CROND[17115]: (bob) CMD (echo)",
        "Mar  2 10:06:01 host sshd[17116]: " + ours,
        "Mar  2 10:07:01 host CROND[17117]: (vmss) MAIL (CMD (vmss))",
    )
    assert logfile.last_start(path, UTC, NOW) == (
        datetime(2026, 3, 2, 10, 0, 1, tzinfo=UTC),
        datetime(2026, 3, 2, 9, 0, 1, tzinfo=UTC),
        "",
    )
    assert logfile.last_start(str(tmp_path / "none"), UTC, NOW)[2] == "No such file or directory"


@pytest.mark.parametrize(
    "stamp, at",
    [
        ("2026-03-02T10:15:01.453321+00:00", datetime(2026, 3, 2, 10, 15, 1, tzinfo=UTC)),
        ("2026-03-02T15:45:01.453321+05:30", datetime(2026, 3, 2, 10, 15, 1, tzinfo=UTC)),
        ("2026-03-01T23:45:01.4-10:30", datetime(2026, 3, 2, 10, 15, 1, tzinfo=UTC)),
        ("2026-03-02T10:14:60Z", datetime(2026, 3, 2, 10, 14, 59, tzinfo=UTC)),
        ("2025-03-02T10:15:01Z", datetime(2025, 3, 2, 10, 15, 1, tzinfo=UTC)),
        ("2026-03-02T10:21:00Z", datetime(2026, 3, 2, 10, 21, tzinfo=UTC)),
        # A clock that was wrong, and times that cannot be.
        ("2027-03-02T10:15:01Z", None),
        ("2026-02-30T10:15:01Z", None),
        ("2026-03-02T29:15:01Z", None),
        ("0001-01-01T00:00:00+05:30", None),
        ("2026-03-02T10:15:01+99:00", None),
        # Neither form.
        ("2026-03-02T10:15:01", None),
        ("2026-03-02 10:15:01+00:00", None),
        ("1772446501.453321", None),
        ("Mar  2 2026 10:15:01", None),
    ],
)
def test_cron_started_it_on_a_system_that_stamps_lines_as_in_rfc_3339(
    tmp_path: Path, stamp: str, at: Optional[datetime]
) -> None:
    path = write(tmp_path / "cron", stamp + " host CROND[17114]: (root) CMD (python3 -c 'import vmss')")
    assert ZONES[3] is not None
    found = logfile.last_start(path, ZONES[3], NOW)
    assert found[:2] == (at, at)
    assert (found[2] == "") == (at is not None) and ("in a form that is known" in found[2]) == (at is None)


def test_a_log_in_both_forms_and_one_with_a_start_in_the_future(tmp_path: Path) -> None:
    line = "%s host CROND[17114]: (root) CMD (python3 -c 'import vmss')"
    old, new, wrong = "Mar  2 08:00:01", "2026-03-02T10:00:01.5+00:00", "2026-03-02T23:00:01.5+00:00"
    first, last = datetime(2026, 3, 2, 8, 0, 1, tzinfo=UTC), datetime(2026, 3, 2, 10, 0, 1, tzinfo=UTC)
    for stamps in ([old, new], [old, new, wrong], ["what no log has", old, new, "Mar  2 23:00:01"]):
        path = write(tmp_path / "cron", *[line % stamp for stamp in stamps])
        assert logfile.last_start(path, UTC, NOW) == (last, first, "")
    assert logfile.last_start(write(tmp_path / "cron"), UTC, NOW) == (None, None, "")  # it was just rotated


# Files


@pytest.mark.parametrize("before, after", [("Asia/Tokyo", "America/New_York"), ("America/New_York", "Asia/Tokyo")])
@pytest.mark.parametrize("minutes", [1, 40])
def test_a_tick_that_was_written_before_the_zone_was_changed_is_as_old_as_it_is(
    tmp_path: Path, before: str, after: str, minutes: int
) -> None:
    now = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)
    written = now - timedelta(minutes=minutes)
    log = Log(str(tmp_path / "log"), lambda: written, time_zone(before))
    log("===Kicking cron job for VMSS===")
    log("No of Policies: 0")
    log.close()
    os.utime(str(tmp_path / "log"), (written.timestamp() + 0.5, written.timestamp() + 0.5))
    assert logfile.read(str(tmp_path / "log"), time_zone(after), now).tick == written


def test_what_was_rotated_away_is_read_too(tmp_path: Path) -> None:
    write(tmp_path / "log.1", line(logfile.TICK_LINE, "Mar  2 10:00:01"))
    record = logfile.read(write(tmp_path / "log"), UTC, NOW)
    assert record.tick == datetime(2026, 3, 2, 10, 0, 1, tzinfo=UTC)


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    old = line(logfile.TICK_LINE, "Mar  1 10:00:01")
    path = write(tmp_path / "log", old, *[line("x" * 1000)] * 1100)
    write(tmp_path / "log.1", old)
    record = logfile.read(path, UTC, NOW)
    assert record.tick is None and record.since == datetime(2026, 3, 2, 10, 15, 1, tzinfo=UTC)


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    record = logfile.read(str(tmp_path / "log"), UTC, NOW)
    assert record.missing and record.error == "No such file or directory"


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "pipe"))
    os.symlink(write(tmp_path / "log", line(logfile.TICK_LINE)), str(tmp_path / "link"))
    for name in ("pipe", "link", ""):
        record = logfile.read(str(tmp_path / name), UTC, NOW)
        assert record.error and not record.missing and record.tick is None


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.builds(lambda text: line(text).encode("utf-8", "replace"), st.text(max_size=100)),
            st.sampled_from(
                [
                    line(logfile.TICK_LINE).encode(),
                    b"9999-12-31T23:59:59-23:59 host VMSS: [1] " + logfile.TICK_LINE.encode(),
                    b"'" * 3000,
                    line("'VMSS_SNAPSHOT_FAILED'\x00").encode(),
                ]
            ),
        )
    )
)
@quick
def test_any_bytes_are_read(tmp_path: Path, lines: "list[bytes]") -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\n".join(lines))
    record = logfile.read(str(path), UTC, NOW)
    assert not record.error
    assert record.tick is None or record.tick <= NOW + timedelta(days=1)
    logfile.last_start(str(path), UTC, NOW)
