#!/usr/bin/env bash
# build-images.sh [--all] [--only vm|device-plugin|pause|controller]…: builds
# the programs that run in pods, and the container images around them:
# images/vm.tar, device-plugin.tar and pause.tar in the cache, with --all
# controller.tar too. What did not change is not built again.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

# The controller contains the client of the Kubernetes API: it takes minutes to
# build, and one machine alone does without.
packages=(-p coracle-shim -p coracle-device-plugin)
controller=()

# Named, so that the flags reach the programs alone: build scripts and
# procedural macros cannot be static.
target=x86_64-unknown-linux-gnu
built=${CARGO_TARGET_DIR:-target}

if [[ ${1:-} == --all ]]; then
    shift
    packages+=(-p coracle-controller)
    controller=(--controller "$built/$target/image/coracle-controller")
fi

# Static programs: images without a C library, and no loader's pages in the
# memory of each VM.
CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
    timed "Building the programs of the images, optimized for size" \
    cargo build --locked --profile image --target "$target" "${packages[@]}"
timed "Building the image tool" cargo build --locked -p coracle-images
say "Putting the images together"
"$built/debug/coracle-images" build "$@" \
    --shim "$built/$target/image/coracle-shim" \
    --device-plugin "$built/$target/image/coracle-device-plugin" \
    "${controller[@]}"
