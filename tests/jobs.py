"""A shell's job control for one program: it is stopped and continued at a real terminal.

`python tests/jobs.py PROGRAM ARGUMENTS` runs it in the foreground. When it stops, the terminal is
taken back and `stopped, lines and echo` is said (`no lines and echo`: keys were left raw); Enter
continues it. Ends with the program's code.
"""

from __future__ import annotations

import os
import signal
import sys
import termios


def foreground(group: int) -> None:
    os.tcsetpgrp(0, group)


def reads_lines() -> bool:
    wanted = termios.ICANON | termios.ECHO | termios.ISIG
    local: int = termios.tcgetattr(0)[3]
    return local & wanted == wanted


def main() -> None:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a shell takes its terminal back
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        foreground(os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        foreground(os.getpgrp())
        if not os.WIFSTOPPED(status):
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        print("stopped," + (" no" * (not reads_lines())), "lines and echo", flush=True)
        sys.stdin.readline()
        foreground(child)
        os.killpg(child, signal.SIGCONT)


if __name__ == "__main__":
    main()
