#!/usr/bin/env bash
# Trains on a GKE cluster that was made by xpk (https://github.com/AI-Hypercomputer/xpk).
#
#   NAME=danet CLUSTER=my-cluster PROJECT=my-project ZONE=us-west4-b TYPE=v5litepod-256 \
#   IMAGE=us-docker.pkg.dev/my-project/images/danet:tpu STORAGE=runs \
#     launch/xpk.sh --config=cityscapes --workdir=/runs/cityscapes
#
# Arguments are those of danet train; the workdir is in the STORAGE that `xpk storage attach` or
# `xpk storage create` gave the cluster, at the folder where it is mounted. The image is built with
# --build-arg EXTRA=tpu. RESTARTS (default: 50) is how often all processes start again.
# The cluster costs until `xpk cluster delete`.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

answer_help "$@"
needs NAME "the name of the workload"
needs CLUSTER "the cluster that xpk made"
needs PROJECT "the project of Google Cloud"
needs ZONE "the cluster's zone"
needs TYPE "the slice, such as v5litepod-256"
needs IMAGE "danet's image, built with --build-arg EXTRA=tpu"
needs STORAGE "the storage of the workdir, as \`xpk storage list\` names it"
needs_command xpk "pip install xpk"
needs_training_arguments "$@"
RESTARTS=${RESTARTS:-50}
needs_number RESTARTS

# xpk starts again for statuses 42 and 127 to 255, and 75 in addition; it runs the command in a
# subshell, to which it passes SIGTERM, so that danet has to take the subshell's place.
exec xpk workload create "--workload=$NAME" "--cluster=$CLUSTER" "--project=$PROJECT" \
  "--zone=$ZONE" "--tpu-type=$TYPE" "--docker-image=$IMAGE" "--storage=$STORAGE" \
  "--max-restarts=$RESTARTS" --restart-on-exit-codes=75 --termination-grace-period-seconds=600 \
  "--command=exec $(quoted danet train "$@" --config.mesh.distributed=True)"
