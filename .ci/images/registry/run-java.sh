#!/usr/bin/env bash
# JAVA_OPTS and JAVA_OPTS_APPEND in, the registry out.
set -euo pipefail
# Several words each.
# shellcheck disable=SC2086
exec java ${JAVA_OPTS:--XX:MaxRAMPercentage=50} ${JAVA_OPTS_APPEND:-} -jar /deployments/quarkus-run.jar "$@"
