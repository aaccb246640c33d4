# The one line for an existing shell entrypoint. Near the top, before any `cd`, `shift` or `set --`:
#
#     . ddbg-entry.sh
#
# With a word of ours in DEBUG, or with DDBG set, the script starts over under ddbg-entry, whatever `exec` it ends in.
# Else nothing happens: no process is started. Whether a word is really ours is not decided here; when it is not, the
# script is started over once and goes on.
if [ -n "${DDBG_SOURCED-}" ]; then
  unset DDBG_SOURCED # this is the second time
else
  case "${DEBUG-}${DDBG+verbose}" in
  *verbose* | *stayalive* | *fstree=* | *record*)
    DDBG_SOURCED=${ZSH_ARGZERO:-$0} # in zsh $0 is this file
    if ! [ -f "$DDBG_SOURCED" ]; then
      # An interactive shell, sh -c, or a `cd` came first.
      echo "ddbg-entry: cannot start $DDBG_SOURCED over: it is no file seen from here; put the line '. ddbg-entry.sh' first" >&2
      unset DDBG_SOURCED
    else
      if [ -n "${BASH_VERSION-}" ] && [ -r "/proc/$$/cmdline" ]; then
        # As it was started, to the letter: `bash -e script` keeps its -e. (eval: other shells cannot read this line.)
        eval 'mapfile -d "" -t DDBG_COMMAND <"/proc/$$/cmdline" && set -- "${DDBG_COMMAND[@]}"; unset DDBG_COMMAND'
      else
        case "$DDBG_SOURCED" in
        */*) [ -x "$DDBG_SOURCED" ] && set -- "$DDBG_SOURCED" "$@" || set -- sh "$DDBG_SOURCED" "$@" ;;
        *) set -- sh "$DDBG_SOURCED" "$@" ;; # run as `sh script`: PATH would be searched for the bare name
        esac
      fi
      export DDBG_SOURCED
      exec ddbg-entry -- "$@"
    fi
    ;;
  esac
fi
