"""The process in which one framework computes: `python -m benchmarks.worker_process TASK`.

TASK is JSON; requests come on standard input and answers go to standard output, as lines of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import memory
from benchmarks.workload import Workload

# A repetition lasts at least this long: a quick workload runs several times in it.
SECONDS = 0.2


def main() -> None:
    task = json.loads(sys.argv[1])
    start = memory.resident()
    # JAX is imported in the PyTorch process, too, where it describes the network.
    from benchmarks import jax_cases
    from danet_jax.runs import config as configuration

    module: Any = jax_cases
    uncounted = 0
    if task["framework"] != "danet-jax":
        # What JAX holds is none of PyTorch's memory.
        uncounted = memory.resident() - start
        if task["platform"] == "cpu":
            memory.limit_to_physical()
        from benchmarks import torch_cases

        torch_cases.check(task["platform"])
        module = torch_cases

    config = configuration.restore(task["config"])
    build = module.BUILDERS[task["what"]]

    def peak():
        device_peak = module.device_peak()
        return memory.peak() - uncounted if device_peak is None else device_peak

    serve(lambda case, variant: build(config, case, variant), peak)


def serve(build: Callable[[dict[str, Any], str], Workload], peak: Callable[[], int]) -> None:
    """Answers the requests on standard input until it ends.

    {"case": …, "variant": …} prepares a workload, {"run": VARIANT} runs it for a while, and
    {"peak": true} asks for memory. Each variant has one workload at a time.

    Args:
      build: returns the workload of a case and a variant.
      peak: returns the largest number of bytes that were held.
    """
    workloads: dict[str, Workload] = {}
    calls: dict[str, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if "case" in request:
                variant = request["variant"]
                # The previous workload's arrays are freed before the next one's are made.
                workloads.pop(variant, None)
                began = time.perf_counter()
                workload = workloads[variant] = build(request["case"], variant)
                value = workload.call()
                answer = {"first": time.perf_counter() - began, "value": value}
                answer["temporaries"] = workload.temporaries
                calls[variant] = _calls_per_repetition(workload)
            elif "run" in request:
                variant = request["run"]
                answer = {"seconds": _seconds(workloads[variant], calls[variant])}
            else:
                answer = {"peak": peak()}
        except Exception as error:  # to be shown in the table, beside what the others measured
            answer = {"failed": f"{type(error).__name__}: {str(error).strip()[:300]}"}
        print(json.dumps(answer), flush=True)


def _calls_per_repetition(workload: Workload) -> int:
    if workload.seconds:
        return 1
    began = time.perf_counter()
    workload.call()
    return max(round(SECONDS / max(time.perf_counter() - began, 1e-6)), 1)


def _seconds(workload: Workload, calls: int) -> float:
    if workload.seconds:
        return workload.seconds()
    began = time.perf_counter()
    for _ in range(calls):
        workload.call()
    return (time.perf_counter() - began) / calls


if __name__ == "__main__":
    main()
