#!/usr/bin/env bash
# Everything that can be said about the code without running it.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

deny_version=0.20.2
tools=$cache/tools/cargo-deny-$deny_version

say "Format"
cargo fmt --all --check
say "Scripts"
git grep -lzE '^#!.*[/ ](ba)?sh$|^# shellcheck shell=' | xargs -0 shellcheck --external-sources
timed "Lints" cargo clippy --workspace --all-targets -- -D warnings
for features in device claim import; do
    timed "Lints of coracle-block with $features alone" \
        cargo clippy -p coracle-block --no-default-features --features "$features" -- -D warnings
done
RUSTDOCFLAGS="-D warnings" timed "Documentation" cargo doc --workspace --no-deps
say "Generated files"
scripts/crds.sh check
if [[ ! -x $tools/bin/cargo-deny ]]; then
    timed "Building cargo-deny (once)" \
        cargo install --quiet --locked --root "$tools" --version "$deny_version" cargo-deny
fi
say "Licences, sources and banned crates"
"$tools/bin/cargo-deny" --log-level error check bans licenses sources
say "Node programs stay free of the API client"
for program in coracle-shim coracle-device-plugin; do
    if cargo tree -p "$program" -e normal --prefix none | grep -E '^(kube|k8s-openapi|schemars) '; then
        die "$program depends on the crates above"
    fi
done
say "All checks passed"
