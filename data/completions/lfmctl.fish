# SPDX-License-Identifier: MIT
function __lfmctl_ids
    lfmctl --quiet --json $argv 2>/dev/null | string match -rg '"[Ii]d": *"([^"]*)"'
end
function __lfmctl_programs
    lfmctl --quiet --json permissions 2>/dev/null | string match -rga '"program":"([^"]*)"'
end
function __lfmctl_tools
    lfmctl --quiet --json tools 2>/dev/null | string match -rg '"name": *"([^"]*)", *"description'
end
set -l verbs ask chat describe image transcribe say silence listen toggle dictate devices permissions tools sessions models pull ps status help
complete -c lfmctl -f -n "not __fish_seen_subcommand_from $verbs" -a "$verbs"
set -l second 'not __fish_seen_subcommand_from list show pull verify remove load unload'
complete -c lfmctl -f -n "__fish_seen_subcommand_from models; and $second" -a 'list pull verify remove load unload'
complete -c lfmctl -f -n "__fish_seen_subcommand_from sessions; and $second" -a 'list show remove'
complete -c lfmctl -f -n '__fish_seen_subcommand_from pull verify remove load unload; and not __fish_seen_subcommand_from sessions' \
    -a '(__lfmctl_ids models --all)'
complete -c lfmctl -f -n '__fish_seen_subcommand_from sessions; and __fish_seen_subcommand_from show remove' \
    -a '(__lfmctl_ids sessions)'
complete -c lfmctl -f -n '__fish_seen_subcommand_from image; and not __fish_seen_subcommand_from plan' -a plan
complete -c lfmctl -F -n '__fish_seen_subcommand_from describe plan transcribe'
complete -c lfmctl -f -n '__fish_seen_subcommand_from permissions; and not __fish_seen_subcommand_from list allow deny ask' \
    -a 'list allow deny ask'
complete -c lfmctl -f -n '__fish_seen_subcommand_from permissions; and __fish_seen_subcommand_from allow deny ask' \
    -a '(__lfmctl_programs)'
complete -c lfmctl -f -n '__fish_seen_subcommand_from tools; and not __fish_seen_subcommand_from list run allow revoke log undo' \
    -a 'list run allow revoke log undo'
complete -c lfmctl -f -n '__fish_seen_subcommand_from tools; and __fish_seen_subcommand_from run allow revoke' \
    -a '(__lfmctl_tools)'
complete -c lfmctl -s o -l output -r -d 'WAV file'
complete -c lfmctl -l input -r -d 'a recording'
complete -c lfmctl -l mode -x -a 'open half-duplex push'
complete -c lfmctl -l to -x -a 'stdout clipboard window'
complete -c lfmctl -l source -x -a 'microphone monitor'
complete -c lfmctl -s i -l image -r -d 'picture'
complete -c lfmctl -l detail -x -a 'low auto high' -d 'how finely'
complete -c lfmctl -s m -l model -x -a '(__lfmctl_ids models)' -d 'which model'
complete -c lfmctl -s S -l session -x -a '(__lfmctl_ids sessions)' -d 'kept session'
complete -c lfmctl -s s -l system -x -d 'instructions'
complete -c lfmctl -l tools -r -d 'tool list'
complete -c lfmctl -l tool-command -r -d 'answers calls'
complete -c lfmctl -l format -r -d 'JSON Schema'
complete -c lfmctl -s n -l max-tokens -x -d 'length of the answer'
complete -c lfmctl -l color -x -a 'auto always never'
for option in voice rate pitch hangover silence title stop context temperature top-p min-p top-k seed max-encode-ms min-image-tokens max-image-tokens min-tiles \
    max-tiles
    complete -c lfmctl -l $option -x
end
for option in times now no-tiling no-thumbnail no-tools dry-run-tools no-clock keep background json stats thinking version
    complete -c lfmctl -l $option
end
complete -c lfmctl -s a -l all
complete -c lfmctl -s q -l quiet
complete -c lfmctl -s h -l help
