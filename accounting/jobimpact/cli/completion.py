"""Completion for shells, made from the options and commands that there are: python -m jobimpact.cli.completion."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress

from jobimpact.cli import main as command
from jobimpact.cli.options import OPTIONS, Option

__all__ = ["SHELLS", "commands", "script"]

SHELLS = ("bash", "zsh", "fish")
_MADE = "# Made by `python -m jobimpact.cli.completion {}`: not by hand."


def commands() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each command with what it does, and its options, as its --help tells them."""
    return {name: (_summary(name), _options(name)) for name in command._COMMANDS}  # noqa: SLF001 (one program)


def script(shell: str) -> str:
    """The completion script of one of SHELLS."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _summary(name: str) -> str:
    found = re.search(rf"^  {name} +(\S.*)$", command._HELP, re.MULTILINE)  # noqa: SLF001
    return found[1].partition(";")[0].rstrip(".") if found else ""


def _options(name: str) -> tuple[str, ...]:
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        command.main([name, "--help"])
    lines = re.findall(r"^  (-.*)$", said.getvalue(), re.MULTILINE)
    return tuple(dict.fromkeys(flag for line in lines for flag in re.findall(r"(?:^|, )(--?[A-Za-z][\w-]*)", line)))


# -- bash ------------------------------------------------------------------------------------------------------------

_BASH = """\
{made}
_jobimpact() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command='' words='' value='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ -n $value ]]; then
            value=''
            continue
        fi
        case ${{COMP_WORDS[i]}} in
            {takers}) value=1 ;;
            -*) ;;
            *)
                command=${{COMP_WORDS[i]}}
                break
                ;;
        esac
    done
    case $prev in
{values}
    esac
    case $command in
        '') words="{commands} {options}" ;;
{by_command}
        *) words="{options}" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}
complete -o default -F _jobimpact jobimpact
"""


def _bash() -> str:
    taking = [one for one in OPTIONS if one.metavar]
    return _BASH.format(
        made=_MADE.format("bash"),
        takers="|".join(flag for one in taking for flag in one.flags),
        values="\n".join(_bash_value(one) for one in taking),
        commands=" ".join(commands()),
        options=" ".join(flag for one in OPTIONS for flag in one.flags),
        by_command="\n".join(
            f'        {name}) words="{" ".join(flags)}" ;;' for name, (_, flags) in commands().items()
        ),
    )


def _bash_value(one: Option) -> str:
    # Of what nobody here knows, like an account, there is nothing to offer.
    how = {"file": "-f", "user": "-u"}.get(one.values, f'-W "{one.values}"')
    names = ["compopt -o filenames"] if one.values == "file" else []
    does = [*names, f'mapfile -t COMPREPLY < <(compgen {how} -- "$cur")', "return", ";;"]
    return "\n            ".join([f"        {'|'.join(one.flags)})", *does])


# -- zsh -------------------------------------------------------------------------------------------------------------

_ZSH = """\
#compdef jobimpact
{made}
_jobimpact() {{
    local -a subcommands
    subcommands=(
{commands}
    )
    case $words[2] in
{by_command}
    esac
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe command subcommands
        return
    fi
    _arguments -s \\
{options} \\
        '*:job id:'
}}
_jobimpact "$@"
"""


def _zsh() -> str:
    return _ZSH.format(
        made=_MADE.format("zsh"),
        commands="\n".join(f"        '{name}:{_plain(said)}'" for name, (said, _) in commands().items()),
        by_command="\n".join(
            f"        {name}) compadd -- {' '.join(f)}; return ;;" for name, (_, f) in commands().items()
        ),
        options=" \\\n".join(f"        {line}" for one in OPTIONS for line in _zsh_option(one)),
    )


def _zsh_option(one: Option) -> Iterator[str]:
    after = ""
    if one.metavar:
        how = {"file": "_files", "user": "_users"}.get(one.values, f"({one.values})" if one.values else "")
        after = f":{one.metavar.partition('[')[0].lower()}:{how}"
    for flag in one.flags:
        star = "*" if one.many else ""
        yield f"'{star}{flag}[{_plain(one.help)}]{after}'"


def _plain(said: str) -> str:
    """Without what the shells read as more than text."""
    return re.sub(r"[\[\]:'`$\\\"]", "", said)


# -- fish ------------------------------------------------------------------------------------------------------------


def _fish() -> str:
    lines = [_MADE.format("fish"), f"set -l commands {' '.join(commands())}", "complete -c jobimpact -f"]
    for name, (said, flags) in commands().items():
        lines.append(f"complete -c jobimpact -n __fish_use_subcommand -a {name} -d '{_plain(said)}'")
        seen = f"complete -c jobimpact -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{seen} {_fish_flag(flag)}" for flag in flags]
    other = 'complete -c jobimpact -n "not __fish_seen_subcommand_from $commands"'
    for one in OPTIONS:
        said = " ".join(_fish_flag(flag) for flag in one.flags)
        lines.append(f"{other} {said}{_fish_value(one)} -d '{_plain(one.help)}'")
    return "\n".join(lines) + "\n"


def _fish_value(one: Option) -> str:
    if not one.metavar:
        return ""
    known = {"file": " -F", "user": " -f -a '(__fish_complete_users)'", "": ""}
    return " -r" + known.get(one.values, f" -f -a '{one.values}'")


def _fish_flag(flag: str) -> str:
    return f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"


if __name__ == "__main__":
    sys.stdout.write(script(sys.argv[1]))
