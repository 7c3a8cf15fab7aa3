#!/usr/bin/env bash
# build-images.sh [--all] [--importer] [--only IMAGE]…: builds
# the programs that run in pods, and the container images around them:
# images/vm.tar, device-plugin.tar and pause.tar in the cache, with --all
# controller.tar too, with --importer (after it) importer.tar. What did not
# change is not built again.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

# The controller contains the client of the Kubernetes API: it takes minutes to
# build, and one machine alone does without.
packages=(-p coracle-shim -p coracle-device-plugin)
controller=()
importer=()

# Named, so that the flags reach the programs alone: build scripts and
# procedural macros cannot be static.
target=x86_64-unknown-linux-gnu
built=${CARGO_TARGET_DIR:-target}

if [[ ${1:-} == --all ]]; then
    shift
    packages+=(-p coracle-controller)
    controller=(--controller "$built/$target/image/coracle-controller")
fi

if [[ ${1:-} == --importer ]]; then
    shift
    importer=(--importer "$built/$target/image/coracle-block")
fi

# Static programs: images without a C library, and no loader's pages in the
# memory of each VM.
CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
    timed "Building the programs of the images, optimized for size" \
    cargo build --locked --profile image --target "$target" "${packages[@]}"
# By itself: the shim shares the crate, and is not to get its features.
if ((${#importer[@]} > 0)); then
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
        timed "Building the importer, optimized for size" \
        cargo build --locked --profile image --target "$target" \
        -p coracle-block --no-default-features --features import
fi
timed "Building the image tool" cargo build --locked -p coracle-images
say "Putting the images together"
"$built/debug/coracle-images" build "$@" \
    --shim "$built/$target/image/coracle-shim" \
    --device-plugin "$built/$target/image/coracle-device-plugin" \
    "${controller[@]}" "${importer[@]}"
