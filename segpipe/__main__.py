"""``python -m segpipe``: the command line."""

from segpipe.cli import main

if __name__ == "__main__":
    main()
