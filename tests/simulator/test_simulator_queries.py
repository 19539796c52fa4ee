"""Queries by an index answer as a look at every row does."""

from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.simulator import Simulator
from vmss.simulator.build import build_pool, vbd_record
from vmss.simulator.values import stored_text

from .client import Client
from .conftest import START

CLASSES = ("VM", "VBD", "VDI", "SR", "task")
NULL = "OpaqueRef:NULL"


class Asked:
    """A pool that no test changes, and what queries may name: for each class its columns, with the texts that rows have
    there and some that none has."""

    def __init__(self) -> None:
        self.sim = Simulator(seed=1, now=START)
        self.root = Client(self.sim, self.sim.call("session.login_with_password", "root", ""))
        pool = build_pool(self.sim.call, vms=4)
        for vm in pool.vms:
            self.root("VM.snapshot", vm, "a snapshot", [])
            self.root("VM.snapshot", vm, "a snapshot", [])
        for vm in pool.running[:2]:
            self.root("VM.suspend", vm)
        # One disk with two users, in two orders; a reference to an object that is gone.
        disk = self.root("VBD.get_VDI", self.root("VM.get_VBDs", pool.vms[0])[0])
        self.root("VBD.create", vbd_record(pool.vms[3], disk, "7"))
        self.sim.db.delete("VM_metrics", self.root("VM.get_metrics", pool.vms[3]))
        self.sim.db.set("VM", pool.vms[3], "affinity", "OpaqueRef:gone")
        self.texts: Dict[str, Dict[str, List[str]]] = {cls: self._texts_of(cls) for cls in CLASSES}

    def _texts_of(self, cls: str) -> Dict[str, List[str]]:
        db = self.sim.db
        refs = list(db.tables[cls].rows)
        columns = {"_ref": [*refs, "OpaqueRef:gone"]}
        for column, field in db.tables[cls].cls.columns.items():
            values = [db.get(cls, ref, field.name) for ref in refs]
            backwards = [value[::-1] for value in values if field.derived]
            texts = {stored_text(value) for value in values + backwards}
            columns[column] = sorted(text for text in texts if '"' not in text) + ["", NULL, "()", "('", "('x')"]
        return columns

    def answers(self, cls: str, expression: str) -> List[str]:
        found: List[str] = self.root(cls + ".get_all_where", expression)
        return found


@pytest.fixture(scope="module")
def asked() -> Any:
    return Asked()


INDEXED = ["_ref", "uuid", "name__label", "VBDs", "VM", "VDI", "VDIs", "SR", "snapshot_of", "metrics", "suspend_VDI"]


@given(data=st.data())
def test_a_query_by_an_index_answers_as_a_look_at_every_row_does(asked: Asked, data: Any) -> None:
    cls = data.draw(st.sampled_from(CLASSES))
    columns = asked.texts[cls]
    column = st.sampled_from([name for name in INDEXED if name in columns]) | st.sampled_from(sorted(columns))

    def any_of() -> str:
        name = data.draw(column)
        texts = data.draw(st.lists(st.sampled_from(columns[name]), min_size=1, max_size=8))
        return "(%s)" % " or ".join('(field "%s" = "%s")' % (name, text) for text in texts)

    terms = [any_of() for _ in range(data.draw(st.integers(1, 3)))]
    query = data.draw(st.sampled_from([" and ", " or "])).join(terms)
    # No index helps with a negation.
    by_look = asked.answers(cls, "not (not (%s))" % query)
    by_index = asked.answers(cls, query)
    assert sorted(by_index) == sorted(by_look)


@pytest.mark.parametrize("cls, column", [("VM", "_ref"), ("VDI", "VBDs"), ("VM", "suspend_VDI"), ("VM", "metrics")])
def test_the_oldest_come_first_whatever_the_order_of_the_terms(asked: Asked, cls: str, column: str) -> None:
    texts = [text for text in asked.texts[cls][column] if text not in ("", NULL, "()")]
    query = " or ".join('(field "%s" = "%s")' % (column, text) for text in texts)
    assert asked.answers(cls, query) == asked.answers(cls, "not (not (%s))" % query) != []


@pytest.mark.parametrize("query", ['field "VBDs" = "()"', '(field "VBDs" = "()") or (field "VBDs" = "(\'x\')")'])
def test_no_index_knows_who_is_pointed_at_by_nobody(asked: Asked, query: str) -> None:
    unused = [ref for ref, row in asked.root("VDI.get_all_records").items() if not row["VBDs"]]
    assert asked.answers("VDI", query) == unused != []


def test_what_is_asked_changes_nothing_that_happens_later() -> None:
    def history(*queries: str) -> Any:
        sim = Simulator(seed=1, now=START)
        pool = build_pool(sim.call, vms=4)
        token = sim.call("event.from", pool.session, ["*"], "", 0.0)["token"]
        for vm in pool.vms:
            sim.call("VM.set_affinity", pool.session, vm, "OpaqueRef:gone")
        for query in queries:
            assert len(sim.call("VM.get_all_where", pool.session, query)) == 4
        events = sim.call("event.from", pool.session, ["*"], token, 0.0)["events"]
        # The restart shuffles what points at one object.
        sim.call("simulator.restart", NULL, "clean", 0.0)
        session = sim.call("session.login_with_password", "root", "")
        return events, sim.call("VM.get_all_records", session), sim.random.getstate()

    # The same seed builds the same pool.
    sim = Simulator(seed=1, now=START)
    pool = build_pool(sim.call, vms=4)
    metrics = ['(field "metrics" = "%s")' % sim.call("VM.get_metrics", pool.session, vm) for vm in pool.vms]
    assert history('field "affinity" = "OpaqueRef:gone"', " or ".join(metrics)) == history()
