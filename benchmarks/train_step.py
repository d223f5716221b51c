"""Seconds and memory of a training step, beside PyTorch.

    python -m benchmarks.train_step --backbone=resnet50 --size=256x256 --batch=2

Each side is a process of its own, which waits for its turn: the sides alternate, step by step. Both
train the same network from the same weights on the same random batch, by the original's recipe.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("danet-jax", "torch", "torch-compile")
CLASSES = 19


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", default="256x256", metavar="HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--method", default="auto", help="config.model.conv_weight_gradient")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        wait_for_turns(args)
        return

    workers = {side: start(args, side) for side in args.sides}
    found: dict[str, dict[str, Any]] = {side: {"seconds": []} for side in args.sides}
    for side, worker in workers.items():
        found[side] |= ask(worker)
        print(f"{side}: first step after {found[side]['first']:.1f} s", flush=True)
    for _ in range(args.repetitions):
        for side, worker in workers.items():
            found[side]["seconds"].append(ask(worker)["seconds"])
    for side, worker in workers.items():
        found[side] |= ask(worker, "end")
        worker.wait()

    title = f"{args.backbone} {args.size} batch {args.batch}"
    print(f"{title:>32} {'seconds':>8} {'quartiles':>14} {'ratio':>6} {'GB':>5} {'loss':>9}")
    medians = {side: float(np.median(numbers["seconds"])) for side, numbers in found.items()}
    for side, numbers in found.items():
        low, middle, high = np.percentile(numbers["seconds"], [25, 50, 75])
        ratio = medians.get("torch", np.nan) / middle
        print(
            f"{side:>32} {middle:8.2f} {low:6.2f}–{high:<6.2f} {ratio:6.2f} "
            f"{numbers['gigabytes']:5.2f} {numbers['loss']:9.5f}"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def start(args: argparse.Namespace, side: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.train_step", f"--side={side}"]
    command += [f"--backbone={args.backbone}", f"--size={args.size}", f"--batch={args.batch}"]
    command += [f"--method={args.method}"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def ask(worker: subprocess.Popen, request: str = "step") -> dict[str, float]:
    """Sends a request to a worker, and returns its answer."""
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{request}\n")
    for line in worker.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError(f"{worker.args}: ended with status {worker.wait()}")


def wait_for_turns(args: argparse.Namespace) -> None:
    """Takes a step for each line of standard input; the first answer is of the first step."""
    began = time.perf_counter()
    step = _ours(args) if args.side == SIDES[0] else _torch(args)
    loss = None
    for line in sys.stdin:
        if line.strip() == "end":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            print(json.dumps({"gigabytes": peak}), flush=True)
            return
        if loss is None:
            loss = step()
            step()
            print(json.dumps({"first": time.perf_counter() - began, "loss": loss}), flush=True)
            continue
        start = time.perf_counter()
        step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def batch_of(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images [b, h, w, 3] and labels [b, h, w] of random areas."""
    height, width = map(int, args.size.split("x"))
    generator = np.random.default_rng(0)
    image = generator.standard_normal((args.batch, height, width, 3)).astype(np.float32)
    small = generator.integers(0, CLASSES, (args.batch, height // 8, width // 8))
    return image, small.repeat(8, 1).repeat(8, 2).astype(np.uint8)


def experiment(args: argparse.Namespace) -> Any:
    from configs import common

    config = common.get_config()
    config.model.backbone = args.backbone
    config.model.num_classes = CLASSES
    config.model.dropout_rate = 0.0
    config.model.conv_weight_gradient = args.method
    return config


def _weights(config: Any) -> tuple[Any, Any]:
    import danet_jax
    from danet_jax.training.state import abstract_variables

    model = danet_jax.create_model(config.model)
    generator = np.random.default_rng(0)

    def leaf(path, shape):
        name = path[-1].key
        if name == "kernel":
            scale = (2 / np.prod(shape.shape[:-1])) ** 0.5
            return (scale * generator.standard_normal(shape.shape)).astype(np.float32)
        if name == "scale" and path[-2].key == "bn3":
            return np.full(shape.shape, 0.25, np.float32)
        if name in ("scale", "var"):
            return np.ones(shape.shape, np.float32)
        return np.full(shape.shape, 0.5 if name == "gamma" else 0, np.float32)

    import jax

    return model, jax.tree_util.tree_map_with_path(leaf, abstract_variables(model))


def _ours(args: argparse.Namespace) -> Callable[[], float]:
    import jax

    import danet_jax
    from danet_jax import compilation

    config = experiment(args)
    model, variables = _weights(config)
    state = danet_jax.create_train_state(config, model, jax.device_put(variables), 1000)
    del variables
    image, label = batch_of(args)
    batch = jax.device_put({"image": image, "label": label})
    options = compilation.options()
    step_function = jax.jit(danet_jax.train_step, donate_argnums=0, compiler_options=options)
    compiled = step_function.lower(state, batch).compile()

    def step():
        nonlocal state
        state, metrics = compiled(state, batch)
        return float(metrics["loss"])

    return step


def _torch(args: argparse.Namespace) -> Callable[[], float]:
    import torch
    from torch.nn import functional

    import danet_jax
    from danet_jax.interop.torch_danet import TorchDANet

    config = experiment(args)
    model, variables = _weights(config)
    network = TorchDANet(model)
    arrays = danet_jax.to_torch(variables, model)
    network.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=False)
    del variables, arrays
    network = network.train().to(memory_format=torch.channels_last)
    rate, decay = config.optimizer.learning_rate, config.optimizer.weight_decay
    backbone, head = network.pretrained.parameters(), network.head.parameters()
    optimizer = torch.optim.SGD(
        [{"params": backbone, "lr": rate}, {"params": head, "lr": 10 * rate}],
        momentum=config.optimizer.momentum,
        weight_decay=decay,
    )
    image, label = (torch.from_numpy(array) for array in batch_of(args))
    image = image.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    label = label.long()

    def losses(image, label):
        logits = network(image)
        full = (
            functional.interpolate(x, size=label.shape[1:], mode="bilinear", align_corners=True)
            for x in logits.values()
        )
        return sum(functional.cross_entropy(x, label, ignore_index=255) for x in full)

    if args.side == "torch-compile":
        losses = torch.compile(losses)

    def step():
        optimizer.zero_grad()
        loss = losses(image, label)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    main()
