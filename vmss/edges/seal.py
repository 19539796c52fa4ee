"""The key that a pass seals what it writes into the pool's database with, so that nobody else's is taken for it.

In dom0 it is derived from the pool's secret, which is the same on every host of the pool, can be read by root there
and over the API by nobody: so a seal holds on the next coordinator too, until the secret is changed. Elsewhere, where
there is a simulator, the key lies beside the lock.
"""

import hashlib
import hmac
import os

from vmss.edges.lock import LockDirectory

POOL_SECRET = "/etc/xensource/ptoken"  # noqa: S105 - the name of a file
_NAME = "seal"


def key(pool: str, local: bool, directory: LockDirectory) -> bytes:
    """The key for the pool with this uuid; `local`: we are in its dom0. To be called with the pool's lock held."""
    secret = _pool_secret() if local else b""
    if not secret:
        secret = _own_secret("%s.%s" % (pool, _NAME), directory)
    return hmac.new(secret, b"vmss seal of pool " + pool.encode("ascii"), hashlib.sha256).digest()


def _pool_secret() -> bytes:
    try:
        with open(POOL_SECRET, "rb") as file:
            return file.read(65536).strip()
    except OSError:
        return b""


def _own_secret(name: str, directory: LockDirectory) -> bytes:
    kept = directory.read(name).get("secret")
    if not isinstance(kept, str) or len(kept) < 32:
        kept = os.urandom(32).hex()
        directory.keep(name, {"secret": kept})
    return kept.encode("utf-8", "surrogatepass")


def seal(key: bytes, text: str) -> str:
    """The seal of a text."""
    return hmac.new(key, text.encode("utf-8"), hashlib.sha256).hexdigest()


def holds(key: bytes, text: str, claimed: str) -> bool:
    """Whether a text has been sealed so with this key."""
    return hmac.compare_digest(seal(key, text).encode("ascii"), claimed.encode("utf-8", "surrogatepass"))
