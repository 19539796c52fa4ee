"""The mutations: each is one place of the product with other text in it, and what it does then."""

from typing import List, NamedTuple, Tuple


class Mutation(NamedTuple):
    """`old`, which stands once in the file of the product, becomes `new`. `tests`: the files of tests that are asked
    first; all others follow if these notice nothing."""

    what: str
    path: str
    old: str
    new: str
    tests: Tuple[str, ...]


def _of(path: str, *mutations: Tuple[str, str, str, str]) -> List[Mutation]:
    return [Mutation(what, path, old, new, tuple(tests.split())) for what, old, new, tests in mutations]


MUTATIONS: List[Mutation] = [
    *_of(
        "vmss/core/retention.py",
        ("the youngest snapshots expire", "        reverse=True,\n", "", "retention"),
        ("one snapshot more is kept", "if len(found) < keep.retained:", "if len(found) <= keep.retained:", "retention"),
        (
            "one snapshot less is kept",
            "if len(found) < keep.retained:",
            "if len(found) < keep.retained - 1:",
            "retention",
        ),
        (
            "thinning keeps nothing but the newest",
            "choose(period, newest_of_periods(",
            "(period, newest_of_periods(",
            "retention",
        ),
        (
            "a pinned snapshot expires",
            "if not snapshot.pinned and not in_future(snapshot, now)),",
            "if not in_future(snapshot, now)),",
            "retention",
        ),
        (
            "a snapshot that is dated in the future counts",
            "if not snapshot.pinned and not in_future(snapshot, now)),",
            "if not snapshot.pinned),",
            "retention",
        ),
        ("a run deletes many snapshots of a VM", "MORE_IN_A_RUN = 2", "MORE_IN_A_RUN = 9", "convergence run"),
    ),
    *_of(
        "vmss/core/ways.py",
        ("a halted VM is checkpointed", 'if vm.power_state == "Halted" else', 'if vm.power_state == "" else', "run"),
        ("a disk that is to be left out is taken", "if disk.skip or", "if", "ways"),
        ("a VM that cannot be checkpointed gets nothing", "return [ended] if job.fallback and", "return [] if", "ways"),
        (
            "a VM that is to have no memory saved is checkpointed",
            "and NO_MEMORY in vm.tags",
            'and "" in vm.tags',
            "ways",
        ),
    ),
    *_of(
        "vmss/edges/halted.py",
        (
            "a halted VM that ran meanwhile gets no snapshot",
            "if vm.ref in started and started[vm.ref] < last[vm.ref].time - _CLOCKS_DIFFER]",
            "if vm.ref in started]",
            "halted",
        ),
        (
            "a halted VM always gets one more",
            "return {\n        vm.ref\n",
            "return set() and {\n        vm.ref\n",
            "halted",
        ),
    ),
    *_of(
        "vmss/edges/excused.py",
        ("a VM that runs gets no snapshot", "not _ran(xapi, vm, slot))", "_ran(xapi, vm, slot))", "ways"),
        ("a VM gets a snapshot only if it runs", "if ONLY_RUNNING in vm.tags and not", "if not", "run"),
    ),
    *_of(
        "vmss/core/served.py",
        (
            "which VMs got no snapshot is not told",
            "sorted(set(self.excused))",
            "sorted(set(self.excused[:0]))",
            "halted",
        ),
    ),
    *_of(
        "vmss/core/policy.py",
        ("a slot is too late at once", "slot + max(self.late_limit, TICK_INTERVAL)", "slot", "late"),
        ("no slot is too late", "return self.late_limit is not None and", "return False and", "late"),
        ("a schedule that has changed makes up", "self.last_run, self.changed\n", "self.last_run, None\n", "changed"),
    ),
    *_of("vmss/passes/lapsed.py", ("what is too late is not told", "in due.lapsed:", "in due.lapsed[:0]:", "late")),
    *_of(
        "vmss/core/by_tag.py",
        ("a tag puts no VM on a schedule", "one.vm.schedule != one.to.ref]", "one.obstacle]", "by_tag"),
        ("one of several tags counts", "if NONE in vm.tags or len(names) > 1:", "if NONE in vm.tags:", "by_tag"),
    ),
    *_of(
        "vmss/passes/planning.py", ("a VM is excused from runs by hand", "and not turn.forced]", "and True]", "halted")
    ),
    *_of(
        "vmss/core/plan.py",
        ("a VM that was served is served again", "served = counts and any(", "served = False and any(", "run"),
        (
            "an old slot's snapshot counts for this slot",
            "any(turn.slot <= snapshot.time <= latest for snapshot in vm.snapshots)",
            "any(snapshot.time <= latest for snapshot in vm.snapshots)",
            "run",
        ),
        (
            "a snapshot of the future counts for this slot",
            "any(turn.slot <= snapshot.time <= latest for snapshot in vm.snapshots)",
            "any(turn.slot <= snapshot.time for snapshot in vm.snapshots)",
            "wrong_clock run",
        ),
        (
            "no task of an earlier pass is adopted",
            'task="" if expiry.turn.forced else vm.task,',
            'task="",',
            "killed run",
        ),
        (
            "what may go only for a new snapshot goes without one",
            "after_new = frozenset(surplus) - frozenset(expired(vm.snapshots, keep, now))",
            "after_new = frozenset()",
            "convergence run",
        ),
        (
            "a disk that another VM has counts as the snapshot's own",
            "and disk.managed and len(disk.vbds) <= vbds",
            "and disk.managed",
            "run orphans",
        ),
        (
            "a disk of another product counts as the snapshot's own",
            "return disk.type in _OF_A_VM and disk.is_a_snapshot",
            "return disk.is_a_snapshot",
            "run",
        ),
        (
            "the second disk of a snapshot is forgotten",
            "mine = tuple(_expired_disk(disk) for disk in disks if ours(disk, 1))",
            "mine = tuple(_expired_disk(disk) for disk in disks if ours(disk, 1))[:1]",
            "run",
        ),
        ("two snapshots of a VM bear one name", "while name in taken:", "while False:", "run"),
        (
            "a quiesced snapshot is tried again though the server has none",
            "action = TAKE_SNAPSHOT if degraded or",
            "action = TAKE_SNAPSHOT if",
            "trouble",
        ),
        (
            "a VM that was taken off the schedule while it waited is snapshotted",
            "if vm is None or vm.policy != job.policy:",
            "if vm is None:",
            "run convergence",
        ),
    ),
    *_of(
        "vmss/core/turn.py",
        (
            "a run by hand gives its snapshots the name of the slot",
            "return self.begun if self.begun is not None and (self.forced or self.late) else self.slot",
            "return self.slot",
            "run",
        ),
    ),
    *_of(
        "vmss/core/job.py",
        (
            "what a guest stands still for shares its SRs",
            "if action == TAKE_SNAPSHOT and tokens and not alone:",
            "if action in TAKES and tokens:",
            "engine hooks service",
        ),
    ),
    *_of(
        "vmss/passes/serve.py",
        ("with hooks snapshots share their SRs", ", alone=kept.hooks.still_guests)", ")", "hooks"),
    ),
    *_of(
        "vmss/core/engine.py",
        (
            "what expired for a new snapshot goes though that failed",
            "if not (stay or snapshot.after_new)]",
            "if True]",
            "engine",
        ),
        (
            "what expired goes for a snapshot that does not count",
            "if not (stay or snapshot.after_new)]",
            "if not snapshot.after_new]",
            "read_back engine",
        ),
        ("a deletion does not count as one", "deletion.most -= 1\n", "deletion.most -= 0\n", "engine"),
        ("a checkpoint is not shut down before it is destroyed", "if snapshot.suspended:", "if False:", "engine"),
        (
            "after a deletion that hangs the next one is started",
            "if not deletion.remaining or deletion.timed_out or not deletion.most:",
            "if not deletion.remaining or not deletion.most:",
            "engine",
        ),
        (
            "a disk that stays counts as destroyed",
            "                deletion.failed = True\n",
            "                deletion.failed = False\n",
            "engine",
        ),
        (
            "a slow operation keeps all its tokens",
            "if len(operation.tokens) > 1:",
            "if len(operation.tokens) > 99:",
            "engine convergence",
        ),
        (
            "each VM on a hung SR waits for its own timeout",
            "elif outcome.error[0] == TIMED_OUT:",
            'elif outcome.error[0] == "":',
            "engine",
        ),
        (
            "two operations use one SR at a time",
            "while claim in waiting.queues and self._running.admits(claim):",
            "while claim in waiting.queues:",
            "engine",
        ),
        (
            "more operations run than the limit allows",
            "if len(self._running) >= self._operations_max:\n                    return started",
            "if len(self._running) >= 9 * self._operations_max:\n                    return started",
            "engine",
        ),
        (
            "what others have begun to use is not spared",
            "self._work.no_deletion(self._deleting[number].spare(spared))",
            "self._work.no_deletion(self._deleting[number].spare(frozenset()))",
            "engine",
        ),
    ),
    *_of(
        "vmss/core/frequencies.py",
        ("a weekly schedule runs every day", "if day.weekday() in weekdays:", "if day.weekday() >= 0:", "schedule"),
        (
            "a slot that occurs twice is served at its second occurrence",
            "yield wall_to_instants(zone, datetime.combine(day, at))[0]",
            "yield wall_to_instants(zone, datetime.combine(day, at))[-1]",
            "schedule",
        ),
        (
            "an hour that the clock skips has a slot",
            "if _hour(wall_clock(zone, slot)) == hour:",
            "if _hour(wall_clock(zone, slot)) >= hour:",
            "schedule",
        ),
    ),
    *_of(
        "vmss/core/schedule.py",
        ("a slot is served at every tick", "return slot if slot > last_run else None", "return slot", "schedule"),
        (
            "a last run in the future counts",
            "if last_run is None or in_future(last_run, now):",
            "if last_run is None:",
            "schedule",
        ),
        (
            "a first slot that an earlier tick could not serve is lost",
            "min(since or now, now) - TICK_INTERVAL",
            "now - TICK_INTERVAL",
            "schedule run",
        ),
    ),
    *_of(
        "vmss/core/policy.py",
        (
            "a disabled schedule is served",
            "if not self.enabled or not self.vms:",
            "if not self.vms:",
            "policy schedule run",
        ),
    ),
    *_of(
        "vmss/core/frozen.py",
        (
            "a VM that a checkpoint left suspended stays so",
            "return LOST if seen.memory_gone else LEFT",
            "return LOST if seen.memory_gone else SETTLED",
            "suspended",
        ),
        (
            "a VM that somebody suspended is resumed",
            "    if seen.by_others:\n        return SETTLED\n",
            "",
            "suspended",
        ),
    ),
    *_of(
        "vmss/core/left_over.py",
        (
            "what cannot be deleted is tried at every tick",
            "return now < self.tried - _EARLY or now >= self.tried + self.pause - _EARLY",
            "return True",
            "trouble orphans",
        ),
        (
            "what cannot be deleted is never tried again",
            "return now < self.tried - _EARLY or now >= self.tried + self.pause - _EARLY",
            "return False",
            "trouble orphans",
        ),
    ),
    *_of(
        "vmss/core/failures.py",
        (
            "a failure that may pass is not tried again",
            "return bool(error) and error[0] not in _LASTING",
            "return False",
            "owed",
        ),
    ),
    *_of(
        "vmss/passes/operations.py",
        (
            "what hangs is not cancelled",
            "            self._tasks.cancel(task)\n",
            "            pass\n",
            "run trouble service",
        ),
        (
            "operations have no limit of time",
            "Flight(operation, now, adopted, now + self._limit(operation))",
            "Flight(operation, now, adopted, inf)",
            "run trouble service",
        ),
        (
            "a snapshot is started twice after a lost answer",
            "if operation in self._tries or self._unplaced.concerns(job):",
            "if False:",
            "run trouble",
        ),
        (
            "after a lost result the pool is not asked for the snapshot",
            '_UNDECIDED = (RESULT_LOST, "CANNOT_CONTACT_HOST")',
            '_UNDECIDED = ("",)',
            "run trouble",
        ),
        (
            "any snapshot of an earlier pass's task is taken for this slot's",
            "if operation.action not in TAKES or not flight.adopted or outcome.error:",
            "if True:",
            "run killed",
        ),
        (
            "a VM that waited is not looked at before its snapshot",
            "if operation.action in TAKES and self._is_stale(operation):",
            "if False:",
            "trouble run",
        ),
        (
            "a VM whose power state changed while it waited gets no snapshot",
            '_CHANGED = ("VM_BAD_POWER_STATE", "HANDLE_INVALID")',
            '_CHANGED = ("",)',
            "run convergence",
        ),
        (
            "nothing is tried again that was refused because something was busy",
            "retries >= self._settings.retries:",
            "retries >= 0:",
            "trouble run",
        ),
    ),
    *_of(
        "vmss/passes/meanwhile.py",
        (
            "a snapshot that was there before counts as the new one",
            "if snapshot.uuid not in job.known and snapshot.time >= since:",
            "if True:",
            "run trouble",
        ),
    ),
    *_of(
        "vmss/passes/deletions.py",
        ("no journal", "                self._write(jobs)\n", "                pass\n", "journal"),
        (
            "new records are not on disk before the first deletion",
            "            error = write_database(self._context, self._notes)\n",
            "            error = ()\n",
            "journal run",
        ),
        (
            "what is deleted though xapi could not write its database",
            "        if error:\n            self.problems +=",
            "        if False:\n            self.problems +=",
            "journal run convergence",
        ),
        (
            "the record of a deletion that is under way is dropped",
            "                    if not settled or self._is_busy(refs[0]):\n",
            "                    if False:\n",
            "journal",
        ),
        (
            "a pin, a copy and a user are not asked for right before a deletion",
            "return self._last_look.stopped(operations, self._engine.jobs)",
            "return {}",
            "trouble run convergence",
        ),
        (
            "what rests is deleted all the same",
            "            self._resting[key] = self._left.rests(snapshot.uuid, self._context.clock.now())\n",
            "            self._resting[key] = False\n",
            "trouble convergence",
        ),
        (
            "an entry of the journal is removed though something of it is left",
            "        for error, entries in entry.remaining.values():\n",
            "        for error, entries in ():\n",
            "journal trouble",
        ),
    ),
    *_of(
        "vmss/passes/still_expired.py",
        (
            "what has expired by the plan goes though it has not any more",
            "if retained is None or job.vm not in on or len(beside & counting) < retained:",
            "if False:",
            "convergence",
        ),
        (
            "a pinned snapshot counts where it is seen what is left of a VM",
            ' and (field "blocked_operations" = "()")',
            "",
            "convergence",
        ),
        (
            "snapshots go while their VM is moved to other storage",
            "return _MOVES in xapi.call(",
            "return False and _MOVES in xapi.call(",
            "convergence",
        ),
    ),
    *_of(
        "vmss/passes/last_look.py",
        (
            "a snapshot goes without the disks that it got when its VM was moved",
            "if question.itself and _has_others(question, users):",
            "if False:",
            "convergence",
        ),
    ),
    *_of(
        "vmss/edges/xapi.py",
        (
            "an older xapi is asked for references again and again",
            "                self._tells_refs = False\n",
            "",
            "older_xapi",
        ),
    ),
    *_of(
        "vmss/passes/serve.py",
        (
            "a request to stop is not heard",
            "if self._stop_by is None and (stop.requested() or self._hold.lost):",
            "if False:",
            "service run",
        ),
        (
            "a slot that comes while a run hangs waits for it",
            "if self._in_hand.stalled(policy, hangs):",
            "if False:",
            "service convergence",
        ),
        (
            "a VM whose snapshot hangs gets a second one",
            "if job.take and job.vm in being_taken:",
            "if False:",
            "trouble service",
        ),
        (
            "what could not be deleted waits for the next run",
            "if settled and on_request is None:",
            "if False:",
            "trouble convergence",
        ),
        (
            "an alert waits for deletions that hang",
            "        self._tell(self._in_hand.settled())\n",
            "",
            "service convergence",
        ),
        (
            "VMs that earlier passes left suspended are forgotten",
            "        self._operations.resuming.see_to_earlier()\n",
            "",
            "suspended",
        ),
        (
            "what an earlier pass did not destroy is forgotten",
            "        self._deletions.resume_leftovers(settled)\n",
            "",
            "journal",
        ),
    ),
    *_of(
        "vmss/passes/read_back.py",
        (
            "a snapshot that lacks a disk counts",
            "            if disks < wanted:\n",
            "            if False:\n",
            "read_back",
        ),
        (
            "a snapshot of another time counts",
            "            if new:\n",
            "            new = new or next(iter(mine), '')\n            if new:\n",
            "read_back",
        ),
    ),
    *_of(
        "vmss/passes/resuming.py",
        ("nothing is resumed", "if not self._settings.resume:", "if True:", "suspended"),
        (
            "it is not noted that a VM ran before its checkpoint",
            '        if self._power_state(job) == "Running":\n            self._vms.add(',
            '        if self._power_state(job) == "":\n            self._vms.add(',
            "suspended",
        ),
    ),
    *_of(
        "vmss/passes/run.py",
        (
            "a session is closed in which operations are under way",
            "if self.pending or self.lost:",
            "if False:",
            "run killed",
        ),
        (
            "disks that a dying xapi left are not looked for",
            "        if settled:\n            self._find_orphans()\n",
            "",
            "orphans",
        ),
        (
            "deletions may come back if xapi dies",
            "                if self.changed:\n                    self._write_database()\n",
            "",
            "run journal",
        ),
        (
            "what became due during a pass waits for the next tick",
            "while complete and self.worked:",
            "while False:",
            "run service",
        ),
        (
            "since when ticks could not serve is not handed on",
            'self.lock.release(None if done else {"since": format_datetime(self.agenda.waiting_since)})',
            "self.lock.release(None)",
            "run lock",
        ),
    ),
    *_of(
        "vmss/passes/line.py",
        ("who waits keeps its old slot", "waiting.slot >= turn.slot", "waiting.slot <= turn.slot", "service"),
        (
            "who waits until it is too late is served all the same",
            "not turn.forced and turn.policy.lapsed(turn.slot, now)",
            "False",
            "service",
        ),
    ),
    *_of(
        "vmss/passes/telling.py",
        (
            "what passed in the line is not told",
            "if not turn.again:\n            before",
            "if 0:\n            before",
            "service",
        ),
        (
            "last-run-time is set before the alert",
            '        summary = "\\n".join([summary] + remarks)\n',
            '        summary = "\\n".join([summary] + remarks)\n        self._set_last_run_time(policy, ended)\n',
            "alerts run",
        ),
        (
            "an alert that was not stored counts as raised",
            "        if not raised:\n",
            "        if False:\n",
            "alerts trouble",
        ),
        ("a run that failed is told as a success", "        if served.victims:\n", "        if False:\n", "alerts run"),
        (
            "missed slots are not told",
            "        self._missed(served.turn.policy, served.started, ended)\n",
            "",
            "alerts service run",
        ),
        ("the licence is not told", "            if alert:\n", "            if False:\n", "alerts run"),
        (
            "VMs that failed are not noted for later ticks",
            "            self._agenda.owed.note(served.turn, owing)\n",
            "            pass\n",
            "owed",
        ),
        (
            "last-run-time is not set",
            "            self._set_last_run_time(policy, ended)\n",
            "            pass\n",
            "run",
        ),
    ),
    *_of(
        "vmss/passes/agenda.py", ("the licence is not asked for", "if self._context.pool.licensed:", "if True:", "run")
    ),
    *_of(
        "vmss/passes/orphans.py",
        (
            "a disk that is not proven ours is destroyed",
            "return OURS if seen and restarted else SUSPECT",
            "return OURS",
            "orphans",
        ),
    ),
    *_of(
        "vmss/edges/lock.py",
        (
            "the lock is ignored",
            "fcntl.LOCK_EX | fcntl.LOCK_NB)\n            except OSError as error:",
            "fcntl.LOCK_UN)\n            except OSError as error:",
            "lock",
        ),
    ),
    *_of(
        "vmss/edges/sessions.py",
        (
            "no logout",
            "    if xapi.session:\n        with suppress(Unanswered):",
            "    if False:\n        with suppress(Unanswered):",
            "run no_session",
        ),
        (
            "sessions of passes that died stay open",
            "    if not sessions:\n        return Earlier(True)\n",
            "    return Earlier(True)\n",
            "killed lock run",
        ),
        (
            "a session is closed though its tasks are pending",
            "return not pending and _log_out(xapi, session)",
            "return _log_out(xapi, session)",
            "run killed",
        ),
        (
            "a snapshot that waits for a busy VM is not cancelled",
            "        if takes and not vm and cancel:\n",
            "        if False:\n",
            "run killed",
        ),
    ),
    *_of(
        "vmss/core/messages.py",
        (
            "a message has a name that XenCenter does not know in its class",
            'return "VMSS" if name in XENCENTER_KNOWS else "Pool"',
            'return "VMSS" if name in XENCENTER_KNOWS + (NOT_QUIESCED,) else "Pool"',
            "alerts run",
        ),
        (
            "what XenCenter looks for stands in names and texts",
            'text = text.replace(mark, mark[:-1] + " :")',
            "pass",
            "alerts",
        ),
    ),
    *_of(
        "vmss/passes/at_work.py",
        (
            "the sign of a pass that was lost with its host tells nothing",
            'if sign["notes"] not in ("", self._directory.identity()):',
            "if False:",
            "host_lost",
        ),
        (
            "the sign that a pass is at work is not on disk",
            "if lasting and self._shown and not self._on_disk:",
            "if False:",
            "host_lost",
        ),
    ),
    *_of(
        "vmss/passes/frozen.py",
        (
            "a VM that needs another remedy is not told anew",
            'if frozen.told_as not in ("", state):',
            "if False:",
            "suspended",
        ),
    ),
    *_of(
        "vmss/edges/alerts.py",
        (
            "an alert that xapi stored and answered with NULL is repeated",
            "stored = message != NULL or text in self._bodies(name, about, began - CLOCK_TOLERANCE)",
            "stored = message != NULL",
            "alerts",
        ),
        (
            "what is said once is said again",
            'if not any(not line or line in body.split("\\n") for body in bodies):',
            "if True:",
            "alerts run",
        ),
    ),
    *_of(
        "vmss/edges/tasks.py",
        (
            "the end of a task whose event was lost is never learnt",
            "if not ended and self._clock.monotonic() - self._last_event >= _SILENCE_S:",
            "if False:",
            "xapi run trouble",
        ),
        (
            "the records of tasks stay",
            '            self._xapi.call("task.destroy", task)\n',
            "            pass\n",
            "run xapi",
        ),
    ),
    *_of(
        "vmss/edges/vms.py",
        (
            "snapshots that people took count as scheduled",
            'marked = \'field "is_vmss_snapshot" = "true"\'',
            'marked = \'field "is_a_snapshot" = "true"\'',
            "run",
        ),
        (
            "a snapshot taken since the VM was read contradicts its VM",
            "refs = _snapshot_refs(xapi, vm.ref)  # one was taken since the VM was read",
            "pass",
            "trouble",
        ),
        (
            "a snapshot whose records contradict each other is deleted",
            "if item.snapshot is not None and item.ref in refs and item.ref != vm.ref:",
            "if item.snapshot is not None:",
            "trouble hostile",
        ),
        (
            "a checkpoint in the making counts",
            "                continue  # a checkpoint in the making, which may yet fail\n",
            "                pass\n",
            "trouble run",
        ),
    ),
    *_of(
        "vmss/insight/promises.py",
        (
            "status knows of no VM without a snapshot",
            "    if not late:\n        return []\n",
            "    return []\n",
            "promises status",
        ),
        (
            "status knows of no missed slot",
            "    if not promised.missed:\n        return []\n",
            "    return []\n",
            "promises status",
        ),
        (
            "status waits for days before it tells",
            "MARGIN = 2 * TICK_INTERVAL",
            "MARGIN = 400 * TICK_INTERVAL",
            "promises status",
        ),
        (
            "status goes on telling of a failure that was made good",
            "return not only_lacked(run) and anything(run)",
            "return True",
            "promises status owed",
        ),
    ),
    *_of(
        "vmss/passes/left_over.py",
        (
            "what is left over is not told",
            "    return [item for item in items if item.uuid in found]\n",
            "    return []\n",
            "status trouble",
        ),
    ),
    *_of(
        "vmss/passes/operations.py",
        (
            "a guest stays frozen in the pause before its snapshot is tried again",
            "        if self._retried(operation, outcome):\n            self._hooks.has_ended(operation, outcome)\n",
            "        if self._retried(operation, outcome):\n",
            "hooks",
        ),
    ),
    *_of(
        "vmss/passes/hooks.py",
        (
            "what a pass that died has frozen stays so",
            "self._start_after(key, subject, LOST)",
            "self._noted.pop(key)",
            "hooks",
        ),
        (
            "a pass that ends early leaves guests frozen",
            "        for number in list(self._tries):\n            self._over(",
            "        for number in [0][:0]:\n            self._over(",
            "hooks",
        ),
        ("hook_error is not asked for", 'settings.hook_error == "skip"', 'settings.hook_error == ""', "hooks"),
        ("hooks of one VM overlap", "if one.subject.vm_uuid not in occupied]", "]", "hooks"),
    ),
    *_of(
        "vmss/edges/hooks_dir.py",
        ("root starts what others have written", "return bool(status.st_uid != 0 or", "return bool(", "hooks"),
        ("a hook may be a link", "if not stat.S_ISREG(status.st_mode):", "if not status.st_mode:", "hooks"),
    ),
    *_of("vmss/edges/children.py", ("a hook leaves processes that it has started", "os.killpg(", "os.kill(", "hooks")),
    *_of(
        "vmss/edges/sync_request.py",
        ("services of dom0's own are asked", "    return not (wide or", "    return True or not (wide or", "sync_hook"),
        ("a redirect is taken for an answer", "if 300 <= status < 400:", "if 300 <= status < 400 and 0:", "sync_hook"),
        ("the path of a tag's URL is asked", 'parts.path + ("?"', 'parts.path + "x" + ("?"', "sync_hook"),
    ),
    *_of(
        "vmss/core/notices.py",
        ("a run is told twice", "else before == notice.instant and not notice.by_hand:", "else False:", "receivers"),
        ("a tick that was put off pings", "if status == EXIT_LOCKED:", "if status == -1:", "receivers"),
    ),
    *_of(
        "vmss/edges/notify_request.py",
        ("a refusal is taken for an answer", "if not 200 <= status < 300:", "if not 200 <= status < 500:", "receivers"),
        ("a reason has what a library says", "return os.strerror(error.errno)", "return str(error)", "receivers"),
    ),
    *_of("vmss/edges/settings.py", ("an address is repeated", "if setting.secret else", "if 0 else", "receivers")),
]
