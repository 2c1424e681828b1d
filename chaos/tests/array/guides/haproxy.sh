#!/bin/sh
# Runs HAProxy as a host of the lab: HOST, a directory for all hosts, the guide's directory.
set -eu
exec haproxy -db -f "$3/haproxy.cfg"
