# shellcheck shell=bash
# Runs a job step. Requeues the job after pre-emption, the time limit or failed shards, and not after a mistake in the request.
#   exit status 0: done; 2: a mistake, a person must correct it; others (1 failed, 143 interrupted): requeue, at most REQUEUES times
REQUEUES=${REQUEUES:-20}

run_or_requeue() {
  local child status=0
  srun "$@" &
  child=$!
  # Pass Slurm's warning to the step, which stops after the current sample. Finished shards are kept.
  trap 'kill -TERM "$child" 2>/dev/null' TERM
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do # the trap ended the first wait
    status=0
    wait "$child" || status=$?
  done
  trap - TERM
  if [[ $status -eq 0 || $status -eq 2 ]]; then
    return "$status"
  fi
  if [[ ${SLURM_RESTART_COUNT:-0} -ge $REQUEUES ]]; then
    echo "exit status $status after $REQUEUES requeues; given up" >&2
    return "$status"
  fi
  echo "exit status $status; requeued" >&2
  scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
}
