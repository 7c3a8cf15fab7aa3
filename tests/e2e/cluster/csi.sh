# A CSI driver as it is in the field: the driver on the node, which registers
# itself with the kubelet, and the controllers that Kubernetes' storage group
# publishes beside it. Started by the tests that need them.
# shellcheck shell=bash source=tests/e2e/cluster/lib.sh

csi_socket=/var/lib/kubelet/plugins/loop.csi.coracle.dev/csi.sock

run_csi_driver() {
    exec coracle-test-csi --endpoint "$csi_socket" --data "$E2E/csi" --node "$1" \
        --registry /var/lib/kubelet/plugins_registry
}

ready_csi_driver() { in_node "$1" test -S "$csi_socket"; }

# With short retries: a test waits for them.
run_csi_provisioner() {
    exec csi-provisioner --csi-address="$csi_socket" --kubeconfig="$E2E/run/csi.kubeconfig" \
        --strict-topology --default-fstype=ext4 --timeout=60s --retry-interval-max=5s \
        --kube-api-qps=50 --kube-api-burst=100
}

run_csi_resizer() {
    exec csi-resizer --csi-address="$csi_socket" --kubeconfig="$E2E/run/csi.kubeconfig" \
        --retry-interval-max=5s --kube-api-qps=50 --kube-api-burst=100
}
