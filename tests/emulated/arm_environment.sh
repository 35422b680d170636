#!/usr/bin/env bash
# Python and this project's dependencies for aarch64, to run under qemu's user-mode emulation on another processor.
#   tests/emulated/arm_environment.sh FOLDER
# Requires Debian's or Ubuntu's apt-get with Python 3.11, and qemu-user-static. Nothing is installed on this machine.
set -euo pipefail
mkdir -p "$1"
folder=$(cd "$1" && pwd)
root=$folder/root
mkdir -p "$folder"/apt/{lists,cache/archives}/partial "$folder/debs" "$root/proc"

apt=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
	-o "Dir::State::Lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache" -o Dir::State::Status=/dev/null)
apt-get "${apt[@]}" update
(cd "$folder/debs" && apt-get "${apt[@]}" download {,lib}python3.11-minimal libpython3.11-stdlib libc6 libexpat1 zlib1g \
	libssl3 libffi8 libstdc++6 libgcc-s1 libbz2-1.0 liblzma5 libcrypt1 libuuid1 libsqlite3-0)
for package in "$folder"/debs/*.deb; do dpkg-deb --extract "$package" "$root"; done

# ONNX Runtime reads the processor's features here, and qemu shows it this file: two Neoverse N1 cores.
for core in 0 1; do
	printf '%s\t: %s\n' processor $core Features "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid \
asimdrdm lrcpc dcpop asimddp" 'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x3 'CPU part' 0xd0c \
		'CPU revision' 1
	echo
done > "$root/proc/cpuinfo"

platforms=(--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_26_aarch64
	--platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64)
python3 -m pip install --quiet --only-binary=:all: "${platforms[@]}" --python-version 3.11 --implementation cp --upgrade \
	--target "$folder/site" 'onnxruntime>=1.30' numpy tokenizers onnx safetensors ml_dtypes scipy huggingface_hub \
	filelock pytest pytest-timeout hypothesis
