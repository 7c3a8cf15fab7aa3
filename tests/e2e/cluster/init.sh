#!/usr/bin/env bash
# init.sh COMMAND…: PID 1 of the cluster's namespaces. Brings the cluster up,
# runs the command with KUBECONFIG set, and ends with its exit code; what runs
# here ends with it, whatever it is. It reaps what its children leave behind.
set -euo pipefail
# shellcheck source=tests/e2e/cluster/control-plane.sh
source "$(dirname "$0")/control-plane.sh"
# shellcheck source=tests/e2e/cluster/node.sh
source "$(dirname "$0")/node.sh"

network() {
    ip link set lo up
    ip link add nodes type bridge
    ip addr add $api_address/24 dev nodes
    ip link set nodes up
    # There is no default route, and an address needs one before it is replaced.
    ip route add "$service_subnet" dev nodes
    echo 1 >/proc/sys/net/ipv4/ip_forward
}

# Names of the nodes, for whoever calls a kubelet by its name.
names() {
    local node
    echo '127.0.0.1 localhost' >"$E2E/hosts"
    for node in node{1..9}; do echo "$(node_address "$node") $node" >>"$E2E/hosts"; done
    mount --bind "$E2E/hosts" /etc/hosts
    : >"$E2E/resolv.conf"
}

mkdir -p "$E2E"/{run,pki,logs}
node_mounts node1
names
network
# Side by side: importing images takes as long as the API server's start.
node_runtime_up node1 &
runtime=$!
control_plane_up
wait "$runtime" || die "the container runtime did not start; the logs are in $E2E/logs"
start kubelet node1
wait_for "node1 is ready" 60 node_ready node1
say "node1 is ready after $SECONDS s"

export KUBECONFIG=$E2E/kubeconfig
status=0
"$@" || status=$?
exit "$status"
