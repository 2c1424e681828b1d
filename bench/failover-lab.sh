#!/usr/bin/env bash
# rais beside keepalived on real interfaces, in network namespaces, as a client on the LAN sees it:
# the same faults N times each (10), in one run. Prints a table and writes a picture of it. Needs root
# and the package keepalived; takes some nine minutes with 10 runs; let nothing else run.
#
#   bench/failover-lab.sh [N [PICTURE]]      the picture is docs/pictures/failover-measured.svg
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-10}
picture=${2:-docs/pictures/failover-measured.svg}
cargo build --quiet --release --locked -p rais
exec cargo run --quiet --release --locked -p chaos --example failover -- "$runs" "$picture"
