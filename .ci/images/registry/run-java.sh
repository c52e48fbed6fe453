#!/usr/bin/env bash
# JAVA_OPTS and JAVA_OPTS_APPEND in, the registry out.
set -euo pipefail
kept=()
if [[ -e /deployments/registry.aot ]]; then
    kept=(-XX:AOTCache=/deployments/registry.aot -XX:+UnlockDiagnosticVMOptions
        -XX:-AOTAdapterCaching -XX:-AOTStubCaching '-Xlog:aot*=error')
fi
# Several words each.
# shellcheck disable=SC2086
exec java "${kept[@]}" ${JAVA_OPTS:--XX:MaxRAMPercentage=50} ${JAVA_OPTS_APPEND:-} -jar /deployments/apicurio-registry-*.jar "$@"
