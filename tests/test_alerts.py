"""The bodies of alerts, read as both of XenCenter's parsers read them."""

import re
from typing import List, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import xencenter
from tests.test_text import hostile
from vmss.core import messages
from vmss.core.messages import Victim
from vmss.core.text import one_line
from vmss.insight import history

UUID = "e2a06f32-d4ad-316f-ef20-4e4541a5a453"
OTHER = "0e268e37-cbdc-5b6d-8098-89e740337c2a"

# Texts in which the marks of the parsers are likely, whole and in parts.
MARKS = ["VM:", "UUID:", "Error:", "[", "Details:", "'", "],", ",", "\n", "\r", ":", "VM", "Error", " ", "\u2028"]
marked = st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=3)), max_size=8).map("".join)
texts = st.one_of(marked, hostile)


def body(name: str, error: Sequence[str] = ("SR_BACKEND_FAILURE_44", "", "full"), summary: str = "") -> str:
    return messages.failed_body([Victim(name, UUID, error)], summary or "'nightly': 0 of 1 VMs")


def read(text: str) -> List["tuple[str, str, str]"]:
    """The VMs that failed, for either XenCenter: the name, uuid and code of each."""
    current, older = ([vm[:3] for vm in parser(text)] for parser in (xencenter.current, xencenter.older))
    assert current == older
    return current


def shown(name: str) -> str:
    """The name of a VM as XenCenter is to show it: on one line, and with a blank in each of the marks."""
    name = one_line(name, 200).replace("'", "\u2019")
    for mark in ("VM", "UUID", "Error", "Details"):
        name = name.replace(mark + ":", mark + " :")
    return name.strip()


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
    "Error: x",
    "Details:",
    "2 VMs, or 1 VM: x",
    "&lt;<>&",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_failed_vm_is_one_line_with_its_uuid_and_code_whatever_it_is_called(name: str) -> None:
    assert [vm[1:] for vm in read(body(name))] == [(UUID, "SR_BACKEND_FAILURE_44")]
    assert read(body("web01", summary=name)) == [("web01", UUID, "SR_BACKEND_FAILURE_44")]
    # The older XenCenter looks for VMs in alerts of every kind.
    for kind in messages.XENCENTER_KNOWS:
        assert read(messages.body(kind, name)) == []


@pytest.mark.parametrize("parameter", HOSTILE)
def test_the_parameters_of_an_error_break_nothing_either(parameter: str) -> None:
    assert read(body("web01", ("OPERATION_BLOCKED", "OpaqueRef:1", parameter))) == [
        ("web01", UUID, "OPERATION_BLOCKED")
    ]


@given(st.lists(st.tuples(texts, st.lists(texts, max_size=4)), min_size=1, max_size=4), texts, texts)
@example([("a", ["CODE"]), ("b", ["CODE"])], "text that begins no new item", "")
@example([("a", [",CODE"]), ("b", ["[]"]), ("c", [" ,'"]), ("d", [])], "", "")
@example([("a", ["CODE", ",x", "Error: no [y],"]), ("b", ["CODE"])], "", "1 more VM: x")
@settings(max_examples=60)
def test_any_failures_are_read_back_by_both_parsers(
    failures: "list[tuple[str, list[str]]]", summary: str, reason: str
) -> None:
    victims = [Victim(name, (UUID, OTHER)[number % 2], error) for number, (name, error) in enumerate(failures)]
    text = messages.failed_body(victims, summary, UUID, [reason])
    text.encode("utf-8")
    found = read(text)
    assert [vm[:2] for vm in found] == [(shown(victim.name), victim.uuid) for victim in victims]
    assert [victim.uuid for victim in history.victims(text)] == [victim.uuid for victim in victims]
    for (_, _, code), victim in zip(found, victims):
        of_xapi = re.match(r"[A-Z0-9_]+\Z", victim.error[0]) if victim.error else None
        assert code == victim.error[0] if of_xapi else code
    # The parameters too, as far as they are no more than words. To those of the last VM the text for people is added.
    for vm, victim in zip(xencenter.older(text)[:-1], victims):
        if len(victim.error) > 1 and all(re.match(r"\w*\Z", item) for item in victim.error[1:]):
            assert list(vm.items[1:]) == victim.error[1:]


def test_the_older_parser_reads_each_item_of_an_error() -> None:
    error = ("CODE", "", ",x", "Error: no [y],", "it's")
    text = messages.failed_body([Victim("a", UUID, error), Victim("b", OTHER, ("CODE",))], "text")
    first, last = xencenter.older(text)
    assert first == ("a", UUID, "CODE", ("CODE", "", ",x", "Error : no y", "it\u2019s"))
    assert last[:3] == ("b", OTHER, "CODE")


def test_a_body_has_the_vendors_form() -> None:
    lines = body("web01").split("\n")
    assert lines[:4] == [
        "At least one scheduled snapshot of this snapshot policy failed.",
        "Details:",
        "VM:web01 UUID:%s Error:['SR_BACKEND_FAILURE_44', '', 'full']," % UUID,
        "'nightly': 0 of 1 VMs",
    ]


def test_of_class_vmss_are_the_names_that_xencenter_knows_and_no_others() -> None:
    of_schedules = [name for name in messages.PRIORITIES if messages.class_of(name) == "VMSS"]
    assert sorted(of_schedules) == sorted(xencenter.KNOWS) and messages.class_of("VMSS_NEW") == "Pool"


def test_ordinary_names_are_shown_as_they_are() -> None:
    line = messages.failure_line(Victim("web 01, (blue)", UUID, ("OPERATION_BLOCKED", "OpaqueRef:1", "no, never")))
    assert line == "VM:web 01, (blue) UUID:%s Error:['OPERATION_BLOCKED', 'OpaqueRef:1', 'no, never']," % UUID


def test_a_body_stays_within_what_one_call_may_carry_and_says_how_many_more_failed() -> None:
    victims = [Victim("vm%d" % number, UUID, ("CODE", "'" * 400)) for number in range(5000)]
    text = messages.failed_body(victims, "summary")
    assert len(text.encode("utf-8")) < 110000
    shown = len(read(text))
    assert "%d more VMs failed" % (5000 - shown) in text


def test_a_person_reads_what_happened_and_what_to_do() -> None:
    text = body("web01")
    assert "'nightly': 0 of 1 VMs" in text
    assert "The storage repository is full. Free space on it" in text


def test_an_error_without_anything_in_it_is_still_a_line() -> None:
    assert messages.failure_line(Victim("a", UUID, ())) == "VM:a UUID:%s Error:['UNKNOWN_ERROR', '']," % UUID


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
