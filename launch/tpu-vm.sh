#!/usr/bin/env bash
# Trains on a TPU slice of the Cloud TPU API: creates it, installs danet on all hosts, trains, and
# deletes it, whatever became of the training. Google only maintains this API: take GKE
# (gke-jobset.yaml) or instance-group.sh where you can. Versions after v6e are not offered by it.
#
#   NAME=danet ZONE=us-west4-b TYPE=v5litepod-16 RUNTIME=v2-alpha-tpuv5-lite \
#   NFS=10.0.0.2:/runs WHEEL=danet_jax-0.2.0-py3-none-any.whl PRICE=1.20 \
#     launch/tpu-vm.sh --config=cityscapes --workdir=/mnt/danet/cityscapes
#
# Arguments are those of danet train; the workdir is below /mnt/danet. In the environment:
#
#   NAME      of the slice, which doesn't exist yet
#   ZONE      where it is
#   TYPE      its version and size; v5litepod-16 is 16 chips of v5e
#   RUNTIME   the hosts' software: v2-alpha-tpuv5-lite, v2-alpha-tpuv5 (v5p) or v2-alpha-tpuv6e
#   NFS       SERVER:/FOLDER that all hosts mount at /mnt/danet, such as a Filestore's
#   WHEEL     danet's wheel, of `pip wheel --no-deps .`
#   PROJECT   of Google Cloud (default: gcloud's own)
#   SPOT      yes: cheaper, and may be taken away at any time
#   PRICE     of a chip-hour, from https://cloud.google.com/tpu/pricing, to say what it costs
#   KEEP      yes: the slice stays, and costs, until you delete it
#   RESTARTS, GRACE, SAVING  as in ssh.sh
#
# Ctrl-C saves and stops all, and deletes the slice; a second one doesn't wait for the checkpoint.
# The status is that of the training, as in ssh.sh.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

answer_help "$@"
needs NAME "the name of the slice"
needs ZONE "the zone of the slice, such as us-west4-b"
needs TYPE "the version and size of the slice, such as v5litepod-16"
needs RUNTIME "the hosts' software, such as v2-alpha-tpuv5-lite"
needs NFS "SERVER:/FOLDER, which all hosts mount at /mnt/danet"
needs WHEEL "danet's wheel, of \`pip wheel --no-deps .\`"
needs_command gcloud "https://cloud.google.com/sdk/docs/install"
needs_training_arguments "$@"
constraints=$(dirname "${BASH_SOURCE[0]}")/../constraints.txt
RESTARTS=${RESTARTS:-10}
for name in RESTARTS GRACE SAVING; do needs_number "$name"; done
[[ $TYPE =~ ^(v[0-9]+[a-z]*)-([0-9]+)$ ]] || die "TYPE is $TYPE: give VERSION-SIZE, as v5litepod-16."
# The sizes of v5e and v6e count chips, those of older versions and v5p TensorCores, two a chip.
chips=${BASH_REMATCH[2]}
case ${BASH_REMATCH[1]} in v2 | v3 | v4 | v5p) chips=$((chips / 2)) ;; esac
for file in "$WHEEL" "$constraints"; do [[ -f $file ]] || die "There is no file $file."; done
arguments=("$@")
where=("--zone=$ZONE")
[[ -z ${PROJECT:-} ]] || where+=("--project=$PROJECT")
created=""

tpu() { gcloud compute tpus tpu-vm "$1" "${@:2}" "${where[@]}"; }
# All hosts are one to run_on_all: gcloud starts the command on each, and returns the first status
# that isn't 0.
# shellcheck disable=SC2153 # NAME is the environment's.
on_host() { tpu ssh "$NAME" --worker=all "--command=$2"; }
training_arguments() {
  # A command of ssh starts in the home folder. The metadata server says where the others are.
  training=(danet/bin/danet train "${arguments[@]}" --config.mesh.distributed=True)
}

# shellcheck disable=SC2329 # The trap calls it.
finish() {
  local status=$?
  trap '' HUP INT TERM
  trap - EXIT
  [[ -n $created ]] || exit "$status"
  local delete=(gcloud compute tpus tpu-vm delete "$NAME" "${where[@]}" --quiet)
  if [[ ${KEEP:-} == yes ]]; then
    say "The slice stays ($(price_of "$chips")) until you delete it:"
    say "  $(quoted "${delete[@]}")"
  elif "${delete[@]}"; then
    say "The slice is deleted."
  else
    say "THE SLICE WAS NOT DELETED ($(price_of "$chips")). Delete it yourself:"
    say "  $(quoted "${delete[@]}")"
    ((status != 0)) || status=1
  fi
  exit "$status"
}

taken=$(tpu list "--format=value(name.basename())") || die "gcloud could not list the slices of $ZONE."
# Only what this script has made is deleted by it.
if grep -Fxq -e "$NAME" <<<"$taken"; then
  die "There is a slice $NAME in $ZONE already: give another NAME."
fi
say "$(price_of "$chips"). It is deleted when this script ends; where the machine that runs this"
say "script is switched off, nobody deletes it."

created=yes
trap finish EXIT
flags=("--accelerator-type=$TYPE" "--version=$RUNTIME")
[[ ${SPOT:-} != yes ]] || flags+=(--spot)
tpu create "$NAME" "${flags[@]}"
[[ -z $stop ]] || exit $((128 + stop))
tpu scp "$WHEEL" "$constraints" "$NAME:" --worker=all
[[ -z $stop ]] || exit $((128 + stop))
on_host all "$(prepare_command "$NFS" "$(basename "$WHEEL")" /mnt/danet)"
[[ -z $stop ]] || exit $((128 + stop))
status=0
train_on_all "$NAME" 1 "$RESTARTS" || status=$?
exit "$status"
