"""The script with which bash completes the words of `vmss`, made from the parsers of the commands.

It contains all that it needs: only for what is in the pool it starts Python, as `vmss completion schedules` for the
names of schedules, and as `vmss xe` for uuids. Packages and `vmss install` take the copy
in vmss/data. To update it: `vmss completion bash >vmss/data/usr/share/bash-completion/completions/vmss`.
"""

import argparse
from typing import Dict, Iterator, List, Sequence, Tuple

from vmss.cli.main import COMMANDS, parser, parsers
from vmss.cli.parts import SCHEDULE
from vmss.xe.classes import CLASSES
from vmss.xe.commands import COMMANDS as XE
from vmss.xe.syntax import OPTIONS

# What completes the value of an argument, by its placeholder in the help. Nothing completes a value that is not here.
FILE, DIRECTORY, POLICY = "_vmss_files default", "_vmss_files dirnames", "_vmss_schedules"
VMS = "_vmss_uuids vm"
KINDS: Dict[str, str] = {"FILE": FILE, "PATH": FILE, "PEM": FILE, "DIR": DIRECTORY, SCHEDULE: POLICY, "UUID": VMS}

# The options of xe's commands that have no value.
XE_FLAGS = ("--minimal", "--multiple", "--all", "--force", "--help")

_SCRIPT = r"""# Lets bash complete the words of `vmss`: made by `vmss completion bash`.

# Offer those of the words, with $before in front, that begin with what was typed; without $kept, which bash keeps.
_vmss_offer() {
    local word
    for word; do
        word=$before$word
        if [[ $word == "$cur"* ]]; then
            COMPREPLY+=("${word#"$kept"}")
            # The word goes on.
            if [[ $word == *[=:] ]]; then compopt -o nospace 2>/dev/null; fi
        fi
    done
}

# Leave the completion to bash, which knows files.
_vmss_files() {
    compopt -o filenames -o "$1" 2>/dev/null
}

# Offer the uuids of a class, if xapi answers within 3 seconds. Only uuids of its answer are used.
_vmss_uuids() {
    local answer uuid
    local -a uuids=()
    answer=$(timeout -k 1 3 vmss xe "$1-list" --minimal 2>/dev/null </dev/null) || return 0
    IFS=, read -r -a uuids <<<"$answer"
    for uuid in ${uuids[@]+"${uuids[@]}"}; do
        if [[ $uuid =~ ^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$ ]]; then _vmss_offer "$uuid"; fi
    done
}

# Offer the names and the uuids of schedules that begin with what was typed; for nothing the names, and the uuids of
# those whose name cannot be typed. They are quoted as the user has begun to, or else with backslashes.
_vmss_schedules() {
    local answer uuid name quote= typed=${cur#"$before"}
    answer=$(timeout -k 1 3 vmss completion schedules 2>/dev/null </dev/null) || return 0
    case $typed in
    \'*) quote=\' typed=${typed#\'} ;;
    \"*) quote=\" typed=${typed#\"} ;;
    esac
    # Without -r it takes a backslash from before each character, as the shell does.
    if [[ $quote != \' ]]; then IFS= read typed <<<"$typed"; fi
    while IFS=$'\t' read -r uuid name; do
        if [[ ! $uuid =~ ^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$ || $name == *[[:cntrl:]]* ]]; then continue; fi
        if [[ $name && $name == "$typed"* ]]; then
            _vmss_quoted "$name"
        elif [[ ( $typed || ! $name ) && $uuid == "${typed,,}"* ]]; then
            _vmss_quoted "$uuid"
        fi
    done <<<"$answer"
}

# Offer a text that the shell is to take as it is.
_vmss_quoted() {
    local word=$1
    case $quote in
    \') word=${word//\'/\'\\\'\'} ;;
    \")
        # There is no way to write it between double quotes.
        if [[ $word == *!* ]]; then return; fi
        word=${word//\\/\\\\} word=${word//\"/\\\"} word=${word//\$/\\\$} word=${word//\`/\\\`}
        ;;
    *)
        printf -v word %q "$word"
        word=$before$word
        if [[ $word != "$kept"* ]]; then return; fi
        word=${word#"$kept"}
        ;;
    esac
    COMPREPLY+=("$word")
}

# The parameters of a command of xe; or of `vmss xe` itself, the commands.
_vmss_xe() {
    local at word command=
    for ((at = 2; at < last; at++)); do
        word=${words[at]}
        case $word in
        @XE_LOGIN@) ((at++)) ;;
        -* | *=*) ;;
        *) command=$word && break ;;
        esac
    done
    case $prev in
    @XE_FILES@) _vmss_files default && return ;;
    @XE_LOGIN@) return ;;
    esac
    case $command:$cur in
    :* | help:*) _vmss_offer @XE_COMMANDS@ ;;
    *-*:uuid=*) before=uuid= && _vmss_xe_uuids "${command%%-*}" ;;
    *:*-uuid=*) before=${cur%%=*}= && _vmss_xe_uuids "${cur%%-uuid=*}" ;;
    *:*=*) ;;
    *)
        case $command in
@XE_PARAMETERS@
        esac
        _vmss_offer @XE_FLAGS@
        ;;
    esac
}

_vmss_xe_uuids() {
    case $1 in
    @XE_CLASSES@) _vmss_uuids "$1" ;;
    esac
}

_vmss() {
    local IFS=$' \t\n' cur= prev= before= kept= word at last=-1 broken=
    local -a words=()
    COMPREPLY=()
    # bash divides a word at colons and equals signs.
    for ((at = 0; at <= COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if ((at > 0)) && [[ $word =~ ^[=:]+$ ]]; then
            words[last]+=$word
            broken=yes
        elif [[ $broken && $word ]]; then
            words[last]+=$word
            broken=
        else
            words[++last]=$word
            broken=
        fi
    done
    if ((last < 1)); then return; fi
    cur=${words[last]}
    prev=${words[last - 1]}
    # It replaces only the last part of such a word.
    if [[ ${COMP_WORDBREAKS-} == *=* && $cur == *=* ]]; then kept=${cur%"${cur##*=}"}; fi
    if [[ ${COMP_WORDBREAKS-} == *:* && ${cur#"$kept"} == *:* ]]; then kept=${cur%"${cur##*:}"}; fi
    if ((last == 1)); then
        _vmss_offer @COMMANDS@
        return
    fi
    if [[ $cur == --*=* && ${words[1]} != xe ]]; then
        prev=${cur%%=*}
        before=$prev=
    fi
    case ${words[1]} in
@PARTS@
    xe) _vmss_xe ;;
    esac
}

complete -F _vmss vmss
"""


