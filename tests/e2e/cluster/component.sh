#!/usr/bin/env bash
# component.sh start|stop|kill COMPONENT [NODE]: one program of the cluster:
# etcd, apiserver, controllers, scheduler; containerd, kubelet, proxy of a node.
# "stop" asks, "kill" does not; both return when the program is gone.
set -euo pipefail
# shellcheck source=tests/e2e/cluster/control-plane.sh
source "$(dirname "$0")/control-plane.sh"
# shellcheck source=tests/e2e/cluster/node.sh
source "$(dirname "$0")/node.sh"
# shellcheck source=tests/e2e/cluster/csi.sh
source "$(dirname "$0")/csi.sh"

action=$1 component=$2 node=${3:-node1}
declare -F "run_$component" >/dev/null || die "there is no component $component"
case $action in
    start)
        start "$component" "$node"
        # A kubelet that finds no containerd ends, and nothing here would start
        # it again: a program is started when it answers.
        if declare -F "ready_$component" >/dev/null; then
            wait_for "$component of $node answers" 60 "ready_$component" "$node"
        fi
        ;;
    stop) stop "$component" "$node" TERM ;;
    kill) stop "$component" "$node" KILL ;;
    run) # in the background, by start
        echo $$ >"$E2E/run/$component-$node.pid.new"
        mv "$E2E/run/$component-$node.pid.new" "$E2E/run/$component-$node.pid"
        "run_$component" "$node"
        ;;
    *) die "component.sh start|stop|kill COMPONENT [NODE]" ;;
esac
