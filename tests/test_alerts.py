"""The bodies of alerts, read as XenCenter reads them."""

import re
from typing import Dict, List, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.core import messages
from vmss.core.messages import Victim

UUID = "e2a06f32-d4ad-316f-ef20-4e4541a5a453"

# The shape of a line about a VM that XenCenter takes notice of: greedy, so the last UUID: and the last quote
# count; everything else in a body is passed over.
LINE = re.compile(r"VM:(?P<name>.*)UUID:(?P<uuid>.*)Error:\[(?P<items>'.*')\],?")


def as_xencenter_reads(body: str) -> List[Dict[str, str]]:
    found = []
    for line in re.split("\r\n|\r|\n", body):
        match = LINE.fullmatch(line)
        if match:
            code = match.group("items").split(",")[0].strip().strip("'")
            found.append({"name": match.group("name").strip(), "uuid": match.group("uuid").strip(), "code": code})
    return found


def body(name: str, error: Sequence[str] = ("SR_BACKEND_FAILURE_44", "", "full")) -> str:
    return messages.failed_body([Victim(name, UUID, error)], "'nightly': 0 of 1 VMs")


HOSTILE = [
    "web01",
    "",
    " ",
    "it's",
    'say "hi"',
    "a,b",
    "[x]",
    "']",
    "',",
    "UUID:",
    "VM:x UUID:y Error:['Z'],",
    "a\nVM:forged UUID:%s Error:['FORGED'],\nb" % UUID,
    "a\r\nb",
    "tab\there",
    "\x00\x01\x1b",
    "öäü 📷 日本",
    "\u202eevil",
    "\u2028",
    "\ud800",
    "x" * 10000,
    "Error:[",
    "&lt;<>&",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_failed_vm_is_one_line_with_its_uuid_and_code_whatever_it_is_called(name: str) -> None:
    assert [(vm["uuid"], vm["code"]) for vm in as_xencenter_reads(body(name))] == [(UUID, "SR_BACKEND_FAILURE_44")]


@pytest.mark.parametrize("parameter", HOSTILE)
def test_the_parameters_of_an_error_break_nothing_either(parameter: str) -> None:
    found = as_xencenter_reads(body("web01", ("OPERATION_BLOCKED", "OpaqueRef:1", parameter)))
    assert found == [{"name": "web01", "uuid": UUID, "code": "OPERATION_BLOCKED"}]


@given(st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=4)), min_size=1, max_size=4), st.text())
def test_any_failures_are_read_back_one_each(failures: "list[tuple[str, list[str]]]", summary: str) -> None:
    victims = [Victim(name, UUID, tuple(["CODE"] + error)) for name, error in failures]
    text = messages.failed_body(victims, summary)
    text.encode("utf-8")
    assert [(vm["uuid"], vm["code"]) for vm in as_xencenter_reads(text)] == [(UUID, "CODE")] * len(victims)


def test_ordinary_names_are_shown_as_they_are() -> None:
    line = messages.failure_line(Victim("web 01, (blue)", UUID, ("OPERATION_BLOCKED", "OpaqueRef:1", "no, never")))
    assert line == "VM:web 01, (blue) UUID:%s Error:['OPERATION_BLOCKED', 'OpaqueRef:1', 'no, never']," % UUID


def test_a_body_stays_within_what_one_call_may_carry_and_says_how_many_more_failed() -> None:
    victims = [Victim("vm%d" % number, UUID, ("CODE", "'" * 400)) for number in range(5000)]
    text = messages.failed_body(victims, "summary")
    assert len(text.encode("utf-8")) < 110000
    shown = len(as_xencenter_reads(text))
    assert "%d more VMs failed" % (5000 - shown) in text


def test_a_person_reads_what_happened_and_what_to_do() -> None:
    text = body("web01")
    assert "'nightly': 0 of 1 VMs" in text
    assert "The storage repository is full. Free space on it" in text


def test_an_error_without_anything_in_it_is_still_a_line() -> None:
    assert messages.failure_line(Victim("a", UUID, ())) == "VM:a UUID:%s Error:['']," % UUID


def test_the_log_lines_of_an_alert_are_the_articles() -> None:
    assert messages.log_lines(messages.SUCCEEDED, "2017-05-21 10:18:03.369298") == [
        "RETURN in create_structured_alert: <XCData><time>2017-05-21 10:18:03.369298</time>"
        "<messagetype>info</messagetype><message>VMSS_SNAPSHOT_SUCCEEDED</message></XCData>"
    ]
    assert messages.log_lines(messages.LOCK_FAILED, "T")[0] == (
        "'VMSS_SNAPSHOT_LOCK_FAILED': 'The snapshot phase is already executing for this snapshot policy. "
        "Please try again later'"
    )
    assert messages.log_lines(messages.MISSED_EVENT, "T")[0] == (
        "'VMSS_SNAPSHOT_MISSED_EVENT': 'A scheduled snapshot event was missed due to another on-going scheduled "
        "snapshot run. This is unexpected behaviour, please re-configure your snapshot sub-policy'"
    )
