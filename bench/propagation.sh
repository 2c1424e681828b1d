#!/usr/bin/env bash
# From the commit that takes a host down to the first answers without it: in one process (from the swap
# of the zones), and on all name servers of a demo, N changes by command (100) and N / 5 killed hosts
# each. Takes some three minutes; let nothing else run.
#
#   bench/propagation.sh [N]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release --locked -p rais
cargo run --quiet --release --locked -p dns --example propagation -- 1000
exec cargo run --quiet --release --locked -p tests --example propagation -- "$@"
