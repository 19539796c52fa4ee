"""The kernel: processes that wait for one another, that are killed, and a clock that is set."""

from typing import Any, List

import pytest

from vmss.simulator.kernel import Child, Condition, Join, Kernel, Killed, Process, Sleep, Wait


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(1000.0)


def run(kernel: Kernel) -> None:
    """Let time pass until nothing waits for it."""
    kernel.run_due()
    while kernel.advance():
        pass


def noting(ends: List[Any]) -> Any:
    return lambda result, error: ends.append((result, error))


def sleeper(seconds: float, result: Any = None) -> Any:
    yield Sleep(seconds)
    return result


def joiner(steps: Any, domain: str) -> Any:
    return (yield Join(steps, domain))


def test_who_joins_a_process_gets_its_result(kernel: Kernel) -> None:
    ends: List[Any] = []
    kernel.spawn(joiner(sleeper(5.0, "done"), "below"), noting(ends), "above")
    run(kernel)
    assert ends == [("done", None)] and kernel.now() == 1005.0


def test_who_joins_a_process_gets_its_error_and_may_handle_it(kernel: Kernel) -> None:
    def failing() -> Any:
        yield Sleep(1.0)
        raise ValueError("no")

    def careful() -> Any:
        try:
            yield Join(failing(), "below")
        except ValueError as error:
            yield Sleep(1.0)
            return "handled %s" % error

    ends: List[Any] = []
    kernel.spawn(careful(), noting(ends), "above")
    kernel.spawn(joiner(failing(), "below"), noting(ends), "above")
    run(kernel)
    assert isinstance(ends[0][1], ValueError) and ends[1] == ("handled no", None)


def test_a_process_outlives_the_one_that_waits_for_it(kernel: Kernel) -> None:
    seen: List[str] = []

    def worker() -> Any:
        yield Sleep(5.0)
        seen.append("worked")

    orphaned: List[Any] = []
    kernel.spawn(joiner(worker(), "below"), noting(orphaned), "above")
    kernel.run_due()
    (done,) = kernel.kill("above")
    assert kernel.alive("below") == 1 and kernel.alive("above") == 0 and orphaned == []
    done(None, None)
    run(kernel)
    assert seen == ["worked"] and orphaned == [(None, None)]


def test_killing_the_joined_process_lets_its_waiter_be_told(kernel: Kernel) -> None:
    ends: List[Any] = []
    kernel.spawn(joiner(sleeper(5.0), "xapi:member"), noting(ends), "xapi")
    kernel.run_due()
    for done in kernel.kill("xapi:member"):
        done(None, ValueError("gone"))
    run(kernel)
    assert str(ends[0][1]) == "gone" and kernel.now() == 1000.0


def test_a_process_waits_outside_time_when_the_one_it_joins_does(kernel: Kernel) -> None:
    answers: List[Any] = []

    def outsider() -> Any:
        return (yield Child(answers.append))

    ends: List[Any] = []
    process = kernel.spawn(joiner(joiner(outsider(), "b"), "a"), noting(ends))
    kernel.run_due()
    assert process.outside
    answers[0]("back")
    kernel.run_due()
    assert ends == [("back", None)] and not process.outside


def test_a_domain_is_killed_with_all_below_it_and_no_other(kernel: Kernel) -> None:
    for domain in ("xapi", "xapi:a", "xapi:b", "xapiary", "storage"):
        kernel.spawn(sleeper(9.0), None, domain)
    kernel.run_due()
    kernel.kill("xapi:a")
    assert [kernel.alive(domain) for domain in ("xapi", "xapi:a", "xapi:b")] == [1, 0, 1]
    kernel.kill("xapi")
    assert [kernel.alive(domain) for domain in ("xapi", "xapi:b", "xapiary", "storage")] == [0, 0, 1, 1]


def test_a_process_that_never_ran_is_killed_without_running(kernel: Kernel) -> None:
    seen: List[str] = []

    def worker() -> Any:
        seen.append("ran")
        yield Sleep(1.0)

    kernel.spawn(worker(), None, "xapi")
    kernel.kill("xapi")
    run(kernel)
    assert seen == []


def test_what_is_killed_cleans_up_but_gets_no_time_for_it(kernel: Kernel) -> None:
    seen: List[str] = []

    def worker() -> Any:
        try:
            try:
                yield Sleep(5.0)
            finally:
                seen.append("first")
                yield Sleep(5.0)
                seen.append("never")
        finally:
            seen.append("second")

    kernel.spawn(worker(), None, "xapi")
    kernel.run_due()
    kernel.kill("xapi")
    run(kernel)
    assert seen == ["first", "second"] and kernel.now() == 1000.0


