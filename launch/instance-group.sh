#!/usr/bin/env bash
# Trains on a TPU slice of Compute Engine, which is a managed instance group: creates it, installs
# danet on all hosts, trains, and deletes it, whatever became of the training. Google offers it for
# v5p, v6e and TPU7x; v5e is on GKE (gke-jobset.yaml).
#
#   NAME=danet ZONE=us-east5-b MACHINE=ct6e-standard-4t TOPOLOGY=4x4 \
#   IMAGE_FAMILY=ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e NFS=10.0.0.2:/runs \
#   WHEEL=danet_jax-0.2.0-py3-none-any.whl PROJECT=my-project \
#     launch/instance-group.sh --config=cityscapes --workdir=/mnt/danet/cityscapes
#
# Arguments are those of danet train; the workdir is below /mnt/danet. In the environment:
#
#   NAME          of the group, its template and its policy, which don't exist yet
#   PROJECT       of Google Cloud
#   ZONE          where the slice is
#   MACHINE       with 4 chips: ct5p-hightpu-4t (v5p), ct6e-standard-4t (v6e), tpu7x-standard-4t
#   TOPOLOGY      the chips of the slice, such as 4x4 (v6e) or 2x2x4 (v5p): more than one host's
#   IMAGE_FAMILY  of ubuntu-os-accelerator-images, which fits the version
#   NFS           SERVER:/FOLDER that all hosts mount at /mnt/danet, such as a Filestore's
#   WHEEL         danet's wheel, of `pip wheel --no-deps .`
#   SPOT          yes: cheaper, and may be taken away at any time
#   PRICE         of a chip-hour, from https://cloud.google.com/tpu/pricing, to say what it costs
#   KEEP          yes: the slice stays, and costs, until you delete it
#   WAIT          seconds for the slice to be there (default: 3600)
#   RESTARTS, GRACE, SAVING  as in ssh.sh
#
# Ctrl-C saves and stops all, and deletes the slice; a second one doesn't wait for the checkpoint.
# The status is that of the training, as in ssh.sh.
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

