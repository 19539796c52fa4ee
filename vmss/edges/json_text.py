"""Reads what one pass keeps for the next as JSON: a file may be damaged, or of another version."""

import json
from typing import Any, Dict


def json_object(text: bytes) -> Dict[str, Any]:
    """The object that a text is in JSON; empty if it is none."""
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
