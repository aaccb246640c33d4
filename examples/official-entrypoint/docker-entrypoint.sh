#!/bin/sh
# What the entrypoints of many public images do: flags go to the server, anything else is run as it is. It stands for
# one that belongs to somebody else: not a line of it knows of ddbg-entry.
set -e

if [ "${1#-}" != "$1" ]; then
  set -- server "$@"
fi
if [ "$1" = server ]; then
  : "${DATA_DIR:=/var/lib/server}"
  mkdir -p "$DATA_DIR"
  shift
  set -- sleep "${1:-infinity}"
fi
exec "$@"
