# zsh -f capture.zsh FOLDER LINE: what TAB offers behind LINE in an interactive
# shell that takes its functions from FOLDER, one "offer:WORD" a line.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "source ${0:A:h}/offer.zsh $1"
zpty -r -m shell seen '*READY*'
zpty -w -n shell "$2"$'\t'
zpty -r -m shell seen '*ENDED*'
print -r -- "${seen//$'\r'/}"
zpty -d shell
