# The one line for an existing shell entrypoint. Near the top, before any `shift` or `set --`:
#
#     . ddbg-entry.sh
#
# With a word of ours in DEBUG, or with DDBG set, the script starts over under ddbg-entry, whatever `exec` it ends in.
# Else nothing happens: no process is started. Whether a word is really ours is not decided here; when it is not, the
# script is started over once and goes on.
if [ -n "${DDBG_SOURCED-}" ]; then
  unset DDBG_SOURCED
elif [ -f "$0" ]; then # else there is no script to start over: an interactive shell, or sh -c
  case "${DEBUG-}${DDBG+verbose}" in
  *verbose* | *stayalive* | *fstree=*)
    case "$0" in
    */*) [ -x "$0" ] && set -- "$0" "$@" || set -- "${BASH:-sh}" "$0" "$@" ;;
    *) set -- "${BASH:-sh}" "$0" "$@" ;; # run as `sh script`: PATH would be searched for it
    esac
    export DDBG_SOURCED=1
    exec ddbg-entry -- "$@"
    ;;
  esac
fi
