#!/bin/sh
# Runs PostgreSQL as a host of the lab: HOST, a directory for all hosts, the guide's directory. h1 is made
# the primary, every other host a replica of it.
set -eu
host=$1 dir=$2/$1 guide=$3
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
as() { setpriv --reuid postgres --regid postgres --clear-groups -- "$@"; }
if [ ! -d "$dir" ]; then
    mkdir -p "$dir" && chown postgres: "$dir"
    if [ "$host" = h1 ]; then
        as "$bin/initdb" --no-sync --auth peer --pgdata "$dir/data" >&2
        # The first line that fits counts.
        cat "$guide/pg_hba.conf" - <"$dir/data/pg_hba.conf" >"$dir/pg_hba.conf"
        cat "$dir/pg_hba.conf" >"$dir/data/pg_hba.conf"
        cat "$guide/pg_ident.conf" >>"$dir/data/pg_ident.conf"
        # The roles, before anybody connects.
        printf 'CREATE ROLE rais_check LOGIN IN ROLE pg_monitor;\nCREATE ROLE replicator LOGIN REPLICATION;\n' |
            as "$bin/postgres" --single -D "$dir/data" postgres >&2
    else
        until as "$bin/pg_basebackup" --host 10.77.0.1 --username replicator --checkpoint fast --write-recovery-conf \
            --pgdata "$dir/data" >&2; do as rm -rf "$dir/data"; done
    fi
fi
exec setpriv --reuid postgres --regid postgres --clear-groups -- "$bin/postgres" -D "$dir/data" \
    -c "unix_socket_directories=$dir" -c 'listen_addresses=*' -c fsync=off
