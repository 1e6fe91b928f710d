"""`jobimpactd`: run, check and replay on a node."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

from jobimpact.core.config import config_path, load_config
from jobimpact.core.errors import ConfigError, JobImpactError

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """The command.

    Returns:
        0; 1 for what is wrong on the node (`check`) or in a recording; 2 for wrong usage or configuration.
    """
    args = _parser().parse_args(argv)
    logging.basicConfig(format="%(name)s: %(levelname)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        return int(args.run(args))
    except ConfigError as error:
        sys.stderr.write(f"jobimpactd: {error}\n")
        return 2
    except JobImpactError as error:
        sys.stderr.write(f"jobimpactd: {error}\n")
        return 1
    except BrokenPipeError:
        # Whoever read the answer has seen enough; Python would complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jobimpactd", description="Keep one node's energy books.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('jobimpact')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = _command(commands, "run", _run, "sample power and split it among the jobs, until SIGTERM")
    run.add_argument("--record", metavar="FILE", help="also write everything that is read to a recording")
    _command(commands, "check", _check, "say what this node can measure, what not, and why")
    replay = _command(commands, "replay", _replay, "put a recording through the same path; print the books as JSON")
    replay.add_argument("recording", metavar="RECORDING", type=Path)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: object, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--config", metavar="FILE", help="default: $JOBIMPACT_CONFIG or /etc/jobimpact/jobimpact.yaml")
    parser.set_defaults(run=run)
    return parser


def _run(args: argparse.Namespace) -> int:
    from jobimpact_daemon import service

    config = load_config(config_path(args.config))
    with Path(args.record).open("a", encoding="utf-8") if args.record else nullcontext() as record:
        service.run(config, record)
    return 0


def _check(args: argparse.Namespace) -> int:
    from jobimpact_daemon.check import check

    path = config_path(args.config)
    findings = check(load_config(path), path)
    sys.stdout.write("\n".join(finding.line() for finding in findings) + "\n")
    return 0 if all(finding.word != "MEND" for finding in findings) else 1


def _replay(args: argparse.Namespace) -> int:
    from jobimpact_daemon.replay import replay

    json.dump(replay(load_config(config_path(args.config)), args.recording), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0
