"""Windows, scales and mirror images: seconds per frame, beside PyTorch window by window.

    python -m benchmarks.multi_scale --frames=CamVid/val

The two projects take turns at the frames in one process, so that both have the same machine.
"""

import argparse
import contextlib
import json
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from PIL import Image

from benchmarks import networks, results, torch_evaluation, torch_networks
from danet_jax.evaluation import merging, sliding, windows
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.presets import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, required=True, help="folder of images")
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--base-size", type=int, default=240)
    parser.add_argument("--scales", type=float, nargs="+", default=PRESETS["multi"]["scales"])
    parser.add_argument("--json", type=results.place, help="file for the numbers")
    args = parser.parse_args()

    frames = [
        np.asarray(Image.open(path).convert("RGB"))
        for path in sorted(args.frames.glob("*.png"))[: args.number]
    ]
    model, variables = networks.create(networks.published(args.backbone))
    settings = {"base_size": args.base_size, "crop_size": args.crop, "scales": tuple(args.scales)}
    predictor = Predictor(model, variables, mode="slide", flip=True, merge="original", **settings)
    network = torch_networks.twin(model, variables)
    layout = torch_networks.faster_layout(network, (args.crop, args.crop))

    start = time.perf_counter()
    predictor(frames[0])
    first = time.perf_counter() - start
    seconds = defaultdict(list)
    agreeing = []
    for number, frame in enumerate(frames):
        predicted: dict[str, Any] = {}

        def run(project, frame=frame, predicted=predicted):
            start = time.perf_counter()
            if project == "danet-jax":
                predicted[project] = predictor(frame)
            else:
                predicted[project] = torch_evaluation.labels(
                    network, frame, layout=layout, **settings
                )
            seconds[project].append(time.perf_counter() - start)

        for project in ("danet-jax", "PyTorch")[:: 1 if number % 2 else -1]:
            run(project)
        agreeing.append(float(np.mean(predicted["danet-jax"] == predicted["PyTorch"])))
        print(
            f"{number + 1:2d}  danet-jax {seconds['danet-jax'][-1]:6.2f} s  "
            f"PyTorch {seconds['PyTorch'][-1]:6.2f} s  same labels {agreeing[-1]:.6f}",
            flush=True,
        )
    with parts() as spent:
        start = time.perf_counter()
        predictor(frames[0])
        whole = time.perf_counter() - start
    summary: dict[str, dict[str, Any]] = {
        project: {
            "median": float(np.median(values)),
            "quartiles": [float(q) for q in np.percentile(values, [25, 75])],
        }
        for project, values in seconds.items()
    }
    record = {
        "frames": len(frames),
        "size": frames[0].shape[:2],
        "settings": vars(args) | {"frames": len(frames), "json": None},
        "seconds_per_frame": summary,
        "ratio": summary["PyTorch"]["median"] / summary["danet-jax"]["median"],
        "least_agreement": min(agreeing),
        "first_frame_with_compilation": first,
        "spent": spent | {"rest": whole - sum(spent.values())},
        "layout": str(layout),
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    print(json.dumps(record, indent=2))
    if args.json:
        results.write_json(args.json, record)


@contextlib.contextmanager
def parts() -> Iterator[dict[str, float]]:
    """Seconds of cutting windows, of the network and of merging, each run to its end."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name, function):
        def call(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            jax.block_until_ready(result)
            spent[name] += time.perf_counter() - start
            return result

        return call

    functions = {
        (windows, "extract"): "windows extracted",
        (sliding, "window_scores"): "network",
        (merging, "_add_window"): "windows added",
        (merging, "_resized_rows"): "rows resized",
        (merging, "add_block"): "scales added",
    }
    originals = {patched: getattr(*patched) for patched in functions}
    try:
        for (module, attribute), name in functions.items():
            setattr(module, attribute, timed(name, originals[module, attribute]))
        yield spent
    finally:
        for (module, attribute), function in originals.items():
            setattr(module, attribute, function)


if __name__ == "__main__":
    main()
