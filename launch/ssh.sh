#!/usr/bin/env bash
# Trains on hosts that ssh reaches without a password: ends all processes when one has ended, and
# starts all again where one was lost.
#
#   HOSTS="gpu1 gpu2" launch/ssh.sh --config=cityscapes --workdir=/shared/runs/cityscapes
#
# Arguments are those of danet train; the workdir is a folder that all hosts see. In the environment:
#
#   HOSTS        the hosts, separated by spaces, each as ssh takes it; the first is process 0
#   DANET        the command danet on the hosts (default: danet), such as /opt/danet/bin/danet
#   COORDINATOR  the name or address of the first host for the others (default: its name for ssh)
#   PORT         a free port of the first host (default: 8482)
#   RUN          a name that no other run on these hosts has at the same time (default: danet)
#   RESTARTS     how often all are started again after a process was lost (default: 10)
#   GRACE        seconds for the others to end by themselves after one has ended (default: 120)
#   SAVING       seconds for a checkpoint after a signal (default: 600)
#
# Ctrl-C saves and stops all. The status is 0 after the training, 2 for a mistake in config or data,
# 75 where processes were lost too often, and 128 and a signal's number where one stopped it.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

answer_help "$@"
needs HOSTS "the hosts, separated by spaces"
needs_command ssh "install OpenSSH"
needs_training_arguments "$@"
# shellcheck disable=SC2153 # HOSTS is the environment's.
read -r -a hosts <<<"$HOSTS"
RUN=${RUN:-danet}
RESTARTS=${RESTARTS:-10}
PORT=${PORT:-8482}
for name in RESTARTS PORT GRACE SAVING; do needs_number "$name"; done
[[ $RUN =~ ^[A-Za-z0-9._-]+$ ]] || die "RUN is $RUN: it is part of a file's name."
[[ $(printf '%s\n' "${hosts[@]}" | sort | uniq -d) == "" ]] || die "HOSTS names a host twice."
coordinator=${COORDINATOR:-${hosts[0]#*@}}
arguments=("$@")

# The keep-alives end a connection whose host is gone, after two minutes.
on_host() {
  ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=30 -o ServerAliveCountMax=4 \
    -- "${hosts[$1]}" "$2"
}

training_arguments() {
  training=(env "JAX_COORDINATOR_ADDRESS=$coordinator:$PORT" "JAX_NUM_PROCESSES=${#hosts[@]}"
    "JAX_PROCESS_ID=$1" "${DANET:-danet}" train "${arguments[@]}" --config.mesh.distributed=True)
}

status=0
train_on_all "$RUN" "${#hosts[@]}" "$RESTARTS" || status=$?
exit "$status"
