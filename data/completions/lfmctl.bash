# SPDX-License-Identifier: MIT
_lfmctl_ids()
{
    lfmctl --quiet --json "$@" 2>/dev/null | sed -n 's/.*"[Ii]d": *"\([^"]*\)".*/\1/p'
}

_lfmctl()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb= sub= i
    local options='--model --session --system --tools --no-tools --tool-command --dry-run-tools
        --no-clock --format --title --stop --keep --background --json --stats --thinking
        --max-tokens --context --temperature --top-p --min-p --top-k --seed --all --quiet --color
        --help --version'

    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -* ]] && continue
        if [[ -z $verb ]]; then verb=${COMP_WORDS[i]}; elif [[ -z $sub ]]; then sub=${COMP_WORDS[i]}; fi
    done
    case $prev in
    --model | -m) mapfile -t COMPREPLY < <(compgen -W "$(_lfmctl_ids models)" -- "$cur"); return ;;
    --session | -S) mapfile -t COMPREPLY < <(compgen -W "$(_lfmctl_ids sessions)" -- "$cur"); return ;;
    --tools | --format) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --tool-command) mapfile -t COMPREPLY < <(compgen -c -- "$cur"); return ;;
    --color) mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$cur"); return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $verb:$sub in
    :*) mapfile -t COMPREPLY < <(compgen -W 'ask chat sessions models pull ps status help' -- "$cur") ;;
    sessions:) mapfile -t COMPREPLY < <(compgen -W 'list show remove' -- "$cur") ;;
    sessions:show | sessions:remove)
        mapfile -t COMPREPLY < <(compgen -W "$(_lfmctl_ids sessions)" -- "$cur") ;;
    models:) mapfile -t COMPREPLY < <(compgen -W 'list pull verify remove load unload' -- "$cur") ;;
    models:* | pull:*) mapfile -t COMPREPLY < <(compgen -W "$(_lfmctl_ids models --all)" -- "$cur") ;;
    esac
}
complete -F _lfmctl lfmctl
