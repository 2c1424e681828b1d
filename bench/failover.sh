#!/usr/bin/env bash
# Failover of three and five daemons on this machine, and what an idle array costs: kills each host
# role N times (20) and prints tables. Takes some three minutes; let nothing else run.
#
#   bench/failover.sh [N]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release --locked -p rais
exec cargo run --quiet --release --locked -p tests --example failover -- "$@"
