"""Stands in for a warm process (`warm.py`) where a program wants to start one by a command line: it has its pipes, signals and exit code.

Run as `python warm_stand_in.py SOCKET PID_FILE ARGUMENT...`: it leaves the number of the process, and its own streams to it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys


def main(path: str, pid_file: str, arguments: list[str]) -> None:
    """Start the process and end as it does."""
    umask = os.umask(0)
    request = {"arguments": arguments, "environ": dict(os.environ), "folder": os.getcwd(), "umask": umask}  # noqa: PTH109 - pathlib takes as long as all of this
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        data = repr(request).encode() + b"\n"
        sent = socket.send_fds(connection, [data], [0, 1, 2])
        connection.sendall(data[sent:])
        pid, handles, _, _ = socket.recv_fds(connection, 64, 1)
        for passed_on in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(passed_on, lambda number, _: signal.pidfd_send_signal(handles[0], number))
        with open(pid_file, "wb") as file:  # noqa: PTH123 - as above
            file.write(pid)
        # Whoever reads or writes them shall see when the process has closed them.
        for number in (0, 1, 2):
            os.close(number)
        code = int(connection.recv(64))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
