"""The path of every call: finding its method, the checks in xapi's order, roles, tasks and accessors.

Order of checks (xapi: ocaml/idl/ocaml_backend/gen_server.ml, ocaml/xapi/server_helpers.ml): shape of the
parameters, their types, the session, roles, then the method itself.
"""

import logging
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set, Tuple

from . import unimplemented
from .accessors import accessor
from .call import Call, Origin, Steps
from .datamodel import Method, Model, Parameter, required
from .errors import Dropped, XapiError, internal_error, type_failure
from .hosts import EMERGENCY_CALLS
from .kernel import Sleep
from .registry import Handler, handlers, simulator_signatures
from .values import EPOCH, NULL, from_seconds, to_string
from .wire import value_text

if TYPE_CHECKING:
    from .simulator import Simulator

log = logging.getLogger(__name__)


class Methods:
    """Every method of a model with its handler, created once and shared by all simulators."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.methods: Dict[str, Method] = {}
        self.aliases: Dict[str, Method] = {}
        self.handlers: Dict[str, Handler] = {}
        for cls in model.classes.values():
            for method in cls.methods.values():
                self._enter(method)
        self.model_names = list(self.methods)
        self.others = {"%s.%s" % (cls, name) for cls, names in model.others.items() for name in names}
        for name, parameters in simulator_signatures.items():
            self._enter(self._simulator_method(name, parameters))

    def _enter(self, method: Method) -> None:
        self.methods[method.wire_name] = method
        self.aliases[method.wire_name.replace(".", "_")] = method
        handler = handlers.get(method.wire_name)
        if handler is None:
            function = accessor(self.model, method)
            if function is not None:
                handler = Handler(function, False)
        if handler is not None:
            self.handlers[method.wire_name] = handler

    def _simulator_method(self, name: str, parameters: List[Tuple[str, str]]) -> Method:
        cls, _, short = name.partition(".")
        convert = self.model.types.converter
        admins = self.model.roles["POOL_ADMIN"]
        wanted = [Parameter(n, t, False, None, convert(t)) for n, t in parameters]
        return Method(
            cls, short, name, "explicit", wanted, len(wanted), None, frozenset(admins), admins, {}, [],
            True, False, False, False,
        )  # fmt: skip


_methods: Dict[Model, Methods] = {}


def methods_of(model: Model) -> Methods:
    """The methods of a model, built at the first call."""
    if model not in _methods:
        _methods[model] = Methods(model)
    return _methods[model]


class Dispatcher:
    """Finds and runs methods."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.db = sim.db
        shared = methods_of(sim.model)
        self.methods, self.aliases, self.handlers = shared.methods, shared.aliases, shared.handlers
        self.others, self.model_names = shared.others, shared.model_names
        # Methods and defaulted parameters (CLASS.METHOD.PARAMETER) that an older xapi does not have.
        self.withheld: Set[str] = set()

    # --- the entry ---

    def call(self, name: str, params: List[Any], origin: Origin) -> Any:
        """Check and run a call. Return its result, or a generator that returns it."""
        if name.startswith("system."):
            return self._system(name, params)
        asynchronous = name.startswith(("Async.", "InternalAsync."))
        plain = name.split(".", 1)[1] if asynchronous else name
        method = self._find(plain, params)
        if method is None:
            return unimplemented.answer_other(self, plain, params)
        args = self._arguments(method, params)
        session = params[0] if method.has_session else NULL
        if method.cls == "simulator" and origin.trusted:
            # Whoever can open the socket may control the simulator, also while xapi is down and knows no session.
            return self._handle(method, Call(self.sim, method.wire_name, session, NULL, origin), args)
        if method.has_session and not self._is_emergency(method, origin):
            self.check_session(session)
        if method.internal:
            raise internal_error("%s is a pool-internal call" % method.wire_name)
        if method.removed:
            raise XapiError("MESSAGE_REMOVED")
        if asynchronous:
            if not method.is_async:
                raise XapiError("Fault", "No async mode for this operation (rpc: %s)" % name)
            return self.start_async(method, name, session, args, origin)
        seconds = self._rate_delay(method, origin)
        if seconds:
            return self._late(seconds, method, session, args, origin)
        return self._now(method, session, args, origin)

    def _now(self, method: Method, session: str, args: List[Any], origin: Origin) -> Any:
        """Carry out a synchronous call."""
        if method.is_async and not origin.headers.task:
            return self._with_task(method, session, args, origin)
        return self._body(method, Call(self.sim, method.wire_name, session, origin.headers.task or NULL, origin), args)

    def _rate_delay(self, method: Method, origin: Origin) -> float:
        limits = self.sim.rate_limits
        return limits.delay(method.wire_name, origin) if limits.buckets and method.cls != "simulator" else 0.0

    def _late(self, seconds: float, method: Method, session: str, args: List[Any], origin: Origin) -> Steps:
        """Carry out a synchronous call when its client may make it."""
        yield Sleep(seconds)
        outcome = self._now(method, session, args, origin)
        if hasattr(outcome, "send"):
            outcome = yield from outcome
        return outcome

    def _is_emergency(self, method: Method, origin: Origin) -> bool:
        """Whether a host that has lost its coordinator accepts this call, whose session it cannot check."""
        hosts = self.sim.hosts
        return method.wire_name in EMERGENCY_CALLS and not hosts.is_listening(hosts.coordinator)

    def _find(self, name: str, params: List[Any]) -> Optional[Method]:
        """The method of this name; None for one of a class that has no objects here."""
        method = self.methods.get(name)
        if method is None and "." not in name:
            # Class_method is an alias of the synchronous form.
            method = self.aliases.get(name)
        if method is not None and method.wire_name in self.withheld:
            method = None
        if method is None and name not in self.others:
            if params:
                # xapi treats it as an extension, and checks the session first.
                self.check_session(to_string(params[0]))
            raise XapiError("MESSAGE_METHOD_UNKNOWN", name)
        return method

    def _arguments(self, method: Method, params: List[Any]) -> List[Any]:
        parameters, needed = self._parameters(method)
        received = len(params) - (1 if method.has_session else 0)
        surplus = received > len(parameters) and needed == len(parameters)
        if received < needed or surplus:
            raise XapiError("MESSAGE_PARAMETER_COUNT_MISMATCH", method.wire_name, str(needed), str(received))
        if method.has_session:
            to_string(params[0])
            params = params[1:]
        if method.removed:
            # Only the session of a removed call is read.
            return []
        args = [parameter.convert(value) for parameter, value in zip(parameters, params)]
        if len(args) < len(method.parameters):
            args.extend(parameter.default for parameter in method.parameters[len(args) :])
        if method.constructor:
            args[-1] = constructor_fields(method, args[-1])
        return args

    def _parameters(self, method: Method) -> Tuple[List[Parameter], int]:
        """The parameters of a method, and how many of them a client has to send."""
        if not self.withheld:
            return method.parameters, method.required
        left = [one for one in method.parameters if "%s.%s" % (method.wire_name, one.name) not in self.withheld]
        return left, required(left)

    def check_session(self, session: str) -> None:
        if not self.db.exists("session", session):
            raise XapiError("SESSION_INVALID", session)
        self.sim.sessions.used(session)

    def _check_roles(self, method: Method, session: str, args: List[Any]) -> None:
        row = self.db.tables["session"].rows.get(session)
        if not method.has_session or row is None or row["is_local_superuser"]:
            return
        role = self.sim.sessions.roles.get(session, "")
        needed = method.roles
        names = method.role_names
        permission = method.wire_name.lower()
        for pattern, roles in method.key_roles.items():
            if len(args) > 1 and _matches(pattern, args[1]):
                needed, names = roles, sorted(roles)
                permission += "/key:%s" % pattern.lower()
                break
        if role not in needed:
            text = "No permission in user session. (Roles with this permission: %s)" % ", ".join(names)
            raise XapiError("RBAC_PERMISSION_DENIED", permission, text)

    def _body(self, method: Method, call: Call, args: List[Any]) -> Any:
        """Check the roles and call the handler."""
        self._check_roles(method, call.session, args)
        return self._handle(method, call, args)

    def _handle(self, method: Method, call: Call, args: List[Any]) -> Any:
        handler = self.handlers.get(method.wire_name)
        if handler is None:
            return unimplemented.refuse(call, method, args)
        return handler.function(call, *args)

    def _is_steps(self, method: Method) -> bool:
        handler = self.handlers.get(method.wire_name)
        return handler is not None and handler.steps

    # --- tasks ---

    def new_task(self, name: str, session: str, parent: str = NULL) -> str:
        """A pending task record (xapi: ocaml/xapi/taskHelper.ml)."""
        fields = {
            "name_label": name,
            "created": from_seconds(self.sim.kernel.now()),
            "finished": EPOCH,
            "status": "pending",
            "resident_on": self.sim.this_host,
            "progress": 0.0,
            "type": "<none/>",
            "subtask_of": parent,
            "session": session,
            "backtrace": "()",
        }
        return self.db.create("task", fields)

    def finish_task(self, task: str, result: Any, error: Optional[BaseException]) -> None:
        """Write the end of a task into its record."""
        self.sim.cancelled.discard(task)
        if not self.db.exists("task", task) or isinstance(error, Dropped):
            # The record was collected, or lost when xapi died.
            return
        if self.db.row("task", task)["status"] != "pending":
            # A status that the owner of the task has set is kept (xapi: ocaml/xapi/taskHelper.ml).
            return
        fields: Dict[str, Any] = {
            "progress": 1.0,
            "finished": from_seconds(self.sim.kernel.now()),
            "allowed_operations": [],
        }
        if error is None:
            fields.update(status="success", result=value_text(result))
        else:
            details = as_xapi_error(error).details
            cancelled = details[0] == "TASK_CANCELLED"
            fields.update(status="cancelled" if cancelled else "failure", error_info=[] if cancelled else details)
        self.db.update("task", task, **fields)

    def _task_of_request(self, name: str, session: str, origin: Origin) -> str:
        """Create the task of a call, as the headers of its request describe it."""
        task = self.new_task(name, session, origin.headers.subtask_of or NULL)
        if origin.headers.other_config:
            noted = {"http:" + key: value for key, value in origin.headers.other_config}
            self.db.set("task", task, "other_config", noted)
        return task

    def start_async(self, method: Method, name: str, session: str, args: List[Any], origin: Origin) -> str:
        """Start the call in the background; return its task."""
        # A client that names a task completes it itself; InternalAsync has its own task (xapi: ocaml/xapi/context.ml).
        given = "" if name.startswith("InternalAsync.") else origin.headers.task
        task = given or self._task_of_request(name, session, origin)
        call = Call(self.sim, method.wire_name, session, task, origin)
        steps = self._faulty(method.wire_name, args, self._steps(method, call, args, self._rate_delay(method, origin)))
        done = None if given else lambda result, error: self.finish_task(task, result, error)
        self.sim.kernel.spawn(steps, done, "xapi")
        return task

    def _faulty(self, name: str, args: List[Any], steps: Steps) -> Steps:
        """Apply the faults whose rules match an operation in the background."""
        rule = self.sim.faults.meet(name, args) if self.sim.faults.active else None
        return steps if rule is None else self.sim.faults.around(rule, steps)

    def _steps(self, method: Method, call: Call, args: List[Any], late: float = 0.0) -> Steps:
        if late:
            yield Sleep(late)
        result = self._body(method, call, args)
        if self._is_steps(method):
            result = yield from result
        return result

    def _with_task(self, method: Method, session: str, args: List[Any], origin: Origin) -> Any:
        """A synchronous call of a method that has an Async form: a task exists while it runs."""
        task = self._task_of_request(method.wire_name, session, origin)
        call = Call(self.sim, method.wire_name, session, task, origin)
        if self._is_steps(method):
            return self._remove_task_after(self._steps(method, call, args), task)
        try:
            return self._body(method, call, args)
        finally:
            self._remove_task(task)

    def _remove_task_after(self, steps: Steps, task: str) -> Steps:
        try:
            return (yield from steps)
        finally:
            self._remove_task(task)

    def _remove_task(self, task: str) -> None:
        self.sim.cancelled.discard(task)
        if self.db.exists("task", task):
            self.db.delete("task", task)

    def subtask(self, call: Call, name: str, *args: Any) -> Steps:
        """Run another method as a subtask of this call's task; a failed subtask stays in the database.

        Roles were checked when the call began, and its session may have ended since.
        """
        method = self.methods[name]
        task = self.new_task("Async." + name, call.session, call.task)
        inner = Call(self.sim, name, call.session, task, call.origin)
        try:
            result = yield from self._faulty(name, list(args), self._handled(method, inner, list(args)))
        except Exception as error:
            self.finish_task(task, None, error)
            raise
        self._remove_task(task)
        return result

    def _handled(self, method: Method, call: Call, args: List[Any]) -> Steps:
        result = self._handle(method, call, args)
        if self._is_steps(method):
            result = yield from result
        return result

    # --- introspection ---

    def _system(self, name: str, params: List[Any]) -> Any:
        if name == "system.listMethods":
            return BareList(sorted([*self.model_names, *self.others]))
        if name.startswith("system.isAlive") and params:
            return params[0]
        raise XapiError("MESSAGE_METHOD_UNKNOWN", name)


class BareList(List[str]):
    """A result that is sent without the Status struct."""


def _matches(pattern: str, key: Any) -> bool:
    if pattern.endswith("*"):
        return isinstance(key, str) and key.startswith(pattern[:-1])
    return bool(pattern == key)


def as_xapi_error(error: BaseException) -> XapiError:
    """An unforeseen exception becomes INTERNAL_ERROR; it is a bug here, so it is logged."""
    if isinstance(error, XapiError):
        return error
    log.error("unforeseen exception", exc_info=(type(error), error, error.__traceback__))
    return internal_error(repr(error))


def constructor_fields(method: Method, value: Any) -> Dict[str, Any]:
    """The struct of a constructor: unknown members are ignored, missing ones have their default or fail."""
    if not isinstance(value, dict):
        raise type_failure("Expecting Rpc.Dict")
    fields: Dict[str, Any] = {}
    for parameter in method.constructor:
        if parameter.name in value:
            fields[parameter.name] = parameter.convert(value[parameter.name])
        elif parameter.optional:
            fields[parameter.name] = parameter.default
        else:
            raise internal_error('Server_helpers.Dispatcher_FieldNotFound("%s")' % parameter.name)
    return fields