def script() -> str:
    """The script, in ASCII."""
    known = [(name, command) for name, command in parsers().items() if command is not None]
    places = {
        "COMMANDS": " ".join(list(COMMANDS) + _options(parser())),
        "PARTS": "\n".join(line for name, command in known for line in _part(name, command)),
        "XE_LOGIN": " | ".join(sorted(OPTIONS)),
        "XE_FILES": " | ".join(sorted(name for name, key in OPTIONS.items() if key.endswith("file"))),
        "XE_COMMANDS": " ".join(list(XE) + sorted(OPTIONS)),
        "XE_PARAMETERS": "\n".join(_xe_parameters()),
        "XE_FLAGS": " ".join(XE_FLAGS),
        "XE_CLASSES": " | ".join(cls.name for cls in CLASSES),
    }
    text = _SCRIPT
    for name, value in places.items():
        text = text.replace("@%s@" % name, value)
    return text


def _options(of: argparse.ArgumentParser) -> List[str]:
    return [name for action in of._actions if action.help is not argparse.SUPPRESS for name in action.option_strings]


def _part(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    """The branch of one command: the value of an option that takes one, otherwise options and arguments."""
    yield "    %s)" % name
    yield "        case $prev in"
    bare: List[str] = []
    for action in command._actions:
        kind = _kind(action)
        if not action.option_strings:
            bare.append(kind)
        elif action.nargs != 0:
            yield "        %s) %s;;" % (" | ".join(action.option_strings), kind + " " if kind else "")
    yield "        *)"
    yield "            if [[ ! $before && ( ! $cur || $cur == -* ) ]]; then"
    yield "                _vmss_offer %s" % " ".join(_options(command))
    yield "            fi"
    yield from ("            if [[ $cur != -* ]]; then %s; fi" % kind for kind in bare if kind)
    yield "            ;;"
    yield "        esac"
    yield "        ;;"


def _kind(action: argparse.Action) -> str:
    """What completes the value of an argument."""
    if action.choices:
        return "_vmss_offer %s" % " ".join(map(str, action.choices))
    return KINDS.get(str(action.metavar), "")


def _xe_parameters() -> Iterator[str]:
    """A branch for each list of parameters, with all commands of xe that have this list."""
    having: Dict[Tuple[str, ...], List[str]] = {}
    for name, command in XE.items():
        having.setdefault(_names(command.needs + command.may_have), []).append(name)
    for names, commands in having.items():
        if names:
            yield "        %s) _vmss_offer %s ;;" % (" | ".join(commands), " ".join(names))


def _names(parameters: Sequence[str]) -> Tuple[str, ...]:
    """The parameters as they are typed, without placeholders for any number of others."""
    return tuple(name if name.endswith(":") else name + "=" for name in parameters if not name.startswith("<"))
