"""The case that the doctor examines: a pool with what was read of it, and the files of this machine."""

from contextlib import ExitStack, contextmanager
from datetime import datetime, tzinfo
from typing import Iterator, List, NamedTuple, Optional, Sequence

from vmss.core.datetimes import format_iso
from vmss.core.policy import Policy
from vmss.core.problem import Problem
from vmss.edges.clock import Clock
from vmss.edges.pool_vms import PoolVms
from vmss.edges.settings import Place, Settings, SettingsError
from vmss.edges.settings_file import load
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Refused, Unanswered
from vmss.edges.zones import set_zone
from vmss.insight import logfile, no_session, policies
from vmss.insight.lock_and_log import Local, read_local
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading, reading
from vmss.insight.unfit import Fitness
from vmss.installation.root import Root

# Timeout in seconds of a call: somebody waits for the answers.
_CALL_LIMIT = 60


class Case(NamedTuple):
    """What the checks examine.

    `dom0`: this machine is one, with its files below `root`; `xapi_error`: why there is no session, or no list of
    policies, and `xapi_remedy` what to do about it; `settings_error`: the mistake in the settings file, and
    `settings_remedy` what to do about it.
    """

    where: Place
    settings: Settings
    root: Root
    dom0: bool
    now: datetime
    zone: tzinfo
    local: Local
    entries: Sequence[Entry] = ()
    session: Optional[Reading] = None
    xapi_error: str = ""
    xapi_remedy: str = ""
    settings_error: str = ""
    settings_remedy: str = ""
    pool_vms: Optional[PoolVms] = None
    vms_fitness: Optional[Fitness] = None

    @property
    def open(self) -> Reading:
        """The session, for checks that need one."""
        if self.session is None:
            raise LookupError("no session")
        return self.session

    @property
    def vms(self) -> PoolVms:
        """The VMs of the pool, which are read once for all checks that need one."""
        if self.pool_vms is None:
            raise LookupError("no session")
        return self.pool_vms

    @property
    def fitness(self) -> Fitness:
        """What keeps snapshots from being taken, which is found out once for all checks that need it."""
        if self.vms_fitness is None:
            raise LookupError("no session")
        return self.vms_fitness

    @property
    def known(self) -> List[Policy]:
        """The policies that can be understood."""
        return [entry.policy for entry in self.entries if entry.policy is not None]

    def moment(self, instant: datetime) -> str:
        """An instant as people read it."""
        return self.session.moment(instant) if self.session else format_iso(instant)


@contextmanager
def opened(around: Surroundings, root: Root, dom0: bool) -> Iterator[Case]:
    """Open a session if there is one, and read what most checks need; close the session afterwards."""
    settings, wrong, remedy = Settings(), "", ""
    try:
        settings = load(around.place.config)
    except SettingsError as error:
        wrong, remedy = str(error), error.remedy
    settings = settings._replace(call_limit=min(settings.call_limit, _CALL_LIMIT))
    around = around._replace(settings=settings, say=lambda text: None)
    with ExitStack() as stack:
        try:
            session = stack.enter_context(reading(around))
        except Problem as problem:
            case = _without_session(around, root, dom0, problem)
        else:
            case = _with_session(around, root, dom0, session)
        yield case._replace(settings_error=wrong, settings_remedy=remedy)


def _without_session(around: Surroundings, root: Root, dom0: bool, problem: Problem) -> Case:
    where, settings = around.place, around.settings
    clock, zone = around.clock or Clock(), set_zone(settings.timezone)
    log = None if where.xapi.startswith("https:") else logfile.read(where.log, zone, clock.now())
    local = Local("there is no session with xapi, which tells whose lock it is", cron=dom0, log=log)
    remedy = no_session.remedy(problem, where)
    return Case(where, settings, root, dom0, clock.now(), zone, local, xapi_error=str(problem), xapi_remedy=remedy)


def _with_session(around: Surroundings, root: Root, dom0: bool, session: Reading) -> Case:
    now, entries, why, remedy = session.now(), [], "", ""
    local = read_local(around.place, session, now)
    try:
        entries = policies.read(session)
    except (Refused, Unanswered) as error:
        why, remedy = str(error), no_session.remedy_of(error, around.place)
    case = Case(around.place, session.settings, root, dom0, now, session.zone, local, entries, session, why, remedy)
    pool_vms = PoolVms(session.xapi)
    return case._replace(pool_vms=pool_vms, vms_fitness=Fitness(session, case.known, pool_vms))
