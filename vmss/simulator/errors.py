"""The two ways in which a call can fail: with an error code and its parameters, or without an answer."""

from typing import List


class XapiError(Exception):
    """A XAPI failure; `details` is the ErrorDescription: the code first, then its parameters, all text."""

    def __init__(self, code: str, *params: str) -> None:
        super().__init__(code, *params)
        self.details: List[str] = [code] + list(params)

    @property
    def code(self) -> str:
        return self.details[0]

    def __str__(self) -> str:
        return str(self.details)


class Dropped(Exception):
    """The connection breaks before the answer: xapi has died, or a fault was asked for."""


def internal_error(text: str) -> XapiError:
    """What xapi makes of an unforeseen exception (xapi: ocaml/xapi/exnHelper.ml)."""
    return XapiError("INTERNAL_ERROR", text)


def type_failure(text: str) -> XapiError:
    """A value of the wrong shape, with the text of the RPC library (ocaml-rpc: src/lib/rpc.ml)."""
    return internal_error('Failure("%s")' % text)
