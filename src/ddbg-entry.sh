# The one line for an existing shell entrypoint. Near the top, before any `shift` or `set --`:
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
  *verbose* | *stayalive* | *fstree=*)
    DDBG_SOURCED=${ZSH_ARGZERO:-$0} # in zsh $0 is this file
    if [ -f "$DDBG_SOURCED" ]; then
      case "$DDBG_SOURCED" in
      */*) [ -x "$DDBG_SOURCED" ] && set -- "$DDBG_SOURCED" "$@" || set -- "${BASH:-sh}" "$DDBG_SOURCED" "$@" ;;
      *) set -- "${BASH:-sh}" "$DDBG_SOURCED" "$@" ;; # run as `sh script`: PATH would be searched for the bare name
      esac
      export DDBG_SOURCED
      exec ddbg-entry -- "$@"
    fi
    unset DDBG_SOURCED # an interactive shell, or sh -c: there is no script to start over
    ;;
  esac
fi
