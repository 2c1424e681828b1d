#!/usr/bin/env bash
# Failover of three daemons on real interfaces, in network namespaces, as a client on the LAN sees it:
# each fault N times (10), gaps and dual answers as a table. Needs root; takes some six minutes with
# 10 runs; let nothing else run. keepalived in the same lab: the example `keepalived`.
#
#   bench/failover-lab.sh [N]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release --locked -p rais
exec cargo run --quiet --release --locked -p chaos --example failover -- "$@"
