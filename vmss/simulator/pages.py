"""The HTML pages with which xapi refuses an HTTP request (xapi: ocaml/libs/http-lib/http_svr.ml)."""

from typing import Tuple

_REASONS = {
    403: "Forbidden",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Error",
    501: "Method not implemented",
}
_PAGES = {
    403: "<h1>HTTP 403 forbidden</h1>Access to the requested resource is forbidden.%s",
    408: "<h1>HTTP 408 request timeout</h1>Timed out waiting for the request.",
    431: "<h1>HTTP 431 request header fields too large</h1>Exceeded the maximum header size.",
    500: "<h1>HTTP 500 internal server error</h1>An unexpected error occurred; please wait a while and try again. If "
    "the problem persists, please contact your support representative.<h1> Additional information </h1>%s",
    501: "<h1>HTTP 501 Method Not Implemented</h1><p>Unknown %s not supported.<br /></p>",
}


def page(status: int, text: str) -> Tuple[str, bytes]:
    """The reason phrase and the page of a status; `text` goes onto the page, where it has room for one."""
    body = _PAGES[status]
    html = "<html><body>%s</body></html>" % (body % text if "%s" in body else body)
    return _REASONS[status], html.encode("utf-8", "replace")
