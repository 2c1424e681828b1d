#!/usr/bin/env bash
# DNS beside its peers: rais's server, Knot, NSD, gdnsd, BIND, PowerDNS and a bare UDP echo (the
# floor) answer dnsperf from one zone, one after the other, ROUNDS times in turn. Prints for each
# the server's CPU (from /proc) per million queries, throughput, latency and memory as a table.
# Needs the Debian packages dnsperf knot nsd gdnsd bind9 pdns-server pdns-backend-bind (apt-get
# installs what is missing when root; what can't be had is left out). Loopback ports from PORT on.
#
#   bench/dns.sh [ROUNDS [SECONDS [SERVERS]]]     e.g. 25 1 "echo echo296 rais"
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-5} port=${PORT:-5350}
wanted="dnsperf knotd nsd gdnsd named pdns_server"
missing() { for tool in $wanted; do command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || echo "$tool"; done; }
export PATH=$PATH:/usr/sbin
if [ -n "$(missing)" ] && [ "$(id -u)" = 0 ]; then
  apt-get install -y --no-install-recommends dnsperf knot nsd gdnsd bind9 pdns-server pdns-backend-bind >/dev/null 2>&1 || true
fi
cargo build --quiet --release --locked -p dns --examples
built=target/release/examples
data=$(mktemp -d)
declare -A pids ports
end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$data"
}
trap end EXIT

# One zone: what dns/examples/serve.rs serves.
{
  echo '$TTL 5'
  echo '@ SOA h1.ns hostmaster 1 60 10 604800 5'
  echo '@ NS h1.ns'
  echo 'h1.ns A 127.0.0.1'
  for n in $(seq 16); do echo "@ A 10.77.0.$n"; echo "h$n A 10.77.0.$n"; done
} >"$data/web.example"
echo "web.example A" >"$data/apex"
for n in $(seq 16); do echo "h$n.web.example A"; done >"$data/hosts"
for n in $(seq 5000); do echo "nope$n.web.example A"; done >"$data/nxdomain"

# name, port, command: starts a server in the background and notes its pid.
start() {
  local name=$1 at=$2
  shift 2
  command -v "$1" >/dev/null || { echo "$name: not installed, left out" >&2; return; }
  "$@" >"$data/$name.log" 2>&1 &
  pids[$name]=$! ports[$name]=$at
}
start echo "$port" "$built/echo" "127.0.0.1:$port"
# As long as the answer for the apex: the floor for that kind.
start echo296 $((port + 7)) "$built/echo" "127.0.0.1:$((port + 7))" 296
# Five steps before others, as the daemon is: its DNS threads step back as many.
# The rate is raised, not switched off: each query is looked up and counted by the limiter.
start rais $((port + 1)) nice -n -5 "$built/serve" "127.0.0.1:$((port + 1))" 1000000000

mkdir -p "$data/knot" "$data/nsd" "$data/gdnsd/zones" "$data/gdnsd/run" "$data/gdnsd/state" "$data/bind" "$data/pdns"
cat >"$data/knot/knot.conf" <<END
server:
    listen: 127.0.0.1@$((port + 2))
    rundir: $data/knot
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: $data/knot
zone:
  - domain: web.example
    file: $data/web.example
    zonefile-sync: -1
    journal-content: none
END
start knot $((port + 2)) knotd -c "$data/knot/knot.conf"
cat >"$data/nsd/nsd.conf" <<END
server:
    ip-address: 127.0.0.1@$((port + 3))
    server-count: 1
    username: ""
    zonesdir: "$data"
    database: ""
    pidfile: "$data/nsd/pid"
    xfrdfile: "$data/nsd/xfrd"
    xfrdir: "$data/nsd"
    zonelistfile: "$data/nsd/list"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: web.example
    zonefile: web.example
