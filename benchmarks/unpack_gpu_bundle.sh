#!/usr/bin/env bash
# Put a bundle of `make gpu-bundle` together on the GPU machine:  bash unpack.sh [FOLDER]
#
# FOLDER (default: ~/modernrank-gpu) gets parts/, where the parts of several loads are collected, and site/, which
# belongs in PYTHONPATH. Run it in every load: until all parts are there it says which are missing, and exits with 3.
# It needs bash, python3 and the usual tools, and no network.
set -euo pipefail

python_version=@PYTHON@
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$HOME/modernrank-gpu}
[[ $folder = /* ]] || folder=$PWD/$folder
parts=$folder/parts
site=$folder/site
made_from=$site/.made-from

stop() {
    printf 'unpack.sh: %s\n' "$2" >&2
    exit "$1"
}

collect() {
    mkdir -p "$parts"
    [ "$here" -ef "$parts" ] && return
    for file in "$here"/part-* "$here/sha256sums"; do
        if [ -f "$file" ]; then cp -f "$file" "$parts/"; fi
    done
}

check_python() {
    local found
    found=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "$found" = "$python_version" ] ||
        stop 1 "python3 is $found, and this bundle is for $python_version; make one with GPU_PYTHON=$found"
}

check_parts() {
    local missing="" damaged="" sum name
    [ -f "$parts/sha256sums" ] || stop 3 "sha256sums is missing; bring it with the parts"
    while read -r sum name; do
        if [ ! -f "$parts/$name" ]; then
            missing="$missing $name"
        elif [ "$(sha256sum < "$parts/$name")" != "$sum  -" ]; then
            damaged="$damaged $name"
        fi
    done < "$parts/sha256sums"
    [ -z "$damaged" ] || stop 1 "damaged or of another bundle:$damaged; bring them again"
    [ -z "$missing" ] || stop 3 "missing:$missing; bring them to $here and run this again"
}

unpack() {
    if [ -e "$site" ] && [ ! -f "$made_from" ]; then
        stop 1 "$site exists and is not of a bundle; remove it or name another folder"
    fi
    rm -rf "$site.new"
    mkdir "$site.new"
    while read -r _ name; do cat "$parts/$name"; done < "$parts/sha256sums" | python3 -c '
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz") as archive:
    archive.extractall(sys.argv[1], filter="data")
' "$site.new"
    cp "$parts/sha256sums" "$site.new/.made-from"
    rm -rf "$site"
    mv "$site.new" "$site"
}

# onnxruntime.preload_dlls() looks for CUDA and cuDNN in the folder nvidia beside onnxruntime, and nowhere else.
link_nvidia() {
    local nvidia
    nvidia=$(python3 -c '
import importlib.util, pathlib
torch = importlib.util.find_spec("torch")
nvidia = pathlib.Path(torch.origin).parents[1] / "nvidia" if torch and torch.origin else None
print(nvidia if nvidia and nvidia.is_dir() else "")
')
    if [ -n "$nvidia" ]; then
        ln -sfn "$nvidia" "$site/nvidia"
    else
        echo "unpack.sh: torch with its nvidia packages is not installed; put CUDA and cuDNN in LD_LIBRARY_PATH" >&2
    fi
}

check_python
collect
if [ -f "$made_from" ] && [ -f "$parts/sha256sums" ] && cmp -s "$parts/sha256sums" "$made_from"; then
    echo "unpack.sh: $site is up to date" >&2
else
    check_parts
    unpack
fi
link_nvidia
printf 'export PYTHONPATH=%q\n' "$site"
