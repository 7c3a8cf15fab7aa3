#!/usr/bin/env bash
# machine.sh on|off|cut|heal NODE: a node beside the first as a machine of its
# own: namespaces for its processes, mounts and network, and a cable to the
# bridge that the API is on. "off" is a power cut: every process of the node,
# its pods' too, is gone at once, and what was in memory. "cut" pulls the
# cable, and everything on the node runs on.
set -euo pipefail
# shellcheck source=tests/e2e/cluster/node.sh
source "$(dirname "$0")/node.sh"

# PID 1 of the machine: what runs on it ends with it.
boot() {
    # The first node's files, and what its pods have mounted there, are not ours.
    umount --recursive --lazy /run /var/lib/kubelet /var/log
    node_mounts "$node"
    ip link set lo up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    : >"$E2E/run/$node.booted"
    # It reaps what others leave behind, and waits for ever.
    sleep infinity &
    while true; do wait || true; done
}

# The host's end of the cable has the node's name.
cable() {
    ip link add "$node" type veth peer name eth0 netns "$1"
    ip link set "$node" master nodes up
    in_node "$node" ip addr add "$(node_address "$node")/24" dev eth0
    in_node "$node" ip link set eth0 up
    in_node "$node" ip route add default via "$api_address"
    ip route replace "$(pod_subnet "$node")" via "$(node_address "$node")"
}

on() {
    local shell pid
    [[ ! -e $E2E/run/$node.pid ]] || die "$node is switched on already"
    rm -f "$E2E/run/$node.booted"
    setsid unshare --pid --fork --kill-child=KILL --mount-proc --mount --net \
        "$here/machine.sh" boot "$node" >>"$E2E/logs/machine-$node.log" 2>&1 </dev/null &
    shell=$!
    wait_for "$node boots" 30 test -e "$E2E/run/$node.booted"
    pid=$(pgrep --parent "$shell")
    echo "$pid" >"$E2E/run/$node.pid"
    cable "$pid"
    node_runtime_up "$node"
    start proxy "$node"
    start kubelet "$node"
    wait_for "$node is ready" 60 node_ready "$node"
    say "$node is ready after $SECONDS s"
}

off() {
    local pid file=$E2E/run/$node.pid
    [[ -e $file ]] || return 0
    pid=$(<"$file")
    kill -KILL "$pid"
    while [[ -e /proc/$pid ]]; do sleep 0.02; done
    rm -f "$E2E"/run/*"-$node.pid" "$file"
    # The kernel takes it too, but in its own time.
    ip link delete "$node" 2>/dev/null || true
}

action=$1 node=$2
[[ $node != node1 ]] || die "the first node is where the tests run"
case $action in
    boot | on | off) "$action" ;;
    cut) ip link set "$node" down ;;
    heal) ip link set "$node" up ;;
    *) die "machine.sh on|off|cut|heal NODE" ;;
esac
