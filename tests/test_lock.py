"""The lock of the pool, across processes, and the directory it lives in."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vmss.edges.lock import Held, LockDirectory
from vmss.edges.lock_folder import LockError

HOLD = """
import sys
from vmss.edges.lock import LockDirectory
lock = LockDirectory(sys.argv[1]).acquire("pool", {"pid": 4711, "since": "now"})
lock.working_on(["a", "b"])
print("held", flush=True)
sys.stdin.read()
"""


def test_the_directory_is_0700_and_the_lock_0600(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path / "locks"))
    directory.acquire("pool", {}).release()
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "locks" / "pool.lock").stat().st_mode) == 0o600


def test_a_lock_of_another_process_is_held_until_that_process_dies(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path))
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Held) as caught:
        directory.acquire("pool", {})
    assert caught.value.holder == {"pid": 4711, "since": "now", "policies": ["a", "b"]}
    assert "process 4711" in str(caught.value)
    assert directory.holder("pool") == {"pid": 4711, "since": "now", "policies": ["a", "b"]}
    holder.kill()
    holder.communicate()
    directory.acquire("pool", {}).release()
    assert directory.holder("pool") is None


def test_locks_of_two_pools_do_not_meet(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path))
    one, other = directory.acquire("one", {}), directory.acquire("other", {})
    one.release()
    other.release()


def test_a_lock_file_that_was_removed_while_held_is_not_mistaken_for_the_lock(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path))
    first = directory.acquire("pool", {})
    (tmp_path / "pool.lock").unlink()
    second = directory.acquire("pool", {})
    with pytest.raises(Held):
        directory.acquire("pool", {})
    first.release()
    second.release()


def test_what_is_kept_is_read_again_and_an_empty_value_removes_it(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path))
    assert directory.read("thing") == {}
    directory.keep("thing", {"a": 1})
    assert directory.read("thing") == {"a": 1}
    assert stat.S_IMODE((tmp_path / "thing").stat().st_mode) == 0o600
    directory.keep("thing", {})
    assert not (tmp_path / "thing").exists()
    directory.keep("thing", {})


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1]", b"\xff\xfe", b"{}" * 1000])
def test_what_was_kept_and_is_damaged_counts_as_nothing(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "thing").write_bytes(garbage)
    assert LockDirectory(str(tmp_path)).read("thing") == {}


def test_no_link_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    locks = tmp_path / "locks"
    locks.mkdir(mode=0o700)
    (locks / "pool.lock").symlink_to(victim)
    with pytest.raises(LockError, match=r"pool\.lock"):
        LockDirectory(str(locks)).acquire("pool", {})
    (tmp_path / "link").symlink_to(locks)
    with pytest.raises(LockError, match="link"):
        LockDirectory(str(tmp_path / "link"))
    assert victim.read_text() == "precious"


def test_neither_a_fifo_nor_a_directory_is_a_lock(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "pool.lock"))
    with pytest.raises(LockError, match="not a regular file"):
        LockDirectory(str(tmp_path)).acquire("pool", {})
    (tmp_path / "pool.lock").unlink()
    (tmp_path / "pool.lock").mkdir()
    with pytest.raises(LockError):
        LockDirectory(str(tmp_path)).acquire("pool", {})


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(LockError, match="nobody else may write"):
        LockDirectory(str(shared))


def test_a_file_in_place_of_the_directory_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError) as caught:
        LockDirectory(str(tmp_path / "file"))
    assert "\n" not in str(caught.value) and str(tmp_path / "file") in str(caught.value)


def test_the_sessions_of_those_that_died_are_known_until_one_comes_to_its_end(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path))
    for session in ("OpaqueRef:1", "OpaqueRef:2"):
        os.close(directory.acquire("pool", {"session": session})._descriptor)  # as though it had died
    third = directory.acquire("pool", {"session": "OpaqueRef:3"})
    assert third.dead_sessions == ["OpaqueRef:1", "OpaqueRef:2"]
    third.release()
    assert directory.acquire("pool", {}).dead_sessions == []
