# The control plane: each run_ function becomes the program. As a real cluster
# has it: RBAC, the node authorizer, a service account per controller.
# shellcheck shell=bash
# shellcheck source=tests/e2e/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

run_etcd() {
    # It lives for minutes and in memory: nothing to sync.
    exec etcd --name e2e --data-dir /run/etcd --unsafe-no-fsync --log-level warn \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster e2e=http://127.0.0.1:2380
}

# What the controller asks for, one line of JSON each, for the tests to read.
write_audit_policy() {
    cat >"$E2E/audit.yaml" <<'POLICY'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    users: ["system:serviceaccount:coracle-system:coracle-controller"]
  - level: None
POLICY
}

run_apiserver() {
    exec kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
        --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$api_address" \
        --cert-dir="$E2E/pki" --token-auth-file="$E2E/tokens" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --service-cluster-ip-range="$service_subnet" \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file="$E2E/pki/service-accounts.key" \
        --service-account-signing-key-file="$E2E/pki/service-accounts.key" \
        --kubelet-preferred-address-types=InternalIP --allow-privileged=true \
        --audit-policy-file="$E2E/audit.yaml" --audit-log-path="$E2E/logs/audit.log"
}

run_controllers() {
    exec kube-controller-manager --kubeconfig="$E2E/run/controllers.kubeconfig" \
        --leader-elect=false --bind-address=127.0.0.1 --authentication-skip-lookup \
        --use-service-account-credentials \
        --service-account-private-key-file="$E2E/pki/service-accounts.key" \
        --root-ca-file="$E2E/pki/apiserver.crt" \
        --node-monitor-period=1s --node-monitor-grace-period=12s --node-eviction-rate=10 \
        --unhealthy-zone-threshold=1
}

run_scheduler() {
    exec kube-scheduler --kubeconfig="$E2E/run/scheduler.kubeconfig" \
        --leader-elect=false --bind-address=127.0.0.1 --authentication-skip-lookup
}

# Coracle's controller as a program, with no right but those of its account.
# A test may have left arguments for it.
run_controller() {
    local arguments=()
    [[ ! -e $E2E/run/controller.arguments ]] || read -ra arguments <"$E2E/run/controller.arguments" || true
    export POD_NAMESPACE=coracle-system KUBECONFIG=$E2E/run/coracle.kubeconfig
    exec coracle-controller --listen 127.0.0.1:8080 "${arguments[@]}"
}

# The users of the cluster, each with a password of its own.
write_tokens() {
    local line node
    while read -r line; do
        printf '%s,%s\n' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" "$line"
    done >"$E2E/tokens" < <(
        cat <<'USERS'
admin,admin,system:masters
system:kube-controller-manager,controllers
system:kube-scheduler,scheduler
system:kube-proxy,proxy
system:serviceaccount:coracle-system:coracle-controller,coracle
system:serviceaccount:csi-loop:csi-controller,csi
USERS
        # More than there are tests with a node of their own.
        for node in node{1..9}; do echo "system:node:$node,$node,system:nodes"; done
    )
    chmod 0600 "$E2E/tokens"
    kubeconfig admin "$E2E/kubeconfig"
    kubeconfig system:kube-controller-manager "$E2E/run/controllers.kubeconfig"
    kubeconfig system:kube-scheduler "$E2E/run/scheduler.kubeconfig"
    kubeconfig system:kube-proxy "$E2E/run/proxy.kubeconfig"
    kubeconfig system:serviceaccount:coracle-system:coracle-controller "$E2E/run/coracle.kubeconfig"
    kubeconfig system:serviceaccount:csi-loop:csi-controller "$E2E/run/csi.kubeconfig"
    for node in node{1..9}; do kubeconfig "system:node:$node" "$E2E/run/$node.kubeconfig"; done
}

ready_apiserver() {
    kubectl --kubeconfig "$E2E/kubeconfig" get --raw /readyz
}

control_plane_up() {
    openssl genrsa -out "$E2E/pki/service-accounts.key" 2048 2>/dev/null
    write_tokens
    write_audit_policy
    start etcd
    start apiserver
    wait_for "the API server is ready" 60 ready_apiserver
    start controllers
    start scheduler
    start proxy node1
}
