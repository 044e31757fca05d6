#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/run.sh [--preset dev|asan|tsan] [--jobs N] [--only REGEX]: installs what is missing, builds with warnings as errors and
# runs every test that this machine can run. The last line is `P passed, F failed, S skipped`, the lines above it name what
# failed and what was skipped, and why. Exit code 0 only if nothing failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=dev
jobs=$(nproc)
only=.
while [[ $# -gt 0 ]]; do
  case $1 in
    --preset) preset=$2 ;;
    --jobs) jobs=$2 ;;
    --only) only=$2 ;;
    *)
      sed -n '3,5s/^# //p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
  shift 2
done

build=build-$preset
give_up() {
  echo "failed: $1"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

jobs/install-packages.sh build quickstart tests || give_up "install packages"
cmake --preset "$preset" || give_up "configure"
cmake --build --preset "$preset" -j "$jobs" || give_up "build"
if [[ $preset == dev ]]; then
  cmake --build --preset "$preset" -j "$jobs" --target all_verify_interface_header_sets ||
    give_up "a header that does not compile alone"
fi

# g++ 12's thread sanitizer cannot map its shadow where addresses are much randomised.
plain_addresses=()
if [[ $preset == tsan ]] && setarch "$(uname -m)" -R true 2>/dev/null; then
  plain_addresses=(setarch "$(uname -m)" -R)
fi
# Before the run: listing tests writes ctest's log anew.
on_gpu=$(ctest --test-dir "$build" -N -L '^gpu$' | sed -n 's/^Total Tests: //p')
log=$build/Testing/Temporary/LastTest.log
junit=$PWD/$build/junit.xml
rm -f "$log" "$junit"
"${plain_addresses[@]}" ctest --preset "$preset" -j "$jobs" -R "$only" --output-junit "$junit" || true
[[ -f $log && -f $junit ]] || give_up "ctest"

if [[ ${on_gpu:-0} -gt 0 ]]; then
  echo "not run: $on_gpu test programs that need a GPU (ctest --test-dir $build -L gpu runs them)"
fi
python3 tests/count_tests.py "$log" "$junit"
