"""A whole image at once: seconds and memory of the process, beside PyTorch.

    python -m benchmarks.whole_image

Each size and side is a process of its own, since memory is what a process ever held. The sides
alternate.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIDES = ("danet-jax", "PyTorch")
SIZES = ("512x1024", "1024x2048", "2048x2048")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HEIGHTxWIDTH")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--processes", type=int, default=1, help="of each size and side")
    parser.add_argument("--repeats", type=int, default=3, help="timed images of a process")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measure(args.side, args.sizes[0], args.backbone, args.repeats)
        return

    table = {}
    print(f"{'size':>10} {'side':>10} {'seconds':>8} {'quartiles':>14} {'first':>7} {'GB':>5}")
    for size in args.sizes:
        found = {side: {"seconds": [], "first": [], "gigabytes": []} for side in SIDES}
        for _ in range(args.processes):
            for side in SIDES:
                command = [sys.executable, "-m", "benchmarks.whole_image", f"--side={side}"]
                command += [f"--sizes={size}", f"--backbone={args.backbone}"]
                command += [f"--repeats={args.repeats}"]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"{size:>10} {side:>10} failed: {done.stderr.strip()[-200:]}")
                    continue
                for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                    found[side][name] += value
        for side, numbers in found.items():
            if numbers["seconds"]:
                low, middle, high = np.percentile(numbers["seconds"], [25, 50, 75])
                print(
                    f"{size:>10} {side:>10} {middle:8.2f} {low:6.2f}–{high:<6.2f} "
                    f"{max(numbers['first']):7.1f} {max(numbers['gigabytes']):5.2f}",
                    flush=True,
                )
        table[size] = found
    if args.json:
        args.json.write_text(json.dumps(table, indent=2) + "\n")


def measure(side: str, size: str, backbone: str, repeats: int) -> None:
    """Prints seconds of each image, of the first one, and the process's largest memory."""
    height, width = (int(number) for number in size.split("x"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = _ours(backbone) if side == SIDES[0] else _torch(backbone)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        assert label(image).shape == (height, width)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": times[1:], "first": times[:1], "gigabytes": [peak]}))


def _ours(backbone):
    import danet_jax
    from benchmarks import networks

    return danet_jax.Predictor(*networks.create(backbone))


def _torch(backbone):
    import torch
    from torch.nn import functional

    from benchmarks import networks, torch_networks
    from danet_jax.interop.torch_danet import TorchDANet

    # The energies of a large image may be more than the machine has: an error then, no killed one.
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_AS, (physical, physical))
    # Its own random weights: arrays of JAX would only take memory here.
    network = TorchDANet(networks.create_model(backbone)).eval()
    layout = torch_networks.faster_layout(network, (256, 256))

    def label(image):
        with torch.inference_mode():
            pixels = torch.from_numpy(image[None].astype(np.float32)).permute(0, 3, 1, 2)
            pixels = (pixels / 255 - 0.45) / 0.225
            logits = network(pixels.contiguous(memory_format=layout))["fused"]
            full = functional.interpolate(
                logits, size=image.shape[:2], mode="bilinear", align_corners=True
            )
            return full.argmax(1)[0].to(torch.uint8).numpy()

    return label


if __name__ == "__main__":
    main()
