#!/usr/bin/env bash
# POSTGRES_… variables in (or POSTGRES_…_FILE, the name of a file), a running server out; data are made on first start.
set -euo pipefail

if [[ ${1:-postgres} == -* ]]; then
    set -- postgres "$@"
fi
if [[ ${1:-postgres} != postgres ]]; then
    exec "$@"
fi

for name in POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB POSTGRES_INITDB_ARGS; do
    file=${name}_FILE
    if [[ -n ${!file-} ]]; then
        if [[ -n ${!name-} ]]; then
            echo "$name and $file are both set; set one" >&2
            exit 1
        fi
        declare -x "$name=$(<"${!file}")"
        unset "$file"
    fi
done

if [[ $(id -u) == 0 ]]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    chown -R postgres:postgres "$PGDATA"
    install -d -o postgres -g postgres -m 3775 /var/run/postgresql
    # A secret may be for root's eyes alone; it is read by now.
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "${BASH_SOURCE[0]}" "$@"
fi

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    if [[ -z ${POSTGRES_PASSWORD-} && ${POSTGRES_HOST_AUTH_METHOD-} != trust ]]; then
        echo "Set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, or POSTGRES_HOST_AUTH_METHOD=trust" >&2
        exit 1
    fi
    mkdir -p "$PGDATA"
    # Several words.
    # shellcheck disable=SC2086
    initdb --username="$user" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD-}") ${POSTGRES_INITDB_ARGS:-} >/dev/null
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
    printf "listen_addresses = '*'\nunix_socket_directories = '/var/run/postgresql'\n" >>"$PGDATA/postgresql.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start >/dev/null
    export PGPASSWORD=${POSTGRES_PASSWORD-}
    if [[ $database != postgres ]]; then
        psql --quiet -v ON_ERROR_STOP=1 -U "$user" -d postgres -v db="$database" <<<'CREATE DATABASE :"db";'
    fi
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sql) psql --quiet -v ON_ERROR_STOP=1 -U "$user" -d "$database" -f "$script" ;;
            *.sh) bash "$script" ;;
        esac
    done
    unset PGPASSWORD
    pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
fi
unset POSTGRES_PASSWORD
exec "$@"
