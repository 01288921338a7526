"""The `engine` command's way in, also as `python -m engine`. Knows nothing else."""

import signal

# Until the command is imported, Ctrl-C just ends the process: a traceback out of an import of
# somebody's library is nothing that a person should see. Where it is ignored, it stays so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from engine.cli import main

if __name__ == "__main__":
    main()
