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
from difflib import get_close_matches
from typing import Any, NoReturn

from recserv.errors import RecservError, UsageError
from recserv.version import installed

COMMANDS = (
    "inspect",
    "build",
    "check",
    "serve",
    "eval",
    "query",
    "explain",
    "import",
    "tail",
    "bench",
    "gateway",
    "dashboard",
    "demo",
    "look",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parsed(given)
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


class _Version(argparse.Action):
    """Looks the version up when it is asked for, and not at each command."""

    def __init__(self, option_strings: Sequence[str], dest: str, **others: Any):
        super().__init__(option_strings, dest, nargs=0, **others)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"recserv {installed()}")
        parser.exit()


def _parsed(given: list[str]) -> argparse.Namespace:
    """What nobody knows is told with the usage of the command that does not know it; argparse shows the program's."""
    parser, commands = _parsers(given)
    args, unknown = parser.parse_known_args(given)
    if unknown:
        command = commands.get(given[0], parser)
        flags = [flag for action in command._actions for flag in action.option_strings]
        near = [hint for word in unknown for hint in get_close_matches(word.partition("=")[0], flags, n=1)]
        hint = f"; did you mean {' '.join(near)}?" if near else ""
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def _parsers(given: list[str]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The program's, and those of the commands that may be meant."""
    parser = argparse.ArgumentParser(
        prog="recserv", description="Real-time product recommendations for shops: build a model, serve it, look at it."
    )
    parser.add_argument("--version", action=_Version, help="print the version and end")
    subparsers: Any = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = given[0] if given and given[0] in COMMANDS else None
    for name in COMMANDS if asked is None else (asked,):
        importlib.import_module(f"recserv.commands.{name}").register(subparsers)
    return parser, subparsers.choices


def _complain(given: list[str], error: RecservError) -> None:
    command = given[0] if given and given[0] in COMMANDS else ""
    for line in str(error).splitlines() or [error.reason]:
        print(f"recserv {command}".rstrip() + f": {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
