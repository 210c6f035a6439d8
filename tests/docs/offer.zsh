# Read by the shell of capture.zsh: tells every word that completion offers.
PROMPT=
fpath=($1 $fpath)
autoload -Uz compinit
compinit -u -D
compadd() {
    # Calls that only store matches in arrays are left alone.
    case "${@[1,(i)(-|--)]}" in *-(O|A|D)\ *) builtin compadd "$@"; return $? ;; esac
    local -a offers
    builtin compadd -A offers "$@"
    print
    print -rl -- "offer:"$^offers
    builtin compadd "$@"
}
told() { print ENDED }
comppostfuncs=(told)
bindkey '^I' complete-word
print READY
