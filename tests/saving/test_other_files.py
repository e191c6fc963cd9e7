"""Files that `save` has not written, or that were changed since: told, and nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

import skpartial
from skpartial import PartialLabelClassifier
from skpartial.images import Backbone
from skpartial.losses import ROLE
from skpartial.solvers import Minibatch

DAMAGES = int(os.environ.get("SKPARTIAL_DAMAGES", "150"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file, and what it says."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(12, 3)).astype(np.float32), np.where(rng.random((12, 2)) < 0.5, 1, -1)
    loss = ROLE(expected_positives=1.0)
    clf = PartialLabelClassifier(loss, solver=Minibatch(max_epochs=1), warm_start=True, random_state=0).fit(X, Y)
    path = tmp_path_factory.mktemp("written") / "file"
    skpartial.save(clf, path)
    return path.read_bytes(), X, clf.decision_function(X)


def header_of(content):
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header, data):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + data


def document_of(content):
    return json.loads(header_of(content)[0]["__metadata__"]["document"])


def with_document(content, document):
    """The file with another document, whose digest is right."""
    header, data = header_of(content)
    text = document if isinstance(document, str) else json.dumps(document)
    header["__metadata__"] |= {"document": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return with_header(header, data)


def refused(tmp_path, content, message=""):
    """Told with the path, in little memory."""
    path = tmp_path / "other"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"other' cannot be loaded: .*{message}"):
            skpartial.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000 + 10 * len(content)


def test_random_damages_are_told_or_without_effect(written, tmp_path):
    """Bits, bytes, pieces moved, cut out, doubled or cut off."""
    content, X, logits = written
    rng = np.random.default_rng(int(os.environ.get("SKPARTIAL_SEED", "0")))
    path, told = tmp_path / "damaged", []
    start = struct.unpack("<Q", content[:8])[0] + 8
    for i in range(DAMAGES):
        damaged = bytearray(content)
        kind = i % 5
        # Half of them in the header, or in the numbers, whichever is longer.
        low, high = ((0, 16), (0, start), (start, len(content)))[rng.integers(3)]
        place = int(rng.integers(low, high))
        if kind == 0:
            damaged[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            damaged[place] = int(rng.integers(256))
        elif kind == 2:
            del damaged[place : place + int(rng.integers(1, 50))]
        elif kind == 3:
            damaged[place:place] = damaged[place : place + int(rng.integers(1, 50))]
        else:
            del damaged[place:]
        path.write_bytes(damaged)
        found = []
        try:
            found = [skpartial.load(path)]
        except ValueError as error:
            told.append(str(error))
        for loaded in found:
            np.testing.assert_array_equal(loaded.decision_function(X), logits)
    print(f"{len(told)} of {DAMAGES} told")
    assert len(told) > 0.9 * DAMAGES
    assert all("damaged' cannot be loaded: " in message for message in told)


def test_what_is_no_file_of_ours(written, tmp_path):
    for content in (b"", b"\0" * 7, b"\0" * 100, b"hello", pickle.dumps(PartialLabelClassifier())):
        refused(tmp_path, content, "it was not written by skpartial.save")
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "tensors")
    refused(tmp_path, (tmp_path / "tensors").read_bytes(), "it was not written by skpartial.save")
    torch.save({"a": torch.ones(2)}, tmp_path / "archive.pt")
    refused(tmp_path, (tmp_path / "archive.pt").read_bytes(), "it was not written by skpartial.save")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("../../evil", "text")
    refused(tmp_path, (tmp_path / "zip").read_bytes(), "it was not written by skpartial.save")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        skpartial.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="it is a directory"):
        skpartial.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe' cannot be loaded: it is a named pipe"):
        skpartial.load(tmp_path / "pipe")


def test_versions_and_kinds_of_the_future(written, tmp_path):
    content = written[0]
    header, data = header_of(content)
    header["__metadata__"]["version"] = "2"
    refused(tmp_path, with_header(header, data), "it has version '2' of the format.*use a later version")
    document = document_of(content)
    document["estimator"]["kind"] = "hologram"
    refused(tmp_path, with_document(content, document), "it holds a value of an unknown kind, 'hologram'")
    document = document_of(content)
    document["estimator"]["parameters"]["warp"] = 3
    refused(
        tmp_path, with_document(content, document), "PartialLabelClassifier has no parameter 'warp' in this version"
    )
    document = document_of(content)
    del document["estimator"]["parameters"]["verbose"]  # of a version that had none yet
    (tmp_path / "older").write_bytes(with_document(content, document))
    assert skpartial.load(tmp_path / "older").verbose == 0


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.path.join(os.environ["SKPARTIAL_EVIL"], "executed"),)


def test_pickles_are_not_executed(written, tmp_path, monkeypatch):
    monkeypatch.setenv("SKPARTIAL_EVIL", str(tmp_path))
    refused(tmp_path, pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "archive.pt")
    refused(tmp_path, (tmp_path / "archive.pt").read_bytes())
    # An array of objects that says it is one of pickled bytes.
    inside = torch.frombuffer(bytearray(pickle.dumps(Evil())), dtype=torch.uint8)
    document = document_of(written[0])
    header, data = header_of(written[0])
    size = len(data)
    header["evil"] = {"dtype": "U8", "shape": [len(inside)], "data_offsets": [size, size + len(inside)]}
    content = with_header(header, data + inside.numpy().tobytes())
    digest = hashlib.sha256(f"{inside.dtype}{tuple(inside.shape)}".encode() + inside.numpy().tobytes()).hexdigest()
    for dtype in ("|O", "|V8", "O", "<U4", "|S3"):
        document["estimator"]["attributes"]["coef_"] = {
            "kind": "array",
            "tensor": "evil",
            "sha256": digest,
            "dtype": dtype,
        }
        refused(tmp_path, with_document(content, document), "an array of another type")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "skpartial.os",
        "skpartial.losses.__builtins__",
        "skpartial.losses._base.Loss",
        "skpartial.losses.Loss",
        "skpartial.losses.get",
        "skpartial.load",
        "skpartial.images.HDF5Images",
        "skpartial.datasets.make_digit_scenes",
        "skpartial._saving.save",
        "sklearn.pipeline.make_pipeline",
        "sklearn.preprocessing.FunctionTransformer",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.datasets.fetch_openml",
        "../../evil",
        "skpartial.losses..ROLE",
        "skpartial.losses.ROLE\n",
        "",
        "x" * 10_000,
        None,
        3,
        ["skpartial.losses.ROLE"],
    ],
)
def test_only_known_names_are_looked_up(written, tmp_path, name):
    content = written[0]
    for kind, key in (("object", "class"), ("function", "function"), ("module", "class")):
        document = document_of(content)
        document["estimator"]["parameters"]["loss"] = {
            "kind": kind,
            key: name,
            "parameters": {"command": "touch /tmp/evil"},
            "attributes": {},
            "state": {"tensors": {}, "frozen": [], "training": False},
        }
        refused(tmp_path, with_document(content, document), "it holds|it names")


def test_attributes_are_names(written, tmp_path):
    for name in ("__class__", "__dict__", "a b", "", "__reduce__"):
        document = document_of(written[0])
        document["estimator"]["attributes"][name] = 3
        refused(tmp_path, with_document(written[0], document), "an invalid attribute")


def test_tensors_lie_where_they_say(written, tmp_path):
    """Names, shapes and places that are none."""
    content = written[0]
    header, data = header_of(content)
    name = next(key for key in header if key != "__metadata__")
    others = [key for key in header if key not in ("__metadata__", name)]
    own = header[name]
    for change in (
        {"shape": [1 << 40, 1 << 40]},
        {"shape": [-1, -4]},
        {"shape": [1 << 62]},
        {"data_offsets": [-8, 8]},
        {"data_offsets": [0, 1 << 60]},
        {"data_offsets": own["data_offsets"][::-1]},
        {"data_offsets": header[others[0]]["data_offsets"], "shape": header[others[0]]["shape"]},
        {"dtype": "F4_E2M1X2"},
        {"dtype": "PICKLE"},
    ):
        refused(tmp_path, with_header({**header, name: own | change}, data))
    refused(tmp_path, struct.pack("<Q", 1 << 60) + content[8:])
    refused(tmp_path, struct.pack("<Q", len(content)) + content[8:])
    renamed = {("../../../tmp/evil" if key == name else key): value for key, value in header.items()}
    refused(tmp_path, with_header(renamed, data), "a tensor is missing")
    # A name that leads out of a folder is a name: nothing is written anywhere.
    document = document_of(content)
    document = json.loads(json.dumps(document).replace(f'"tensor": "{name}"', '"tensor": "../../../tmp/evil"'))
    (tmp_path / "odd").write_bytes(with_document(with_header(renamed, data), document))
    np.testing.assert_array_equal(skpartial.load(tmp_path / "odd").decision_function(written[1]), written[2])


def test_deep_nesting(written, tmp_path):
    content = written[0]
    data = header_of(content)[1]
    deep = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    refused(tmp_path, with_header(deep, data))
    for text in ("[" * 100_000 + "]" * 100_000, '{"estimator":' * 5_000 + "1" + "}" * 5_000):
        refused(tmp_path, with_document(content, text))
    document = document_of(content)
    inner = 3
    for _ in range(300):
        inner = {"kind": "tuple", "items": [inner]}
    document["estimator"]["parameters"]["verbose"] = inner
    refused(tmp_path, with_document(content, document), "Recursion")
    refused(tmp_path, with_document(content, '{"estimator": ' + "9" * 100_000 + "}"))


def _huge(document):
    """Documents that declare far more than the file holds."""
    array = {"kind": "array", "dtype": "|O", "items": [1, 2]}
    entry = document["estimator"]["attributes"]["coef_"]
    sparse = {"kind": "sparse", "class": "csr_array", "shape": [1 << 50, 1 << 50]}
    yield array | {"shape": [1 << 50]}
    yield array | {"shape": [-1, -2]}
    yield array | {"shape": [True, 2]}
    yield {"kind": "array", "fields": [["a", entry]], "shape": [1 << 50]}
    yield sparse | {"data": entry, "indices": entry, "indptr": entry}
    yield {"kind": "sparse", "class": "bsr_array", "shape": [2, 2], "data": entry}
    yield {"kind": "tensor", "shape": [1 << 50, 1 << 50], "start": entry, "columns": entry, "values": entry}
    yield {"kind": "number", "number": "1"}
    yield {"kind": "generator", "of": "RandomState", "state": {"kind": "dict", "items": [["bit_generator", "os"]]}}
    yield {"kind": "device", "device": "nowhere"}
    yield {"kind": "same", "as": -1}
    yield {"kind": "same", "as": 0}
    yield {"kind": "same", "as": 1 << 70}
    yield {"kind": ["tuple"]}
    yield {"kind": "tuple", "items": 3}
    yield {"kind": "object", "class": "skpartial.losses.ExpectedPositivesEstimate", "items": [1]}
    yield {"kind": "object", "class": "skpartial.losses.ROLE", "items": [1]}
    yield {"kind": "scorer", "of": "score_func", "function": 3, "options": 3, "response": 3, "sign": 1}
    yield {
        "kind": "requests",
        "methods": {"kind": "dict", "items": [["__init__", {"kind": "dict", "items": [["a", 1]]}]]},
    }


def test_declarations_without_content(written, tmp_path):
    content = written[0]
    n = sum(1 for _ in _huge(document_of(content)))
    for i in range(n):
        document = document_of(content)
        document["estimator"]["attributes"]["kept_"] = list(_huge(document))[i]
        refused(tmp_path, with_document(content, document))


def test_sparse_indices_stay_within(tmp_path):
    """What compiled code would read beyond its arrays."""
    import scipy.sparse as sp

    loss = skpartial.losses.IgnoreUnknown()
    loss.kept_ = sp.csr_array(np.eye(3))
    loss.others_ = np.array([0, 1, 1 << 30], dtype=np.int32)
    skpartial.save(loss, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    document = document_of(content)
    attributes = document["estimator"]["attributes"]
    attributes["kept_"]["indices"] = attributes["others_"]
    refused(tmp_path, with_document(content, document), "")


def test_networks_are_not_larger_than_their_tensors(tmp_path):
    """Names of huge networks and sizes of heads, in a small file."""
    rng = np.random.default_rng(0)
    X, Y = rng.integers(0, 255, size=(8, 32, 32, 3), dtype=np.uint8), np.where(rng.random((8, 2)) < 0.5, 1, -1)
    backbone = Backbone("squeezenet1_1", weights=None, image_size=32, finetune="head")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = PartialLabelClassifier(backbone=backbone).fit(X, Y)
    skpartial.save(clf, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    for architecture in (
        ["regnet_y_128gf", None],
        ["vit_h_14", 4096],
        ["resnet18", None],
        ["nothing", None],
        ["timm/resnet10t", None],
        ["timm/hf-hub:evil/evil", None],
        ["timm/local-dir:/tmp", None],
        [3, None],
        ["squeezenet1_1", 32],
    ):
        document = document_of(content)
        document["estimator"]["attributes"]["network_"]["body"]["architecture"] = architecture
        refused(tmp_path, with_document(content, document))
    for name in ("n_features", "n_labels"):
        document = document_of(content)
        attributes = document["estimator"]["attributes"]
        place = attributes["_head_context"]
        assert place["class"] == "skpartial.heads.HeadContext"
        place["attributes"][name] = 1 << 40
        refused(tmp_path, with_document(content, document), "its head has different tensors from the saved ones")
