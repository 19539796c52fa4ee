"""The report of a day: made by the first tick after its hour, as a file and through the pool's mail, and once."""

import os
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.pool import TestPool
from vmss.edges.surroundings import Surroundings
from vmss.insight import daily_report, published
from vmss.passes.request import Request


def reporting(pool: TestPool, **settings: Any) -> Surroundings:
    Path(pool.place.config).write_text("[vmss]\nlogin_limit = 0\ntimezone = UTC\n")
    return pool.surroundings(settings=pool.settings._replace(**settings))


def tick(pool: TestPool, around: Surroundings, *at: int) -> List[str]:
    """What a tick at this time writes into the log about the report; it serves no schedule worse for that."""
    before = len(pool.log())
    pool.at(at[1], at[2], at[0])
    assert published.run(Request(kicked=True), around).status == 0
    return [line for line in pool.log()[before:] if line.startswith("The report ")]


def mails(pool: TestPool) -> List[Dict[str, Any]]:
    records = pool.call("message.get_all_records").values()
    return [record for record in records if record["name"] == "VMSS_REPORT"]


def mailed_to(pool: TestPool, **values: str) -> None:
    (ref,) = pool.call("pool.get_all")
    for name, value in values.items():
        pool.call("pool.add_to_other_config", ref, name.replace("_", "-"), value)


def test_the_page_is_written_once_a_day_after_its_hour(pool: TestPool) -> None:
    pool.policy([pool.vm("web <1>", [pool.sr()])], "nightly")
    file = pool.folder / "report.html"
    around = reporting(pool, report_file=str(file), report_hour=11)
    assert tick(pool, around, 2, 10, 45) == [] and not file.exists()
    assert tick(pool, around, 2, 11, 0) == []
    text, status = file.read_text(encoding="utf-8"), file.stat()
    assert "web &lt;1&gt;" in text and text.rstrip().endswith("</html>") and status.st_mode & 0o777 == 0o640
    tick(pool, around, 2, 23, 0)
    assert file.stat() == status
    tick(pool, around, 3, 10, 0)
    assert file.stat() == status
    tick(pool, around, 3, 11, 15)
    assert file.stat().st_ino != status.st_ino


def test_a_link_in_the_place_of_the_page_is_replaced_and_not_followed(pool: TestPool) -> None:
    secret, file = pool.folder / "secret", pool.folder / "report.html"
    secret.write_text("kept")
    file.symlink_to(secret)
    tick(pool, reporting(pool, report_file=str(file)), 2, 11, 0)
    assert secret.read_text() == "kept" and not file.is_symlink() and "<html" in file.read_text(encoding="utf-8")


def test_what_goes_wrong_is_told_and_tried_again_by_the_next_tick(pool: TestPool) -> None:
    folder = pool.folder / "www"
    around = reporting(pool, report_file=str(folder / "report.html"))
    (line,) = tick(pool, around, 2, 11, 0)
    assert line.startswith("The report is not written: ") and "No such file" in line
    folder.mkdir()
    Path(pool.place.config).write_text("[vmss]\nnonsense\n")
    (line,) = tick(pool, around, 2, 11, 15)
    assert line.startswith("The report is not written: ") and pool.place.config in line
    Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\n")
    assert tick(pool, around, 2, 11, 30) == [] and os.listdir(str(folder)) == ["report.html"]


def test_one_that_takes_too_long_is_given_up(pool: TestPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily_report, "_LIMIT_S", 0.01)
    (line,) = tick(pool, reporting(pool, report_file=str(pool.folder / "r")), 2, 11, 0)
    assert "it has not been made within" in line


@pytest.mark.parametrize("up_to, priority", [("", "3"), ("5", "5"), ("9", "5"), ("0", "1"), ("x", "3")])
def test_it_is_mailed_also_if_nothing_ran_and_the_newest_stays(pool: TestPool, up_to: str, priority: str) -> None:
    pool.policy([pool.vm("web", [pool.sr()])], "nightly", enabled=False)
    mailed_to(pool, mail_destination="root@example.com", **({"mail_min_priority": up_to} if up_to else {}))
    around = reporting(pool, report_mail=True)
    assert tick(pool, around, 2, 11, 0) == ["The report of 2026-03-02 is handed to the pool's mail"]
    (mail,) = mails(pool)
    assert (mail["cls"], mail["priority"]) == ("Pool", priority)
    assert mail["body"].startswith("The daily report on scheduled snapshots.\nThe VM is not protected\n")
    assert "disabled: web: its schedule is disabled" in mail["body"]
    assert tick(pool, around, 2, 11, 15) == [] and mails(pool) == [mail]
    if up_to == "5":
        tick(pool, around, 3, 11, 0)
        (newer,) = mails(pool)
        assert newer["uuid"] != mail["uuid"]


def test_a_pool_without_mail_is_told_once_a_day(pool: TestPool) -> None:
    around = reporting(pool, report_mail=True)
    (line,) = tick(pool, around, 2, 11, 0)
    assert line == "The report is not mailed: the pool has no mail-destination in its other_config"
    assert tick(pool, around, 2, 11, 15) == [] and mails(pool) == []
    assert len(tick(pool, around, 3, 11, 15)) == 1
