"An exported student against its Learner, from the images' files on: a CNN, a mobile CNN and a ViT at two sizes."
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import Learner

import foprokd.deploy.export as export
from foprokd.data.labels import read_labels
from foprokd.data.loaders import image_dls
from foprokd.deploy.export import export_onnx
from foprokd.losses import BalancedSoftmaxLoss
from foprokd.data.longtail import class_counts
from foprokd.deploy.graph import student_graph
from foprokd.deploy.policy import image_sources
from foprokd.deploy.onnx_student import OnnxStudent
from foprokd.data.splits import split_data
from foprokd.student import Student
from foprokd.data.synth import demo_set

onnx = pytest.importorskip('onnx')
DATA = os.environ.get('FOPROKD_DATA')


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    "Skin lesions where they are, 128 x 96 pixels; else the demo set at 80 x 80"
    if DATA and (Path(DATA)/'skin').is_dir():
        df = read_labels(Path(DATA)/'skin', group_col='lesion_id', bad=None)
        return split_data(df[df.group.isin(df.group.unique()[::4])], valid=.12, test=.4, imbalance=20)
    return read_labels(demo_set(tmp_path_factory.mktemp('demo')/'set', size=80, n_max=100, ratio=10, n_valid=20, n_test=1))


def learner(arch, size, df):
    "Two hundred images have been seen, so that the statistics of BatchNorm are not those of a new network"
    torch.manual_seed(0)
    dls = image_dls(df, size=size, bs=50, seed=0, cache=False)
    net = Student(arch, len(dls.vocab), **(dict(img_size=size) if 'vit' in arch else {}))
    learn = Learner(dls, net, loss_func=BalancedSoftmaxLoss(class_counts(dls)), lr=1e-3)
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    for (x, y), _ in zip(dls.train, range(4)):
        opt.zero_grad()
        learn.loss_func(net(x), y).backward()
        opt.step()
    return learn


@pytest.fixture(scope='module')
def small(table):
    "A small CNN at 64 x 64, which several tests export"
    return learner('test_resnet', 64, table)


@pytest.fixture(scope='module')
def graphs():
    "Stands for `student_graph` where only the small CNN is exported: a graph is made once, and each call has a copy of its own"
    made = {}

    def copy(net, policy, prior, scale, choice):
        if choice not in made: made[choice] = student_graph(net, policy, prior, scale, choice).SerializeToString()
        return onnx.load_from_string(made[choice])
    return copy


@pytest.fixture(scope='module')
def exported(small, graphs, tmp_path_factory):
    "The file of the small CNN"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(export, 'student_graph', graphs)
        return export_onnx(small, tmp_path_factory.mktemp('small')/'student.onnx')


ONCE = [('test_resnet', 64), ('test_vit', 64)]
AGAIN = [('test_resnet', 96), ('test_efficientnet', 96), ('test_efficientnet', 64), ('test_vit', 96), ('mobilenetv3_small_050', 64), ('mobilenetv3_small_050', 96)]


@pytest.mark.parametrize('arch,size', [*ONCE, *(pytest.param(*o, marks=pytest.mark.long) for o in AGAIN)])
def test_parity(arch, size, table, small, exported, tmp_path):
    first = (arch, size) == ONCE[0]
    learn = small if first else learner(arch, size, table)
    student = OnnxStudent(exported if first else export_onnx(learn, tmp_path/'student.onnx'), threads=2)
    parity = student.notes.parity
    assert parity.n == len(learn.dls.valid_ds) > 100
    assert parity.flips == parity.raw.flips == 0
    assert max(parity.max_difference, parity.raw.max_difference, parity.batch_difference) <= 1e-4
    with learn.no_bar(): probs = learn.get_preds()[0].numpy()
    x = np.stack([student.open(o) for o in image_sources(learn.dls.valid)[:64]])
    for n in (1, 2, 7, 33, 64): assert np.abs(student.probabilities(x[:n]) - probs[:n]).max() < 1e-4


def test_a_broken_export_is_refused(small, graphs, tmp_path, monkeypatch):
    "One weight is off: no file, but one put aside, and a second export is none the wiser"
    def broken(*args):
        model = graphs(*args)
        w = max(model.graph.initializer, key=lambda o: len(o.raw_data))
        a = onnx.numpy_helper.to_array(w).copy()
        a[0] += 1
        w.CopyFrom(onnx.numpy_helper.from_array(a, w.name))
        return model

    monkeypatch.setattr(export, 'student_graph', broken)
    with pytest.raises(ValueError, match='is refused and kept as'): export_onnx(small, tmp_path/'student.onnx')
    assert [f.name for f in tmp_path.iterdir()] == ['student.refused.onnx']
    monkeypatch.setattr(export, 'student_graph', graphs)
    export_onnx(small, tmp_path/'student.onnx')
    assert [f.name for f in tmp_path.iterdir()] == ['student.onnx']


def test_a_batch_size_built_in_is_refused(small, graphs, tmp_path, monkeypatch):
    "Even where all else is right"
    def fixed(*args):
        model = graphs(*args)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        return model

    monkeypatch.setattr(export, 'student_graph', fixed)
    with pytest.raises(ValueError, match='is refused and kept as'): export_onnx(small, tmp_path/'student.onnx')
    assert not (tmp_path/'student.onnx').exists()


def test_the_file_tells_nothing_of_the_machine(exported):
    "Neither folders nor names of source files"
    data = exported.read_bytes()
    assert b'.py' not in data and str(exported.parent).encode() not in data and b'site-packages' not in data