def test_a_process_that_kills_itself_goes_as_far_as_its_next_wait(kernel: Kernel) -> None:
    seen: List[Any] = []

    def suicide() -> Any:
        try:
            orphans = kernel.kill("xapi")
            seen.append(len(orphans))
            yield Sleep(1.0)
            seen.append("never")
        finally:
            seen.append("cleaned up")

    kernel.spawn(suicide(), noting(seen), "xapi")
    run(kernel)
    assert seen == [1, "cleaned up"] and kernel.alive("xapi") == 0


def test_an_error_on_the_way_out_of_a_killed_process_is_nobodys(kernel: Kernel) -> None:
    def clumsy() -> Any:
        try:
            yield Sleep(1.0)
        except Killed:
            raise ValueError("while cleaning up")

    kernel.spawn(clumsy(), None, "xapi")
    kernel.spawn(clumsy(), None, "xapi")
    kernel.run_due()
    kernel.kill("xapi")
    assert kernel.alive("xapi") == 0


def test_a_killed_waiter_leaves_its_condition_and_is_not_woken(kernel: Kernel) -> None:
    condition, ends = Condition(kernel), []

    def waiter(name: str) -> Any:
        yield Wait(condition, 60.0)
        ends.append(name)

    kernel.spawn(waiter("stays"), None, "a")
    kernel.spawn(waiter("goes"), None, "b")
    kernel.run_due()
    kernel.kill("b")
    assert condition.notify_one() and not condition.notify_one()
    run(kernel)
    assert ends == ["stays"] and kernel.now() == 1000.0


def test_the_newest_waiter_is_woken_first_and_a_late_one_times_out(kernel: Kernel) -> None:
    condition, ends = Condition(kernel), []

    def waiter(name: str) -> Any:
        woken = yield Wait(condition, 5.0)
        ends.append((name, woken, kernel.now()))

    for name in ("old", "new"):
        kernel.spawn(waiter(name))
    kernel.run_due()
    condition.notify_one()
    run(kernel)
    assert ends == [("new", True, 1000.0), ("old", False, 1005.0)]


def test_setting_the_clock_forward_lets_each_thing_happen_at_its_own_time(kernel: Kernel) -> None:
    seen: List[float] = []

    def ticking() -> Any:
        for _ in range(3):
            yield Sleep(10.0)
            seen.append(kernel.now())

    kernel.spawn(ticking())
    kernel.set_time(1025.0)
    assert seen == [1010.0, 1020.0] and kernel.now() == 1025.0
    run(kernel)
    assert seen[-1] == 1030.0


def test_setting_the_clock_back_keeps_what_waits_waiting_as_long(kernel: Kernel) -> None:
    ends: List[Any] = []
    kernel.spawn(sleeper(10.0), noting(ends))
    kernel.run_due()
    kernel.set_time(500.0)
    run(kernel)
    assert kernel.now() == 510.0 and len(ends) == 1


def test_upkeep_runs_when_it_is_due_and_moves_no_clock(kernel: Kernel) -> None:
    rounds: List[float] = []

    def upkeep() -> None:
        rounds.append(kernel.now())
        kernel.upkeep_due = kernel.now() + 30.0

    kernel.upkeep, kernel.upkeep_due = upkeep, 1030.0
    assert not kernel.advance() and rounds == []
    kernel.spawn(sleeper(100.0))
    run(kernel)
    # However late, it is one round.
    assert rounds == [1100.0]
    kernel.set_time(600.0)
    kernel.set_time(629.0)
    assert rounds == [1100.0]
    kernel.set_time(631.0)
    assert rounds == [1100.0, 631.0]


def test_whom_the_upkeep_wakes_goes_on_though_nothing_else_is_due(kernel: Kernel) -> None:
    ends: List[Any] = []
    condition = Condition(kernel)

    def waiter() -> Any:
        return (yield Wait(condition, 10.0))

    def upkeep() -> None:
        kernel.upkeep_due = kernel.now() + 30.0
        condition.notify_all()

    kernel.spawn(waiter(), noting(ends))
    kernel.run_due()
    kernel.upkeep, kernel.upkeep_due = upkeep, kernel.now() + 10.0
    kernel.advance()
    assert ends == [(True, None)]


def test_a_process_tells_its_owner_of_an_error(kernel: Kernel) -> None:
    def failing() -> Any:
        yield Sleep(1.0)
        raise ValueError("no")

    ends: List[Any] = []
    process = kernel.spawn(failing(), noting(ends))
    assert isinstance(process, Process)
    run(kernel)
    assert ends[0][0] is None and str(ends[0][1]) == "no" and process.finished


def test_a_process_that_yields_nonsense_is_a_bug_that_shows(kernel: Kernel) -> None:
    def nonsense() -> Any:
        yield 5

    kernel.spawn(nonsense())
    with pytest.raises(TypeError):
        kernel.run_due()
