"""
Images a second, from files and from memory
===========================================

Training a network in `fit` on JPEG files that are decoded anew in every epoch, on an array of the same images, and the
same network in a bare PyTorch loop fed with synthetic tensors that lie on the device: with the same optimiser, batch
size, precision and memory layout, in one run. Also how fast images are decoded alone, which tells what bounds the
first. Each is timed over whole epochs after one to warm up, in turns; medians are shown.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn

from skpartial import SinglePositiveClassifier
from skpartial.images import Backbone
from skpartial.images._batches import ImageBatches
from skpartial.images._sources import as_source
from skpartial.losses import AssumeNegative
from skpartial.solvers import Minibatch

RATE = 1e-5


def write_files(folder: Path, n: int, side: int) -> list[str]:
    """JPEG files as cameras write them, of smooth noise."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((side, side))
        paths.append(str(folder / f"{i:05d}.jpg"))
        coarse.save(paths[-1], quality=90)
    return paths


def seconds_of_fit(X: object, Y: np.ndarray, arguments: Namespace, model: nn.Module) -> float:
    """Seconds of an epoch, after one to warm up."""
    backbone = Backbone(model, image_size=arguments.image_size, cache_bytes=0, compile=arguments.compile)
    solver = Minibatch(learning_rate=RATE, max_epochs=2, batch_size=arguments.batch_size)
    clf = SinglePositiveClassifier(
        AssumeNegative(),
        backbone=backbone,
        solver=solver,
        precision=arguments.precision,
        n_jobs=arguments.n_jobs,
        random_state=0,
    ).fit(X, Y)
    first, second = (record["seconds"] for record in clf.history_)
    return second - first


def seconds_of_bare_loop(n: int, n_labels: int, arguments: Namespace, model: nn.Module, device: torch.device) -> float:
    """Seconds of an epoch of the loop that anyone would write, on tensors that lie on the device."""
    size, batch_size = arguments.image_size, arguments.batch_size
    bfloat16 = arguments.precision == "bfloat16" or (arguments.precision == "auto" and device.type == "cuda")
    network = nn.Sequential(model, nn.Linear(arguments.width, n_labels)).to(device).train()
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    images = torch.randn(batch_size, 3, size, size, device=device)
    targets = (torch.rand(batch_size, n_labels, device=device) < 0.2).float()
    seconds = 0.0
    for _ in range(2):  # of which the first warms up
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(-(-n // batch_size)):
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = network(images)
            nn.functional.binary_cross_entropy_with_logits(logits.float(), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--model", default="resnet18", help="a ResNet of torchvision (default: resnet18)")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=500, help="of the files (default: 500)")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="train our network through torch.compile")
    parser.add_argument("--n-jobs", type=int, default=1, help="threads that read images (default: 1)")
    parser.add_argument("--threads", type=int, default=None, help="threads of PyTorch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.side, arguments.image_size, arguments.repeats = 32, 100, 32, 1
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = torchvision.models.get_model(arguments.model, weights=None)
    arguments.width = model.fc.in_features
    model.fc = nn.Identity()
    Y = (np.arange(20) == np.random.default_rng(0).integers(20, size=arguments.images)[:, None]).astype(np.int8)
    size = (arguments.image_size, arguments.image_size)
    print(
        f"{arguments.model}, {arguments.images} images of {arguments.side} x {arguments.side} pixels at "
        f"{arguments.image_size}, batches of {arguments.batch_size}, {arguments.precision} precision, {device}, "
        f"{torch.get_num_threads()} threads of PyTorch, {arguments.n_jobs} that read"
    )
    found: dict[str, list[float]] = {"files": [], "array": [], "bare loop, synthetic": [], "decoding alone": []}
    with tempfile.TemporaryDirectory() as name:
        paths = write_files(Path(name), arguments.images, arguments.side)
        source = as_source(paths, size)
        array = torch.stack([source.read(i) for i in range(len(paths))]).numpy()
        for _ in range(arguments.repeats):
            found["files"].append(seconds_of_fit(paths, Y, arguments, model))
            found["array"].append(seconds_of_fit(array, Y, arguments, model))
            found["bare loop, synthetic"].append(
                seconds_of_bare_loop(len(paths), Y.shape[1], arguments, copy.deepcopy(model), device)
            )
            batches = ImageBatches(source, 0, torch.float32, torch.device("cpu"), n_workers=arguments.n_jobs)
            start = time.perf_counter()
            for _ in batches.batches(torch.arange(len(paths)).split(arguments.batch_size)):
                pass
            found["decoding alone"].append(time.perf_counter() - start)
    bare = statistics.median(found["bare loop, synthetic"])
    print(f"{'':24s} {'images a second':>16s} {'of the bare loop':>17s}")
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{name:24s} {arguments.images / middle:16.1f} {bare / middle:17.2f}")
    if device.type == "cuda":
        print(f"peak memory on the device: {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
