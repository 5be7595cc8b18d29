"""The command line: parse, call the pipeline, print. No logic."""

from __future__ import annotations

import os
import sys
import traceback

from segpipe.cli.app import app
from segpipe.cli.shared import close_bars
from segpipe.errors import SegpipeError

INTERRUPTED = 130
"""The exit code that typer gives to what Ctrl-C ended."""


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        try:
            app(args=arguments, prog_name="segpipe")
        finally:
            close_bars()
    except SegpipeError as error:
        if debug:
            traceback.print_exc()
        print(f"segpipe: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without rights: no bug of ours
        if debug:
            traceback.print_exc()
        name = error.filename2 or error.filename  # of a replacement, what was to be replaced
        place = f"{name}: " if name else ""
        print(
            f"segpipe: {place}cannot be read or written: {error.strerror or error}. "
            "Check space and rights.",
            file=sys.stderr,
        )
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print("segpipe: interrupted", file=sys.stderr)
        raise
