"""Files of weights in the forms that training scripts leave: one place in them fits, or an error says what was seen."""

from __future__ import annotations

import argparse
import copy
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from skpartial.images import Backbone
from skpartial.images._weights import load_weights


def network(seed=0):
    """With names of every kind, among them names that are ends of others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = nn.Sequential(OrderedDict(conv=nn.Conv2d(4, 4, 3), norm=nn.BatchNorm2d(4)))
        layers = {"conv": nn.Conv2d(3, 4, 3), "block": block, "again": copy.deepcopy(block), "fc": nn.Identity()}
        return nn.Sequential(OrderedDict(layers))


SOURCE = network(1)
STATE = SOURCE.state_dict()


def named(prefix, state=STATE):
    return {prefix + key: value for key, value in state.items()}


CLASSIFIER = {"fc.weight": torch.zeros(5, 4), "fc.bias": torch.zeros(5)}
PROJECTION = {f"projection_head.{i}.{kind}": torch.ones(4) for i in range(3) for kind in ("weight", "bias")}
OPTIMIZER = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4, 3, 3, 3)}},
    "param_groups": [{"lr": 0.1}],
}

FORMS = {
    "plain": STATE,
    "with a classifier": {**STATE, **CLASSIFIER},
    "DataParallel": named("module.", {**STATE, **CLASSIFIER}),
    "torch.compile": named("_orig_mod."),
    "compiled and parallel": named("module._orig_mod."),
    "Lightning": {"state_dict": named("model.", {**STATE, **CLASSIFIER}), "epoch": 3, "optimizer_states": [OPTIMIZER]},
    "Lightning with a projection": {"state_dict": {**named("backbone."), **PROJECTION}, "hyper_parameters": {"a": [1]}},
    "MMPretrain": {"state_dict": {**named("backbone."), "head.fc.weight": torch.zeros(2, 4)}, "meta": {"epoch": 1}},
    "timm": {"state_dict_ema": STATE, "arch": "it", "metric": 0.5},
    "DeiT": {
        "model": {**STATE, **CLASSIFIER},
        "optimizer": OPTIMIZER,
        "args": argparse.Namespace(lr=0.1, betas=[1, 2]),
    },
    "model_ema": {"model_ema": named("module.")},
    "DINO": {"teacher": {**named("module.backbone."), "module.head.mlp.0.weight": torch.zeros(2, 4)}, "epoch": 9},
    "MoCo": {"state_dict": {**named("module.encoder_q.", {**STATE, **CLASSIFIER}), "module.queue": torch.zeros(2, 9)}},
    "SWA": {"n_averaged": torch.tensor(3), **named("module.")},
    "VISSL": {
        "classy_state_dict": {"base_model": {"model": {"trunk": named("_feature_blocks."), "heads": PROJECTION}}}
    },
    "ordered": {"state_dict": OrderedDict(named("module."))},
    "with scores": {"model": STATE, "best": np.float64(0.5), "scores": np.arange(3.0), "best_state": None},
    "twice the same": {"model": STATE, "model_best": {key: value.clone() for key, value in STATE.items()}},
    "plain with an average": {**STATE, **named("ema.", network(2).state_dict())},
    "numbered": {0: "a", "state_dict": STATE},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_training_scripts(tmp_path, form):
    torch.save(FORMS[form], tmp_path / "weights.pth")
    target = network()
    load_weights(target, tmp_path / "weights.pth", "it")
    for key, value in target.state_dict().items():
        assert torch.equal(value, STATE[key]), key


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_safetensors_of_every_name(tmp_path, prefix):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(named(prefix, {**STATE, **CLASSIFIER}), tmp_path / "weights.safetensors")
    target = network()
    load_weights(target, tmp_path / "weights.safetensors", "it")
    assert torch.equal(target.again.conv.weight, SOURCE.again.conv.weight)


def test_a_dictionary_that_holds_itself(tmp_path):
    content = {"state_dict": dict(STATE)}
    content["self"] = content
    torch.save(content, tmp_path / "weights.pth")
    target = network()
    load_weights(target, tmp_path / "weights.pth", "it")
    assert torch.equal(target.conv.weight, SOURCE.conv.weight)


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({"student": STATE, "teacher": network(2).state_dict()}, ("student/", "teacher/")),
        ({"state_dict": STATE, "state_dict_ema": network(2).state_dict()}, ("state_dict/", "state_dict_ema/")),
        ({**named("encoder_q."), **named("encoder_k.", network(2).state_dict())}, ("encoder_q.", "encoder_k.")),
    ],
    ids=["teacher", "average", "momentum"],
)
def test_weights_that_are_there_twice(tmp_path, content, places):
    """Which are meant, only the user knows; the network stays as it was."""
    torch.save(content, tmp_path / "weights.pth")
    target, before = network(), network().state_dict()
    message = rf"holds weights of 'it' more than once, under '{places[0]}' and under '{places[1]}': save the ones"
    with pytest.raises(ValueError, match=message):
        load_weights(target, tmp_path / "weights.pth", "it")
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_errors_say_what_was_expected_and_seen(tmp_path):
    path = tmp_path / "weights.pth"

    def refusal(content):
        torch.save(content, path)
        with pytest.raises(ValueError) as caught:
            load_weights(network(), path, "it")
        return str(caught.value)

    other = refusal({"net": {"stem.0.kernel": torch.zeros(2), "stem.0.offset": torch.zeros(2)}})
    assert "lacks 14 of the 14 tensors of 'it', 'conv.weight', 'conv.bias', 'block.conv.weight' and 11 more" in other
    assert "it holds 'net/stem.0.kernel', 'net/stem.0.offset': it belongs to another network" in other
    part = refusal({"state_dict": {key: value for key, value in named("module.").items() if "again" not in key}})
    assert (
        "lacks 6 of the 14 tensors of 'it', 'again.conv.bias' first; it holds 'state_dict/module.conv.weight'," in part
    )
    wrong = refusal({"state_dict": {**named("module."), "module.conv.weight": torch.zeros(4, 12, 3, 3)}})
    assert "does not fit 'it': 'state_dict/module.conv.weight' has shape (4, 12, 3, 3), not (4, 3, 3, 3)" in wrong


def test_whole_models_are_not_executed(tmp_path):
    """Nor is the advice passed on that PyTorch gives: to execute them."""
    torch.save(network(), tmp_path / "model.pth")
    with pytest.raises(
        ValueError, match=r"it holds objects of torch\.nn\..*executed\): save only model\.state_dict\(\)"
    ) as caught:
        load_weights(network(), tmp_path / "model.pth", "it")
    assert "weights_only" not in str(caught.value)


def test_stand_ins_are_forgotten(tmp_path):
    torch.save(FORMS["DeiT"], tmp_path / "weights.pth")
    load_weights(network(), tmp_path / "weights.pth", "it")
    assert not any("Namespace" in str(known) for known in torch.serialization.get_safe_globals())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_pipes_are_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    with pytest.raises(ValueError, match=rf"pipe\.{suffix}' is not a readable file of weights: it is a named pipe"):
        Backbone("resnet18", tmp_path / f"pipe.{suffix}").load()
