"""`python -m engine`: the command line without the installed script. Knows nothing else."""

from engine.cli import main

if __name__ == "__main__":
    main()
