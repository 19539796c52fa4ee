"""An embedded xapi: a simulated XenServer/XCP-ng pool that answers the XenAPI as the real one does."""

from .durations import Durations
from .errors import Dropped, XapiError
from .simulator import Simulator
from .state import StateError

__all__ = ["Dropped", "Durations", "Simulator", "StateError", "XapiError"]
