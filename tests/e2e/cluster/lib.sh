# Sourced by the scripts of the test cluster, inside its namespaces: where its
# files are, and how its components are started and stopped.
# shellcheck shell=bash

: "${E2E:?the directory of the cluster; scripts/e2e.sh sets it}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Addresses are constants: the cluster has a network namespace of its own.
api_address=10.89.0.1
api=https://$api_address:6443
service_subnet=10.96.0.0/16
export api_address service_subnet

say() { printf '    %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# wait_for TEXT SECONDS COMMAND…: until the command succeeds.
wait_for() {
    local text=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || die "$text: not in time; the logs are in $E2E/logs"
        sleep 0.05
    done
}

# token USER: a password of the cluster's, made up at its start.
token() { awk -F, -v user="$1" '$2 == user {print $1}' "$E2E/tokens"; }

# kubeconfig USER FILE: how USER reaches the API.
kubeconfig() {
    cat >"$2" <<KUBECONFIG
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "$api", certificate-authority: $E2E/pki/apiserver.crt}}]
users: [{name: user, user: {token: "$(token "$1")"}}]
contexts: [{name: e2e, context: {cluster: e2e, user: user}}]
current-context: e2e
KUBECONFIG
    chmod 0600 "$2"
}

# In the namespaces of a node; what belongs to no node runs in the first's.
in_node() {
    local node=$1
    shift
    if [[ $node == node1 ]]; then
        "$@"
    elif [[ -e $E2E/run/$node.pid ]]; then
        nsenter --target "$(<"$E2E/run/$node.pid")" --mount --net --pid -- "$@"
    else
        die "$node is switched off"
    fi
}

# Whether a program runs on a node; a process id counts in its node alone.
alive() { in_node "$1" test -e "/proc/$2"; }

# start COMPONENT [NODE]: runs the function run_COMPONENT as a daemon.
start() {
    local component=$1 node=${2:-node1} file
    file=$E2E/run/$component-$node
    if [[ -e $file.pid ]] && alive "$node" "$(<"$file.pid")"; then
        return
    fi
    in_node "$node" setsid "$here/component.sh" run "$component" "$node" \
        >>"$E2E/logs/$component-$node.log" 2>&1 </dev/null &
    wait_for "$component starts" 10 test -s "$file.pid"
}

# stop COMPONENT NODE SIGNAL: returns when it is gone.
stop() {
    local file=$E2E/run/$1-$2 pid
    [[ -e $file.pid ]] || return 0
    pid=$(<"$file.pid")
    in_node "$2" kill -s "$3" "$pid" 2>/dev/null || true
    while alive "$2" "$pid"; do sleep 0.02; done
    rm -f "$file.pid"
}
