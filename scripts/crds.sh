#!/usr/bin/env bash
# crds.sh write|check: generates the custom resource definition from the API
# types, or fails when the one in deploy/crds is not the generated one.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

crd=deploy/crds/virtualmachines.coracle.dev.yaml
fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
cargo run --quiet -p coracle-api --features kube --bin coracle-crd >"$fresh"
case ${1:-} in
    write) install -m 0644 "$fresh" "$crd" ;;
    check) diff -u "$crd" "$fresh" || die "$crd is not what the API types say: run make crds" ;;
    *) die "usage: $0 write|check" ;;
esac
