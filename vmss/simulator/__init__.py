"""An embedded xapi: a simulated XenServer/XCP-ng pool that answers the XenAPI as the real one does."""

from .errors import Dropped, XapiError
from .simulator import Simulator
from .state import StateError
from .durations import Durations

__all__ = ["Dropped", "Durations", "Simulator", "StateError", "XapiError"]
