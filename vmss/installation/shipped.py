"""The files of `vmss/data`, which an installation puts in their places."""

import os

_DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data")


def shipped(path: str) -> bytes:
    """Given the absolute path of a file in an installation, return the content that comes with this package."""
    with open(shipped_path(path), "rb") as file:
        return file.read()


def shipped_path(path: str) -> str:
    """Given the absolute path of a file or folder in an installation, return where it lies in this package."""
    return os.path.join(_DATA, path.lstrip("/"))
