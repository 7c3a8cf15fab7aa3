#!/bin/sh
# Assembles the boot-sector guests of this directory into OUTDIR, each as a
# disk image of 1 MiB, and prints the images' paths. Needs binutils.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
sources=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT

for source in "$sources"/*.S; do
    name=$(basename "$source" .S)
    as --32 -I "$sources" -o "$work/$name.o" "$source"
    ld -m elf_i386 -Ttext 0x7c00 -e _start --oformat binary -o "$work/$name.img" "$work/$name.o"
    chmod 0644 "$work/$name.img"
    truncate -s 1M "$work/$name.img"
    # Moved in place at once: several builds may share the directory.
    mv "$work/$name.img" "$out/$name.img"
    echo "$out/$name.img"
done
