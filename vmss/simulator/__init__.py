"""An embedded xapi: a simulated XenServer/XCP-ng pool that answers the XenAPI as the real one does."""

from .errors import XapiError
from .simulator import Simulator
from .state import StateError
from .storage import Durations

__all__ = ["Durations", "Simulator", "StateError", "XapiError"]