END
start nsd $((port + 3)) nsd -d -c "$data/nsd/nsd.conf"
cp "$data/web.example" "$data/gdnsd/zones/"
cat >"$data/gdnsd/config" <<END
options => { listen => 127.0.0.1:$((port + 4)), udp_threads => 1, tcp_threads => 1, run_dir => $data/gdnsd/run, state_dir => $data/gdnsd/state }
END
start gdnsd $((port + 4)) gdnsd -c "$data/gdnsd" start
cat >"$data/bind/named.conf" <<END
options { directory "$data/bind"; listen-on port $((port + 5)) { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile none; minimal-responses yes; };
controls { };
zone "web.example" { type primary; file "$data/web.example"; };
END
start bind $((port + 5)) named -g -n 1 -c "$data/bind/named.conf"
cat >"$data/pdns/pdns.conf" <<END
launch=bind
bind-config=$data/pdns/named.conf
local-address=127.0.0.1
local-port=$((port + 6))
socket-dir=$data/pdns
receiver-threads=1
distributor-threads=1
setuid=
setgid=
daemon=no
guardian=no
END
echo "zone \"web.example\" { type master; file \"$data/web.example\"; };" >"$data/pdns/named.conf"
start powerdns $((port + 6)) pdns_server --config-dir="$data/pdns"

# A server may fork: all processes of its tree count.
tree() { local pid; echo "$1"; for pid in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree "$pid"; done; }
# User time in ticks, which are sampled; all time on a core in nanoseconds, which is not.
cpu() {
  local pids
  pids=$(tree "$1")
  for pid in $pids; do cat "/proc/$pid/stat"; done | sed 's/.*) //' | awk '{u += $12} END {printf "%d ", u}'
  for pid in $pids; do cat /proc/"$pid"/task/*/schedstat; done | awk '{n += $1} END {printf "%.0f\n", n}'
}
memory() { for pid in $(tree "$1"); do cat "/proc/$pid/status"; done | awk '/^VmRSS/ {k += $2} END {printf "%.1f", k / 1024}'; }

# Answering, and with the right answer.
answers() { dnsperf -s 127.0.0.1 -p "$1" -d "$data/apex" -n 1 -t 1 2>/dev/null | grep -q "NOERROR"; }
for name in "${!pids[@]}"; do
  case "$name" in echo*) continue ;; esac
  tries=0
  until answers "${ports[$name]}"; do
    tries=$((tries + 1))
    if [ $tries = 20 ]; then
      echo "$name: doesn't answer, left out: $(tail -n 2 "$data/$name.log")" >&2
      kill "${pids[$name]}" 2>/dev/null || true
      unset "pids[$name]" "ports[$name]"
      break
    fi
    # A server tells nobody when it begins to answer: asked again, a bounded number of times.
    sleep 0.3
  done
done

ticks=$(getconf CLK_TCK)
order=${3:-echo echo296 rais knot nsd gdnsd bind powerdns}
for kind in apex hosts nxdomain; do
  for _ in $(seq "$rounds"); do
    for name in $order; do
      [ -n "${pids[$name]:-}" ] || continue
      before=$(cpu "${pids[$name]}")
      report=$(dnsperf -s 127.0.0.1 -p "${ports[$name]}" -d "$data/$kind" -c 16 -T 1 -q 100 -e -l "$seconds" 2>/dev/null)
      after=$(cpu "${pids[$name]}")
      completed=$(awk '/Queries completed/ {print $3}' <<<"$report")
      rate=$(awk '/Queries per second/ {print $4}' <<<"$report")
      latency=$(awk '/Average Latency/ {print $4}' <<<"$report")
      deviation=$(awk '/Latency StdDev/ {print $4}' <<<"$report")
      echo "$kind $name $before $after $ticks $completed $rate ${latency:-0} ${deviation:-0}" >>"$data/runs"
    done
    # Every other round the other way round.
    order=$(echo "$order" | tr ' ' '\n' | tac | tr '\n' ' ')
  done
done

echo "medians of $rounds rounds of $seconds s; CPU in seconds per million queries"
echo
echo "| questions | server | user | total | total / echo | queries a second | latency, mean, us |"
echo "| --- | --- | --- | --- | --- | --- | --- |"
awk '
  function median(list, n,   i, j, t, parts) {
    n = split(list, parts, " ")
    for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (parts[j] + 0 < parts[i] + 0) { t = parts[i]; parts[i] = parts[j]; parts[j] = t }
    return n % 2 ? parts[(n + 1) / 2] : (parts[n / 2] + parts[n / 2 + 1]) / 2
  }
  $8 > 0 {
    key = $1 " " $2
    if (!(key in user)) keys[++count] = key
    million = $8 / 1e6
    user[key] = user[key] " " ($5 - $3) / $7 / million
    total[key] = total[key] " " ($6 - $4) / 1e9 / million
    rate[key] = rate[key] " " $9
    latency[key] = latency[key] " " $10 * 1e6
  }
  END {
    for (i = 1; i <= count; i++) {
      split(keys[i], part, " ")
      if (part[2] == "echo") floor[part[1]] = median(total[keys[i]])
    }
    for (i = 1; i <= count; i++) {
      key = keys[i]; split(key, part, " ")
      printf "| %s | %s | %.2f | %.2f | %.2f | %d | %d |\n", part[1], part[2], median(user[key]), median(total[key]), \
        median(total[key]) / floor[part[1]], median(rate[key]), median(latency[key])
    }
  }' "$data/runs"
echo
for name in echo rais knot nsd gdnsd bind powerdns; do
  [ -n "${pids[$name]:-}" ] && echo "memory of $name: $(memory "${pids[$name]}") MB"
done
echo
"$built/propagation" 1000
