"""A document of `vmss apply` as it lies in a file or comes through a pipe: JSON, or YAML where PyYAML is there."""

import json
import os
import stat
import sys
from shlex import quote
from typing import Any, List, Tuple

from vmss.core.declared import Twice
from vmss.core.problem import BadInput
from vmss.core.text import one_line
from vmss.edges.settings_file import without_waiting

# What stands for standard input, and how messages call it.
STDIN, _STDIN_NAME = "-", "standard input"

_BYTES_MAX = 4 << 20  # upper limit on the size of a document

_YAML = (".yaml", ".yml")
# The tag of the key `<<`, which takes over the keys of another map.
_MERGE = "tag:yaml.org,2002:merge"


def name_of(path: str) -> str:
    """What a document is called in messages."""
    return _STDIN_NAME if path == STDIN else one_line(path, 200)


def load(path: str) -> Any:
    """The document in a file, or on standard input if the path is `-`: maps, lists and values, with `Twice` for a map
    that has a key twice. Raise BadInput where it cannot be read."""
    try:
        data = sys.stdin.buffer.read(_BYTES_MAX + 1) if path == STDIN else _content(path)
        if len(data) > _BYTES_MAX:
            raise OSError("it is larger than %d MiB" % (_BYTES_MAX >> 20))
    except OSError as error:
        raise BadInput("cannot be read: %s" % (error.strerror or error))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput("line %d: is not UTF-8" % (data.count(b"\n", 0, error.start) + 1))
    if not text.strip():  # as from an export that has failed
        raise BadInput("is empty")
    try:
        return json.loads(text, object_pairs_hook=_map)
    except (ValueError, RecursionError) as error:
        if not _may_be_yaml(path, text):
            raise BadInput(_not_json(error))
    return _yaml(text)


def _content(path: str) -> bytes:
    with open(path, "rb", opener=without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is not a regular file; what comes through a pipe is read from standard input: -")
        return file.read(_BYTES_MAX + 1)


def _map(pairs: List[Tuple[Any, Any]]) -> Any:
    """A map of these pairs, or the mark for one with a key twice."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    return Twice(next(str(key) for key in keys if keys.count(key) > 1))


def _may_be_yaml(path: str, text: str) -> bool:
    """Whether what is no JSON may have been meant as YAML."""
    lower = path.lower()
    return lower.endswith(_YAML) or not lower.endswith(".json") and not text.lstrip().startswith("{")


def _not_json(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "line %d, column %d: is not JSON: %s" % (error.lineno, error.colno, error.msg)
    return "is not JSON: %s" % one_line(str(error), 100)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise BadInput(
            "is not JSON; YAML is read where Python has the package PyYAML, and this one has not: give JSON, or "
            "install it (%s -m pip install PyYAML)" % quote(sys.executable or "python3")
        )

    try:
        return yaml.load(text, Loader=_loader(yaml))  # noqa: S506  it is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "line %d, column %d: " % (mark.line + 1, mark.column + 1) if mark is not None else ""
        reason = getattr(error, "problem", None) or str(error)
        raise BadInput("%sis not YAML: %s" % (where, one_line(str(reason), 200)))
    except (ValueError, RecursionError) as error:  # a date that there is not, lists nested without an end
        raise BadInput("is not YAML: %s" % one_line(str(error), 100))


def _loader(yaml: Any) -> Any:
    """The loader of plain values, which also tells a key that is there twice, of which PyYAML's own takes the last, and
    one that is no text."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            own = [key for key, _ in node.value if key.tag != _MERGE] if isinstance(node, yaml.MappingNode) else []
            names = [self.construct_object(key, deep=True) for key in own]
            for key, name in zip(own, names):
                if not isinstance(name, str):
                    problem = "the name %s is not a text: put it in quotes" % (
                        key.value if isinstance(key.value, str) else "that is a list or a map"
                    )
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            whole = _map([(name, None) for name in names])
            return whole if isinstance(whole, Twice) else super().construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_mapping)
    return Loader
