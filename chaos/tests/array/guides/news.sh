#!/bin/sh
# Runs INN as a host of the lab: HOST, a directory for all hosts, the guide's directory.
set -eu
dir=$2/$1 guide=$3
export INNCONF="$dir/inn.conf"
if [ ! -d "$dir" ]; then
    mkdir -p "$dir/run" "$dir/log" "$dir/tmp" "$dir/spool/articles" "$dir/spool/incoming" "$dir/spool/overview" "$dir/spool/outgoing" "$dir/spool/archive"
    cp -r /etc/news "$dir/etc" && cp -r /var/lib/news "$dir/db"
    cat "$guide/readers.conf" >>"$dir/etc/readers.conf"
    grep -vE '^(domain|pathhost|pathetc|pathdb|pathrun|pathlog|pathspool|pathtmp):' /etc/news/inn.conf >"$INNCONF"
    printf '%s\n' "domain: lab.example" "pathhost: $1.lab.example" "pathetc: $dir/etc" "pathdb: $dir/db" \
        "pathrun: $dir/run" "pathlog: $dir/log" "pathspool: $dir/spool" "pathtmp: $dir/tmp" >>"$INNCONF"
    chown -R news:news "$dir"
fi
exec setpriv --reuid news --regid news --init-groups -- /usr/lib/news/bin/innd -f
