#!/usr/bin/env bash
# install.sh: the command line, optimized, in $PREFIX/bin (/usr/local/bin), and
# beside it the kubectl plugin, which is the same program by another name. The
# device plugin is there too: `coracle run` looks for it beside itself.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

bin=${PREFIX:-/usr/local}/bin
timed "Building the command line, optimized" \
    cargo build --locked --release -p coracle -p coracle-device-plugin
install -D -m 0755 -t "$bin" "${CARGO_TARGET_DIR:-target}"/release/{coracle,coracle-device-plugin}
ln -sfn coracle "$bin/kubectl-coracle"
say "Installed in $bin: coracle, coracle-device-plugin, kubectl-coracle"
