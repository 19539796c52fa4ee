"""The processes of this machine, and its start, as the kernel tells of them."""


def started(pid: int) -> str:
    """When a process was started, in the kernel's ticks: with its number this names a process for good. Empty if there
    is none of this number, or it has ended, or the kernel does not tell."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            # The name, in brackets, may have brackets and spaces itself.
            fields = file.read(4096).rpartition(b")")[2].split()
    except (OSError, OverflowError):
        return ""
    ended = fields[:1] in ([], [b"Z"], [b"X"])
    return "" if ended or len(fields) < 20 else fields[19].decode("ascii", "replace")


def boot() -> str:
    """What names the start of this machine's kernel for good; empty if the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""
