# shellcheck shell=bash
# What tpu-vm.sh, instance-group.sh and ssh.sh share: running one command on all hosts, and what
# its exit statuses mean. It is sourced, after `set -euo pipefail`.

if ((BASH_VERSINFO[0] < 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] < 4))); then
  echo "This needs bash 4.4 or newer, and $BASH is ${BASH_VERSION}." >&2
  exit 2
fi

# The statuses of `danet train` that decide what is done next.
readonly MISTAKE=2 OTHERS_LOST=75

# Seconds between two looks at the processes, that a process may take to end by itself after
# another has ended, and that it may take to write a checkpoint after a SIGTERM.
readonly LOOK=${LOOK:-1} GRACE=${GRACE:-120} SAVING=${SAVING:-600}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$*"
  exit "$MISTAKE"
}

# answer_help ARGUMENTS…: shows the comment at the top of the script, and ends, where help is asked.
answer_help() {
  [[ ${1:-} == -h || ${1:-} == --help ]] || return 0
  awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
  exit
}

# needs NAME MEANING: the environment has to name it.
needs() { [[ -n ${!1:-} ]] || die "$1 is not set: $2. $0 --help says more."; }

needs_command() { command -v "$1" >/dev/null || die "There is no command $1 here: $2."; }

needs_training_arguments() {
  local argument config="" workdir=""
  for argument in "$@"; do
    # It would end a line of YAML or of a remote shell.
    [[ $argument != *[[:cntrl:]]* ]] || die "An argument has a control character: ${argument@Q}."
    case $argument in
      --config=?*) config=yes ;;
      --workdir=/*) workdir=yes ;;
    esac
  done
  [[ -n $config && -n $workdir ]] || die "Give the arguments of danet train, among them" \
    "--config=NAME and --workdir=/FOLDER, which all hosts see under this name. $0 --help says more."
}

# needs_number NAME: its value is a number of times or seconds.
needs_number() { [[ ${!1} =~ ^[0-9]+$ ]] || die "$1 is ${!1}: give a whole number."; }

# Prints its arguments as one line for a shell, which gets exactly them again. printf %q would write
# $'…', which only bash reads, and a host's login shell may be another.
quoted() {
  local argument line="" quote="'" escaped="'\\''"
  for argument in "$@"; do
    line+=" '${argument//$quote/$escaped}'"
  done
  printf '%s' "${line:1}"
}

# start_command RUN ARGUMENTS…: the command that starts a training on a host. It leaves the number
# of its process in a file, and a process of the same run that is still there is stopped first: it
# belongs to a connection that was lost.
start_command() {
  # shellcheck disable=SC2016 # The host's shell expands it.
  local script='
    file=$HOME/.danet-$1.pid; saving=$2; shift 2
    old=$(cat "$file" 2>/dev/null) || old=
    if [ -n "$old" ] && grep -q danet "/proc/$old/cmdline" 2>/dev/null; then
      echo "Process $old of an earlier start is still here, and is stopped." >&2
      kill -TERM "$old" 2>/dev/null
      while kill -0 "$old" 2>/dev/null && [ "$saving" -gt 0 ]; do
        sleep 1; saving=$((saving - 1))
      done
      kill -KILL "$old" 2>/dev/null
    fi
    echo $$ >"$file" && exec "$@"'
  printf 'exec %s' "$(quoted sh -c "$script" danet-start "$1" "$SAVING" "${@:2}")"
}

# stop_command RUN SIGNAL: the command that signals a training on a host.
stop_command() {
  # shellcheck disable=SC2016 # The host's shell expands it.
  printf 'exec %s' "$(quoted sh -c 'kill -s "$2" "$(cat "$HOME/.danet-$1.pid")"' danet-stop "$@")"
}

# all_statuses STATUS…: the one status that says what became of all processes. A mistake counts more
# than that the others then lost a process, and that more than how the lost one ended.
all_statuses() {
  local status worst=0
  for status in "$@"; do
    if ((status == MISTAKE)); then
      worst=$MISTAKE
      break
    elif ((worst == OTHERS_LOST || status == OTHERS_LOST)); then
      worst=$OTHERS_LOST
    elif ((status > worst)); then
      worst=$status
    fi
  done
  printf '%s' "$worst"
}

# signal_hosts RUN SIGNAL: the hosts whose process runs get it; `processes` is run_on_all's.
signal_hosts() {
  local index
  for index in "${!processes[@]}"; do
    # A subshell, so that what a trap says meanwhile isn't redirected.
    (on_host "$index" "$(stop_command "$1" "$2")") </dev/null >/dev/null 2>&1 || true
  done
}

# run_on_all RUN COUNT: starts the training on hosts 0 to COUNT - 1, and returns the status of all.
# The script that sources this has defined
#   on_host INDEX COMMAND          runs a command on a host, and returns its status,
#   training_arguments INDEX       fills the array `training` with the command for a host.
# When one process ends, the others end by themselves, as danet notices it. One that doesn't within
# GRACE seconds is asked to, and after SAVING more it is killed.
run_on_all() {
  local run=$1 count=$2 index status phase="" deadline=0
  local -a statuses=()
  local -A processes=()
  for ((index = 0; index < count; index++)); do
    training_arguments "$index"
    # A process in the background ignores Ctrl-C, which is ours alone: see stop_together.
    on_host "$index" "$(start_command "$run" "${training[@]}")" </dev/null &
    processes[$index]=$!
  done
  while ((${#processes[@]} > 0)); do
    for index in "${!processes[@]}"; do
      kill -0 "${processes[$index]}" 2>/dev/null && continue
      status=0
      wait "${processes[$index]}" || status=$?
      unset "processes[$index]"
      statuses+=("$status")
      ((status == 0)) || say "The process on host $index ended with status $status."
      if [[ -z $phase ]]; then
        phase=ending deadline=$((SECONDS + GRACE))
      fi
    done
    if [[ -n $stop && $phase != stopping && $phase != killing ]]; then
      say "Stopping all processes, which save a checkpoint first; a second signal doesn't wait."
      phase=stopping deadline=$((SECONDS + SAVING))
      signal_hosts "$run" TERM
    elif [[ $phase == ending ]] && ((${#processes[@]} > 0 && SECONDS >= deadline)); then
      say "${#processes[@]} processes did not end within $GRACE seconds after another: stopping them."
      phase=stopping deadline=$((SECONDS + SAVING))
      signal_hosts "$run" TERM
    elif [[ $phase == stopping ]] && ((${#processes[@]} > 0 && SECONDS >= deadline)); then
      say "${#processes[@]} processes did not end within $SAVING seconds: killing them."
      phase=killing deadline=$((SECONDS + GRACE))
      signal_hosts "$run" KILL
    elif [[ $phase == killing ]] && ((${#processes[@]} > 0 && SECONDS >= deadline)); then
      # These connections hang, where the host itself is gone.
      kill -KILL "${processes[@]}" 2>/dev/null || true
    fi
    ((${#processes[@]} == 0)) || sleep "$LOOK"
  done
  return "$(all_statuses "${statuses[@]}")"
}

# A host's command, which training_arguments fills.
training=()

# A signal to this script stops the training on all hosts, and not the script: what it made is
# deleted after that. The second signal ends it at once.
stop=""
stop_together() {
  [[ -z $stop ]] || exit $((128 + $1))
  stop=$1
}
trap 'stop_together 1' HUP
trap 'stop_together 2' INT
trap 'stop_together 15' TERM

# train_on_all RUN COUNT RESTARTS: as run_on_all, and starts all of them again where a process was
# lost, up to RESTARTS times.
train_on_all() {
  local status restart
  for ((restart = 0; ; restart++)); do
    status=0
    run_on_all "$1" "$2" || status=$?
    if ((status == 0)); then
      say "The training is done."
    elif [[ -n $stop ]]; then
      say "Stopped with status $status; the same command goes on from the last checkpoint."
    elif ((status == MISTAKE)); then
      say "The config or the data has a mistake (status 2), so that starting again is useless."
    elif ((status == OTHERS_LOST && restart < $3)); then
      say "A process was lost (status 75): start $((restart + 1)) of $3 from the last checkpoint."
      continue
    elif ((status == OTHERS_LOST)); then
      say "A process was lost (status 75) after $3 more starts: see what is wrong with that host."
    else
      say "The training ended with status $status."
    fi
    return "$status"
  done
}

# price_of CHIPS: what a day of them costs, by PRICE, or in chip-hours.
price_of() {
  if [[ -n ${PRICE:-} ]]; then
    awk -v chips="$1" -v price="$PRICE" 'BEGIN {
      printf "%d chips at %s a chip-hour: %.2f an hour, %.0f a day", chips, price, chips * price,
        chips * price * 24 }'
  else
    printf '%d chips: %d chip-hours a day; PRICE=… from cloud.google.com/tpu/pricing says it in money' \
      "$1" $((24 * $1))
  fi
}

# prepare_command NFS WHEEL FOLDER: the command that installs danet on a TPU host and mounts NFS at
# the folder. The hosts' Ubuntu 22.04 has Python 3.10, so uv brings one that is new enough.
prepare_command() {
  # shellcheck disable=SC2016 # The host's shell expands it.
  local script='
    set -e
    [ -x "$HOME/.local/bin/uv" ] || curl -LsSf https://astral.sh/uv/install.sh | sh
    [ -x "$HOME/danet/bin/python" ] || "$HOME/.local/bin/uv" venv --quiet --python 3.12 "$HOME/danet"
    "$HOME/.local/bin/uv" pip install --quiet --python "$HOME/danet/bin/python" \
      --constraint "$HOME/constraints.txt" "$HOME/$2[tpu]"
    if ! mountpoint -q "$3"; then
      command -v mount.nfs >/dev/null || sudo apt-get install -qq -y nfs-common
      sudo mkdir -p "$3"
      sudo mount -t nfs "$1" "$3"
    fi
    [ -w "$3" ] || { echo "$1 is not writable for $(id -un)." >&2; exit 2; }'
  printf 'exec %s' "$(quoted sh -c "$script" danet-prepare "$@")"
}
