# SPDX-License-Identifier: MIT
_lfmctl_ids()
{
    lfmctl --quiet --json "$@" 2>/dev/null | sed -n 's/.*"[Ii]d": *"\([^"]*\)".*/\1/p'
}

_lfmctl_tools()
{
    lfmctl --quiet --json tools 2>/dev/null | sed -n 's/.*"name": *"\([^"]*\)", *"description.*/\1/p'
}

_lfmctl_programs()
{
    lfmctl --quiet --json permissions 2>/dev/null | grep -o '"program":"[^"]*"' | cut -d'"' -f4
}

# What fits; bash takes what stands before a colon or = for words of their own.
_lfmctl_offer()
{
    mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
    COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*[:=]}"}"}")
}

_lfmctl()
{
    local line=${COMP_LINE:0:COMP_POINT} words cur prev verb= sub= i
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[-1]} prev=${words[-2]}
    [[ $cur == --*=* ]] && prev=${cur%%=*} cur=${cur#*=}
    local options='--model --image --detail --max-encode-ms --min-image-tokens --max-image-tokens
        --min-tiles --max-tiles --no-tiling --no-thumbnail --session --system --tools --no-tools --tool-command --dry-run-tools
        --no-clock --format --title --stop --keep --background --json --stats --thinking
        --times --output --voice --rate --pitch --now --mode --hangover --input --to --silence --source
        --max-tokens --context --temperature --top-p --min-p --top-k --seed --all --quiet --color
        --help --version'

    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        [[ ${words[i]} == -* ]] && continue
        if [[ -z $verb ]]; then verb=${words[i]}; elif [[ -z $sub ]]; then sub=${words[i]}; fi
    done
    case $prev in
    --model | -m) _lfmctl_offer -W "$(_lfmctl_ids models)"; return ;;
    --session | -S) _lfmctl_offer -W "$(_lfmctl_ids sessions)"; return ;;
    --detail) _lfmctl_offer -W 'low auto high'; return ;;
    --to) _lfmctl_offer -W 'stdout clipboard window'; return ;;
    --source) _lfmctl_offer -W 'microphone monitor'; return ;;
    --mode) _lfmctl_offer -W 'open half-duplex push'; return ;;
    --tools | --format | --image | -i | --input | --output | -o) _lfmctl_offer -f; return ;;
    --tool-command) _lfmctl_offer -c; return ;;
    --color) _lfmctl_offer -W 'auto always never'; return ;;
    esac
    if [[ $cur == -* ]]; then
        _lfmctl_offer -W "$options"
        return
    fi
    case $verb:$sub in
    :*) _lfmctl_offer -W 'ask chat describe image transcribe say silence listen toggle dictate devices permissions tools sessions models pull ps status help' ;;
    image:) _lfmctl_offer -W plan ;;
    tools:) _lfmctl_offer -W 'list run allow revoke log undo' ;;
    tools:run | tools:allow | tools:revoke) _lfmctl_offer -W "$(_lfmctl_tools)" ;;
    permissions:) _lfmctl_offer -W 'list allow deny ask' ;;
    permissions:*) _lfmctl_offer -W "$(_lfmctl_programs)" ;;
    describe:* | image:* | transcribe:*) _lfmctl_offer -f ;;
    sessions:) _lfmctl_offer -W 'list show remove' ;;
    sessions:show | sessions:remove)
        _lfmctl_offer -W "$(_lfmctl_ids sessions)" ;;
    models:) _lfmctl_offer -W 'list pull verify remove load unload' ;;
    models:* | pull:*) _lfmctl_offer -W "$(_lfmctl_ids models --all)" ;;
    esac
}
complete -F _lfmctl lfmctl
