#!/bin/bash
# Made by: hpcsgd submit jobs/demo_local_sgd.yaml --site tuolumne --nodes 2 --account guests
# Site tuolumne: LLNL Tuolumne, MI300A nodes.
# Paths are relative to the directory that it is sent from. Options of flux batch's own command line win over the lines below.
#flux: --job-name=demo_local_sgd
#flux: --bank=guests
#flux: --queue=pbatch
#flux: --nodes=2
#flux: --exclusive
#flux: --time-limit=3600s
#flux: --output={{name}}-{{id}}.out
#flux: --setopt=output.mode=append

set -eo pipefail
module load rocm
# Not before: modules and environments are seldom written for it.
set -u

export OMP_NUM_THREADS=16
export HDF5_USE_FILE_LOCKING=FALSE
export MPICH_GPU_SUPPORT_ENABLED=0
export HSA_XNACK=1

# Flux's letter for a job is not in every alphabet.
job="$(flux getattr jobid)"
case "$job" in ƒ*) job="f${job#ƒ}" ;; esac
# The log of a run names its job by it; flux run starts a job of its own.
export HPCSGD_JOB="$job"
echo "hpcsgd: job $job, on $(flux getattr hostlist), $(date -u +%Y-%m-%dT%H:%M:%SZ)"
run_dir="runs/demo_local_sgd-$job"

command=(
    hpcsgd train jobs/demo_local_sgd.yaml
    --run_dir "$run_dir" --resume auto
)
launch=(flux run --nodes=2 --ntasks=8 --setopt=exit-timeout=60s --signal=USR1@120s --exclusive --setopt=mpibind=on)

# USR1 asks the ranks to save and to end with code 75.
# Flux sends it to flux run's ranks; what this shell gets, it passes on, which flux run heeds since April 2025.
launcher=
signalled=0
trap 'signalled=1; [ -z "$launcher" ] || kill -USR1 "$launcher" 2>/dev/null || true' USR1
"${launch[@]}" "${command[@]}" &
launcher=$!
while :; do
    signalled=0
    code=0
    # A signal ends `wait` before the launcher has ended.
    wait "$launcher" || code=$?
    if [ "$signalled" -eq 0 ]; then
        break
    fi
done

stopped=0
if [ "$code" -eq 75 ]; then
    stopped=1
elif [ "$code" -eq 0 ] || [ "$code" -gt 128 ]; then
    # These codes may hide how the run ended: where one rank ends a moment before the others, the launcher
    # ends these, and its code tells only that.
    state="$(hpcsgd status --word "$run_dir" || true)"
    if [ "$state" = preempted ]; then
        stopped=1
        code=75
    elif [ "$code" -eq 0 ] && [ -n "$state" ] && [ "$state" != completed ]; then
        echo "hpcsgd: the launcher ended with code 0, but the log of $run_dir says: $state" >&2
        code=1
    fi
fi
if [ "$stopped" -eq 1 ]; then
    echo "hpcsgd: job $job was stopped and saved; Flux puts no job back: hpcsgd resubmit --failed sends it again, and it goes on" >&2
fi
exit "$code"
