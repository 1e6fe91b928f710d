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

from jobimpact.core.config import WattCsv, config_path, load_config
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
    fit = _command(commands, "calibrate", _calibrate, "fit the node's plug to its parts, from a recording")
    fit.add_argument("recording", metavar="RECORDING", type=Path)
    fit.add_argument("--meter", metavar="SOURCE", help="the recording's source whose node is the meter")
    fit.add_argument("--csv", metavar="FILE", help="the meter's own series in a file, in place of the recording's")
    fit.add_argument("--watts", metavar="COLUMN", default="watts", help="the file's column of power, name or number")
    fit.add_argument("--time", metavar="COLUMN", default="time", help="its column of time: epoch seconds or ISO 8601")
    fit.add_argument("--window", metavar="SECONDS", type=float, help="mean power over this long is fitted")
    fit.add_argument("--excludes", nargs="+", choices=("cpu", "dram", "gpu"), help="parts that the meter does not see")
    fit.add_argument("--write", action="store_true", help="put the fit into the inventory, for node.name")
    fit.add_argument("--json", action="store_true", help="print it as JSON")
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

    logging.disable(logging.WARNING)  # what sources have to say is in the answer
    path = config_path(args.config)
    findings = check(load_config(path), path)
    sys.stdout.write("\n".join(finding.line() for finding in findings) + "\n")
    return 0 if all(finding.word != "MEND" for finding in findings) else 1


def _replay(args: argparse.Namespace) -> int:
    from jobimpact_daemon.replay import replay

    json.dump(replay(load_config(config_path(args.config)), args.recording), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


def _calibrate(args: argparse.Namespace) -> int:
    import msgspec

    from jobimpact_daemon.calibration.calibrate import calibrate, report_text, write_calibration

    csv = WattCsv(args.csv, args.watts, args.time) if args.csv else None
    found = calibrate(args.recording, meter=args.meter, csv=csv, window_s=args.window, excludes=args.excludes)
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n" if args.json else report_text(found))
    if args.write:
        config = load_config(config_path(args.config))
        write_calibration(Path(config.inventory), config.node.name, found)
        sys.stderr.write(f"{config.inventory}: calibration of {config.node.name} written\n")
    return 0
