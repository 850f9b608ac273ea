#!/usr/bin/env bash
# End what start.sh FOLDER began, by process id: jobs first.
set -uo pipefail
folder=$1
export SLURM_CONF="$folder/slurm.conf"
squeue --noheader --format %A 2>/dev/null | xargs -r scancel 2>/dev/null
for name in slurmd slurmctld munged; do
  if [ -f "$folder/$name.pid" ]; then
    pid=$(cat "$folder/$name.pid")
    kill "$pid" 2>/dev/null
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  fi
done
exit 0
