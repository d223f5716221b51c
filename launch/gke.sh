#!/usr/bin/env bash
# Fills gke-jobset.yaml for a slice, an image and a training, and creates it with kubectl.
#
#   NAME=danet IMAGE=us-docker.pkg.dev/my-project/images/danet:tpu CLAIM=runs TOPOLOGY=4x4 \
#     launch/gke.sh --config=cityscapes --workdir=/shared/cityscapes
#
# Arguments are those of danet train; the workdir is below /shared, where CLAIM is mounted. In the
# environment:
#
#   NAME         of the JobSet
#   IMAGE        danet's image, built with --build-arg EXTRA=tpu
#   CLAIM        a PersistentVolumeClaim that all pods can write to (ReadWriteMany)
#   TOPOLOGY     the chips of the slice (default: 16x16)
#   ACCELERATOR  of the node pool (default: tpu-v5-lite-podslice)
#   PRINT        yes: prints the JobSet, and creates nothing
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

answer_help "$@"
needs NAME "the name of the JobSet"
needs IMAGE "danet's image, built with --build-arg EXTRA=tpu"
needs CLAIM "a PersistentVolumeClaim that all pods can write to"
needs_training_arguments "$@"
TOPOLOGY=${TOPOLOGY:-16x16}
ACCELERATOR=${ACCELERATOR:-tpu-v5-lite-podslice}
# The names of pods and hosts are NAME-slice-0-63, of at most 63 characters.
[[ $NAME =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] || die "NAME is $NAME: give at most 40 of a-z, 0-9, -."
[[ $CLAIM =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || die "CLAIM is $CLAIM: it is no claim's name."
[[ $ACCELERATOR =~ ^[a-z0-9-]+$ ]] || die "ACCELERATOR is $ACCELERATOR: it is no label's value."
[[ $IMAGE =~ ^[A-Za-z0-9][A-Za-z0-9._:/@-]*$ ]] || die "IMAGE is $IMAGE: it is no image's name."
[[ $TOPOLOGY =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] || die "TOPOLOGY is $TOPOLOGY: give 16x16 or 2x2x4."
chips=$((${TOPOLOGY//x/*}))
((chips % 4 == 0)) || die "TOPOLOGY is $TOPOLOGY: its $chips chips are no multiple of the 4 of a pod."

# Prints an argument as JSON, which is YAML, too. Kubernetes reads $$ as $, and $(NAME) as a variable.
json() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//\$/\$\$}
  printf '"%s"' "$text"
}

arguments='"train"'
for argument in "$@" --config.mesh.distributed=True; do
  arguments+=", $(json "$argument")"
done

# A line that ends in one of these comments has a value to be filled in.
declare -A values=(
  [NAME]=$NAME [IMAGE]=$IMAGE [CLAIM]=$CLAIM [TOPOLOGY]=$TOPOLOGY [ACCELERATOR]=$ACCELERATOR
  [PODS]=$((chips / 4)) [ARGUMENTS]="[$arguments]"
)
manifest=""
while IFS= read -r line; do
  if [[ $line =~ ^(.*:\ )[^\#]*\ \ \#\ ([A-Z]+)$ ]]; then
    line="${BASH_REMATCH[1]}${values[${BASH_REMATCH[2]}]}"
  fi
  manifest+=$line$'\n'
done <"$(dirname "${BASH_SOURCE[0]}")/gke-jobset.yaml"

if [[ ${PRINT:-} == yes ]]; then
  printf '%s' "$manifest"
  exit
fi
needs_command kubectl "https://kubernetes.io/docs/tasks/tools"
# A JobSet that is there already isn't changed by `create`.
kubectl create --filename=- <<<"$manifest"
say "Follow it:  kubectl logs --follow job/$NAME-slice-0"
say "Stop it, after a checkpoint:  kubectl delete jobset $NAME"
say "The node pool ($(price_of "$chips")) costs until it is scaled down or deleted."
