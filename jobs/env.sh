#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jobs/env.sh: what the batch scripts of this folder share; they source it. Everything is set through the environment that sbatch is
# called with (or `sbatch --export=ALL,NAME=VALUE`); docs/slurm.md has the list:
#
#   ENV_FILE         a file to source first: the place for `module load` and for what follows
#   SPILLWAY         the program (beside this folder: build/spillway, or where it was installed; else on PATH)
#   LAUNCHER         srun (default) or mpirun
#   MPI_TYPE         of srun --mpi (pmix)
#   SRUN_ARGS, MPIRUN_ARGS    more arguments, separated by blanks
#   NVME_DIR         a folder on each node's own drive; made if it is not there. Empty: the site's SLURM_TMPDIR, if it has one
set -euo pipefail

say() { printf '%s: %s\n' "${SLURM_JOB_NAME:-spillway}" "$*" >&2; }

if [[ -n ${ENV_FILE:-} ]]; then
  # shellcheck source=/dev/null
  source "$ENV_FILE"
fi

env_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ -z ${SPILLWAY:-} ]]; then
  SPILLWAY=spillway
  for place in "$env_folder/../build/spillway" "$env_folder/../../../bin/spillway"; do
    if [[ -x $place ]]; then
      SPILLWAY=$(realpath "$place")
      break
    fi
  done
fi
if ! command -v "$SPILLWAY" >/dev/null; then
  say "no program $SPILLWAY: build it, or set SPILLWAY to its path"
  exit 2
fi

# Every rank gets the cores that sbatch asked for; srun has not taken this number over by itself since Slurm 22.05.
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then
  export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}
fi

# on_every_node COMMAND...: once on each node of the job.
on_every_node() {
  srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --overlap --mpi=none "$@"
}

# The program puts its files into SLURM_TMPDIR, in folders whose names begin with spillway-JOB-, and removes them. What a killed one
# leaves there, remove_scratch takes away, and the next run on that node too.
if [[ -n ${NVME_DIR:-} ]]; then
  export SLURM_TMPDIR=$NVME_DIR
  on_every_node mkdir -p "$NVME_DIR"
fi
remove_scratch() {
  [[ -n ${SLURM_TMPDIR:-} ]] || return 0
  local job_folders="$SLURM_TMPDIR/spillway-$SLURM_JOB_ID" # the rest of the name differs from node to node
  # shellcheck disable=SC2016
  on_every_node bash -c 'rm -rf "$0"-*' "$job_folders" && return
  # Slurm starts nothing any more in a job that it has ended.
  rm -rf "$job_folders"-*
  say "if a rank was killed on another node, its files are left in $SLURM_TMPDIR there until the next run"
}

# start_ranks COMMAND...: as many as sbatch was asked for, in the background; $! is the launcher, which passes SIGUSR1 on.
start_ranks() {
  local more=()
  case ${LAUNCHER:-srun} in
    srun)
      read -ra more <<<"${SRUN_ARGS:-}" || true
      # A rank that fails ends the others, which would wait for it.
      srun --mpi="${MPI_TYPE:-pmix}" --kill-on-bad-exit=1 "${more[@]}" "$@" &
      ;;
    mpirun)
      read -ra more <<<"${MPIRUN_ARGS:---bind-to none}" || true
      mpirun "${more[@]}" "$@" &
      ;;
    *)
      say "LAUNCHER=$LAUNCHER: srun or mpirun"
      exit 2
      ;;
  esac
}

# wait_for_ranks PID: returns its exit code, however many signals arrive meanwhile. Their handlers set `interrupted`.
wait_for_ranks() {
  local code
  while :; do
    interrupted=
    code=0
    wait "$1" || code=$?
    [[ -n $interrupted ]] || return "$code"
  done
}
