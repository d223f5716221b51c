"""What stands in for ssh, gcloud, kubectl, srun and the like while a script of launch/ is tested.

It is copied with the name of the command that it stands in for, and with the folder of its
test in place of @FOLDER@. It notes there in `calls` what it was called with. What it then
does is said by the first rule of its name in `rules` that fits:

  part    a text that one of its arguments contains
  host    of the host on which it is run; hosts are folders that `ssh` and `gcloud` make
  once    the rule is for one call alone
  together         it stays until so many of its name were called, or twice, three times so many
                   where others were before: one that starts late is not overtaken
  stdout, status   what it prints, and its exit status
  hang    it stays until SIGTERM, and then exits with 128 + 15; "deaf" stays until SIGKILL

`ssh`, and `gcloud` with --command, run the command in the shell of a host, as the real ones do.

A test starts dozens of these, so it imports little, and notes and rules are literals of Python:
json, pathlib or subprocess take as long to import as Python itself to start.
"""

import os
import signal
import sys
import time

FOLDER = "@FOLDER@"
NAME = os.path.basename(sys.argv[0])
ARGUMENTS = sys.argv[1:]
HOST = os.environ.get("STAND_IN_HOST", "")


def note(**facts) -> None:
    with open(f"{FOLDER}/calls", "a") as file:
        file.write(f"{facts!r}\n")


def called() -> int:
    with open(f"{FOLDER}/calls") as file:
        return file.read().count(f"{{'name': {NAME!r}, 'arguments'")


def rule() -> dict:
    with open(f"{FOLDER}/rules") as file:
        rules = eval(file.read())
    for index, each in enumerate(rules):
        fits = each["command"] == NAME and each.get("host", HOST) == HOST
        if not fits or not any(each.get("part", "") in argument for argument in ["", *ARGUMENTS]):
            continue
        if each.get("once"):
            try:
                open(f"{FOLDER}/used_{index}", "x").close()
            except FileExistsError:
                continue
        return each
    return {}


def run_on(host: str, command: str) -> int:
    home = f"{FOLDER}/hosts/{host}"
    os.makedirs(f"{home}/danet/bin", exist_ok=True)
    if not os.path.lexists(f"{home}/danet/bin/danet"):
        os.symlink(f"{FOLDER}/bin/danet", f"{home}/danet/bin/danet")
    environment = os.environ | {"HOME": home, "STAND_IN_HOST": host}
    # A command of ssh starts in the home folder.
    shell = ["sh", "-c", f'cd "$HOME" && {command}']
    status = os.spawnvpe(os.P_WAIT, "sh", shell, environment)
    # As a shell says that a signal ended it.
    return status if status >= 0 else 128 - status


def remote() -> int:
    import itertools
    import threading

    if NAME == "ssh":
        return run_on(ARGUMENTS[-2], ARGUMENTS[-1])
    (command,) = (text for text in ARGUMENTS if text.startswith("--command="))
    command = command.removeprefix("--command=")
    # The words before the first option end in what the command is about.
    subject = next(
        before for before, after in itertools.pairwise(ARGUMENTS) if after.startswith("-")
    )
    if "--worker=all" not in ARGUMENTS:
        return run_on(subject, command)
    statuses: dict[int, int] = {}
    workers = [
        threading.Thread(target=lambda n=n: statuses.update({n: run_on(f"w{n}", command)}))
        for n in range(int(os.environ["STAND_IN_WORKERS"]))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return next((statuses[n] for n in sorted(statuses) if statuses[n]), 0)


def ends_by_signal(*_) -> None:
    note(name=NAME, host=HOST, signalled=True)
    sys.exit(128 + signal.SIGTERM)


chosen = rule()
if chosen.get("hang") == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif chosen.get("hang"):
    signal.signal(signal.SIGTERM, ends_by_signal)
variables = {name: value for name, value in os.environ.items() if name.startswith("JAX_")}
stdin = sys.stdin.read() if NAME == "kubectl" else ""
note(
    name=NAME,
    arguments=ARGUMENTS,
    host=HOST,
    variables=variables,
    stdin=stdin,
    process=os.getpid(),
)
if "stdout" in chosen:
    print(chosen["stdout"], flush=True)
together = chosen.get("together", 1)
until = -(-called() // together) * together
while called() < until:
    time.sleep(0.02)
while chosen.get("hang"):
    time.sleep(0.05)
is_remote = NAME == "ssh" or (NAME == "gcloud" and any("--command=" in a for a in ARGUMENTS))
if is_remote and "status" not in chosen:
    sys.exit(remote())
sys.exit(chosen.get("status", 0))
