#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jobs/install-packages.sh [build] [quickstart] [tests] [lint]: installs what is missing of these groups (default: build)
# through apt, on Debian 12 and Ubuntu 24.04. Needs root, or sudo, only if something is missing.
set -euo pipefail

build=(ca-certificates cmake ninja-build g++ ccache pkg-config libopenmpi-dev openmpi-bin libhdf5-dev liburing-dev
  libtoml11-dev libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libsentencepiece-dev libopenblas-pthread-dev
  libxxhash-dev libhwloc-dev)
quickstart=(sentencepiece gettext python3)
tests=(libgtest-dev libgmock-dev libbenchmark-dev hdf5-tools python3 python3-h5py gettext shellcheck slurmctld slurmd
  slurm-client slurm-wlm-basic-plugins munge iproute2)
lint=(clang-format-14 clang-tidy-16 shellcheck)

wanted=()
for group in "${@:-build}"; do
  case $group in
    build) wanted+=("${build[@]}") ;;
    quickstart) wanted+=("${quickstart[@]}") ;;
    tests) wanted+=("${tests[@]}") ;;
    lint) wanted+=("${lint[@]}") ;;
    *)
      echo "install-packages.sh: unknown group '$group' (build, quickstart, tests, lint)" >&2
      exit 2
      ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "install-packages.sh: this is no Debian or Ubuntu; install by hand what stands for: ${wanted[*]}" >&2
  exit 1
fi
missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed || " ${missing[*]} " == *" $package "* ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "install-packages.sh: ask somebody with root for: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
"${as_root[@]}" apt-get update -q >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
