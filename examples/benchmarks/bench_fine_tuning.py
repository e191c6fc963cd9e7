"""
Linear probe, fine-tuning and both in turn on photographs
=========================================================

Test mean average precision with one presence recorded for each image (the simulator of Cole et al., CVPR 2021): a
linear probe on frozen features, fine-tuning everything from the pretrained network, and fine-tuning from the best head
(linear-init). The epoch is chosen on validation images with complete labels, as published. The learning rate is within
the published grid and not searched; `--learning-rate` names another.

The papers train ten epochs of 448 x 448 images on a GPU. On two CPU cores that takes days: the defaults are smaller,
and the first lines of the output say so. Images smaller than those that a network was trained on have other statistics:
batch norms that adapt to them in a few epochs leave the head behind that was trained before (`--batch-norm train`).
"""

from __future__ import annotations

import csv
import time
import warnings
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import torch
import torchvision
from _data import add_arguments, limit_threads
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from torch import nn

from skpartial import SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.images import Backbone
from skpartial.labels import keep_single_positive
from skpartial.losses import ROLE, AssumeNegative, LargeLoss, Loss
from skpartial.metrics import mean_average_precision
from skpartial.solvers import Minibatch


def load_photographs(directory: Path) -> tuple[list[str], np.ndarray]:
    """Paths and complete labels in {-1, 1} of the photographs that `labels.csv` lists."""
    with open(directory / "labels.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    paths = [str(directory / "images" / f"{row[0]}.jpg") for row in rows]
    return paths, 2 * np.array([row[1:] for row in rows], dtype=np.int8) - 1


def load_resnet50(file: Path) -> nn.Module:
    """ResNet-50 with the weights of a file, whose stages stride in their first convolution as the first ResNets did."""
    from safetensors.torch import load_file

    network = torchvision.models.resnet50(weights=None)
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(file).items()}, strict=False)
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    network.fc = nn.Identity()
    return network


def split(Y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on (60%), to choose the epoch by and to test on, stratified by all labels."""
    rows = np.arange(len(Y))
    outer = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=0.2, random_state=seed)
    train, test = next(outer.split(rows[:, None], Y == 1))
    inner = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=0.25, random_state=seed)
    fit, held = next(inner.split(rows[train][:, None], Y[train] == 1))
    return train[fit], train[held], test


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[1])
    add_arguments(parser)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--learning-rate", type=float, default=1e-4, help="of the network; the head's is ten times that"
    )
    parser.add_argument("--batch-norm", default="frozen", choices=["train", "frozen"])
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--n-jobs", type=int, default=1, help="threads that read images")
    parser.add_argument("--losses", nargs="+", default=["AN", "AN-LS", "ROLE", "LL-Ct"])
    parser.add_argument("--ways", nargs="+", default=["head", "all", "linear_init"])
    arguments = parser.parse_args()
    images: object
    if arguments.data is None:
        scenes = make_digit_scenes(400, random_state=0)
        images, Y = scenes.images, scenes.target
        network: nn.Module | None = None
        print("digit scenes, a small network from a random start (no --data)")
    else:
        images, Y = load_photographs(Path(arguments.data) / "ucmerced")
        images = np.array(images, dtype=object)
        network = load_resnet50(Path(arguments.data) / "weights" / "resnet50_imagenet.safetensors")
        print(f"UC Merced, {len(Y)} photographs; ResNet-50, ImageNet weights")
    if arguments.quick:
        arguments.image_size, arguments.epochs = 32, 1
        images, Y = images[:: len(Y) // 100], Y[:: len(Y) // 100]  # type: ignore[index]
    print(
        f"{arguments.image_size} x {arguments.image_size} pixels, {arguments.epochs} epochs, "
        f"learning rate {arguments.learning_rate:g}, batch norms {arguments.batch_norm}, "
        f"{arguments.precision} precision, {arguments.threads} threads"
    )
    print(f"{'loss':10s} {'trained':12s} " + " ".join(f"seed {seed}" for seed in range(arguments.seeds)))
    with limit_threads(arguments.threads):
        for name in arguments.losses:
            for way in arguments.ways:
                found, begun = [], time.perf_counter()
                for seed in range(arguments.seeds):
                    train, held, test = split(Y, seed)
                    Z = np.asarray(keep_single_positive(Y[train], random_state=1200 + seed))
                    k = float((Y[train] == 1).sum(1).mean())
                    loss: Loss = {
                        "AN": AssumeNegative(),
                        "AN-LS": AssumeNegative(0.1),
                        "ROLE": ROLE(k),
                        # Rounds of the linear probe are few, so that each corrects more; in five of them, and in the
                        # epochs of fine-tuning, about two thirds of the missing presences.
                        "LL-Ct": LargeLoss("correct", delta=0.02),
                    }[name]
                    if network is None:
                        with torch.random.fork_rng():
                            torch.manual_seed(seed)
                            model = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:6])
                    else:
                        model = network
                    backbone = Backbone(
                        model,
                        finetune=way,
                        image_size=arguments.image_size,
                        batch_norm="train" if network is None else arguments.batch_norm,
                    )
                    solver: object = "auto"
                    if way != "head":
                        rate = 1e-3 if network is None else arguments.learning_rate
                        solver = Minibatch(
                            learning_rate=rate, head_rate=1.0 if network is None else 10.0, max_epochs=arguments.epochs
                        )
                    clf = SinglePositiveClassifier(
                        loss,
                        backbone=backbone,
                        solver=solver,
                        alpha=0.1,
                        n_jobs=arguments.n_jobs,
                        precision=arguments.precision,
                        random_state=seed,
                    )
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        clf.fit(images[train], Z, X_val=images[held], y_val=Y[held])  # type: ignore[index]
                    found.append(mean_average_precision(Y[test], clf.decision_function(images[test])))  # type: ignore[index]
                seconds = (time.perf_counter() - begun) / arguments.seeds
                scores = " ".join(f"{100 * score:6.1f}" for score in found)
                print(f"{name:10s} {way:12s} {scores}   {seconds:6.0f} s a fit", flush=True)


if __name__ == "__main__":
    main()
