"""What Linux counts of a process's memory."""

from pathlib import Path


def memory_of(process: int | str = "self") -> dict[str, int]:
    """Bytes by field of /proc/PROCESS/status, such as VmRSS (resident now) and VmHWM (at most so far).

    Empty for a process that has ended; FileNotFoundError for one that is gone, or on systems without /proc.
    """
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = (line.split() for line in lines)
    return {field[0].rstrip(":"): int(field[1]) * 1024 for field in fields if field[-1] == "kB"}