answer_help "$@"
needs NAME "the name of the group"
needs PROJECT "the project of Google Cloud"
needs ZONE "the zone of the slice, such as us-east5-b"
needs MACHINE "the hosts' machine type, such as ct6e-standard-4t"
needs TOPOLOGY "the chips of the slice, such as 4x4"
needs IMAGE_FAMILY "the hosts' images, such as ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"
needs NFS "SERVER:/FOLDER, which all hosts mount at /mnt/danet"
needs WHEEL "danet's wheel, of \`pip wheel --no-deps .\`"
needs_command gcloud "https://cloud.google.com/sdk/docs/install"
needs_training_arguments "$@"
constraints=$(dirname "${BASH_SOURCE[0]}")/../constraints.txt
RESTARTS=${RESTARTS:-10} WAIT=${WAIT:-3600}
for name in RESTARTS GRACE SAVING WAIT; do needs_number "$name"; done
for file in "$WHEEL" "$constraints"; do [[ -f $file ]] || die "There is no file $file."; done
# shellcheck disable=SC2153 # The names in capitals are the environment's.
[[ $ZONE =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]+$ ]] || die "ZONE is $ZONE: give a zone, such as us-east5-b."
[[ $MACHINE =~ -4t$ ]] || die "MACHINE is $MACHINE: a slice of several hosts has 4 chips on each."
[[ $TOPOLOGY =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] || die "TOPOLOGY is $TOPOLOGY: give 4x4 or 2x2x4."
chips=$((${TOPOLOGY//x/*}))
((chips > 4 && chips % 4 == 0)) || die "TOPOLOGY is $TOPOLOGY: one host alone needs no group."
size=$((chips / 4))
region=${ZONE%-*}
arguments=("$@")
# shellcheck disable=SC2153
project=("--project=$PROJECT")
zone=("${project[@]}" "--zone=$ZONE")
# What was asked for, as commands that delete it, the last first.
made=()

group() { gcloud compute instance-groups managed "$1" "${@:2}" "${zone[@]}"; }
on_host() { gcloud compute ssh "${hosts[$1]}" "${zone[@]}" --quiet "--command=$2"; }
copy_to_host() { gcloud compute scp "$WHEEL" "$constraints" "${hosts[$1]}:" "${zone[@]}" --quiet; }
prepare_host() { copy_to_host "$1" && on_host "$1" "$prepare" </dev/null; }
training_arguments() {
  # A command of ssh starts in the home folder. The metadata server says where the others are.
  training=(danet/bin/danet train "${arguments[@]}" --config.mesh.distributed=True)
}

# shellcheck disable=SC2153,SC2329 # finish calls it.
delete_command() {
  case $1 in
    group) delete=(gcloud compute instance-groups managed delete "$NAME" "${zone[@]}" --quiet) ;;
    template) delete=(gcloud compute instance-templates delete "$NAME" "${project[@]}" --quiet) ;;
    policy) delete=(gcloud compute resource-policies delete "$NAME" "${project[@]}"
      "--region=$region" --quiet) ;;
  esac
}

# shellcheck disable=SC2329 # The trap calls it.
finish() {
  local status=$? part left=()
  trap '' HUP INT TERM
  trap - EXIT
  [[ ${KEEP:-} != yes ]] || left=("${made[@]}")
  if [[ ${KEEP:-} != yes ]]; then
    for part in "${made[@]}"; do
      delete_command "$part"
      "${delete[@]}" || left+=("$part")
    done
  fi
  if ((${#left[@]} == 0)); then
    say "The slice is deleted."
  else
    if [[ ${KEEP:-} == yes ]]; then
      say "The slice stays ($(price_of "$chips")) until you delete it:"
    else
      say "NOT ALL WAS DELETED (a slice of $(price_of "$chips")). Delete it yourself:"
      ((status != 0)) || status=1
    fi
    for part in "${left[@]}"; do
      delete_command "$part"
      say "  $(quoted "${delete[@]}")"
    done
  fi
  exit "$status"
}

# Only what this script has made is deleted by it.
refuse_taken() {
  ! grep -Fxq -e "$NAME" <<<"$2" || die "There is a $1 $NAME already: give another NAME."
}
taken=$(group list "--format=value(name)") || die "gcloud could not list the groups of $ZONE."
refuse_taken group "$taken"
taken=$(gcloud compute instance-templates list "${project[@]}" "--format=value(name)") ||
  die "gcloud could not list the instance templates of $PROJECT."
refuse_taken template "$taken"
taken=$(gcloud compute resource-policies list "${project[@]}" "--format=value(name)") ||
  die "gcloud could not list the resource policies of $PROJECT."
refuse_taken policy "$taken"
say "$(price_of "$chips"). It is deleted when this script ends; where the machine that runs this"
say "script is switched off, nobody deletes it."

trap finish EXIT
end_if_stopped() { [[ -z $stop ]] || exit $((128 + stop)); }
made=(policy)
gcloud compute resource-policies create workload-policy "$NAME" "${project[@]}" \
  "--region=$region" --type=HIGH_THROUGHPUT "--accelerator-topology=$TOPOLOGY"
end_if_stopped
flags=("--machine-type=$MACHINE" --maintenance-policy=TERMINATE "--image-family=$IMAGE_FAMILY"
  --image-project=ubuntu-os-accelerator-images --boot-disk-size=100GB)
[[ ${SPOT:-} != yes ]] || flags+=(--provisioning-model=SPOT --instance-termination-action=STOP)
made=(template "${made[@]}")
gcloud compute instance-templates create "$NAME" "${project[@]}" "${flags[@]}"
end_if_stopped
made=(group "${made[@]}")
# A host that is repaired would come back without danet; the training ends with status 75 instead.
group create "$NAME" "--size=$size" "--template=$NAME" --default-action-on-vm-failure=do-nothing \
  "--workload-policy=projects/$PROJECT/regions/$region/resourcePolicies/$NAME"
end_if_stopped
group wait-until "$NAME" --stable "--timeout=$WAIT"
end_if_stopped
listed=$(group list-instances "$NAME" "--format=value(name)")
mapfile -t hosts <<<"$listed"
((${#hosts[@]} == size)) || die "The group has ${#hosts[@]} hosts in place of $size."

prepare=$(prepare_command "$NFS" "$(basename "$WHEEL")" /mnt/danet)
# The first alone, as gcloud may have to make a key for ssh.
prepare_host 0
preparing=()
for ((index = 1; index < size; index++)); do
  prepare_host "$index" &
  preparing+=($!)
done
for process in "${preparing[@]}"; do wait "$process"; done
end_if_stopped

status=0
train_on_all "$NAME" "$size" "$RESTARTS" || status=$?
exit "$status"
