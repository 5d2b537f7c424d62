"""The command line: one module of `recserv.commands` for each subcommand.

A command module has `register(subparsers)`, which adds its parser, and `run(args) -> int`, which returns the exit code.
Only the module of the command that was asked for is imported, so that `recserv serve` loads nothing of the others.

Exit codes: 0, 1 for a command that failed at its job, 2 for what the person gave (UsageError), 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from recserv.errors import RecservError, UsageError

COMMANDS = ("inspect", "build", "check", "serve", "eval", "query", "explain", "tail", "bench", "demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(given).parse_args(given)
        code: int = args.run(args)
        sys.stdout.flush()
    except UsageError as error:
        _complain(given, error)
        return 2
    except RecservError as error:
        _complain(given, error)
        return 1
    except BrokenPipeError:
        # The reader went away (`recserv check ... | head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser(given: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recserv", description="Real-time product recommendations for shops: build a model, serve it, look at it."
    )
    subparsers: Any = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = given[0] if given and given[0] in COMMANDS else None
    for name in COMMANDS if asked is None else (asked,):
        importlib.import_module(f"recserv.commands.{name}").register(subparsers)
    return parser


def _complain(given: list[str], error: RecservError) -> None:
    command = given[0] if given and given[0] in COMMANDS else ""
    for line in str(error).splitlines() or [error.reason]:
        print(f"recserv {command}".rstrip() + f": {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
