#!/bin/bash
# An entrypoint of many branches, each ending in its own exec. One line makes all of them debuggable.
. ddbg-entry.sh
set -euo pipefail

start_web() {
  local port=${PORT:-8080}
  echo "web on port $port"
  exec sleep infinity
}

case "${1-web}" in
web) start_web ;;
migrate)
  echo "migrating ${DATABASE_URL:?must be set}"
  exec true
  ;;
*) exec "$@" ;;
esac
