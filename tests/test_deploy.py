"An exported student against its Learner, from the images' files on: a CNN, a mobile CNN and a ViT at two sizes."
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import Learner

from foprokd.data.labels import read_labels
from foprokd.data.loaders import image_dls
from foprokd.deploy.export import export_onnx
from foprokd.losses import BalancedSoftmaxLoss
from foprokd.data.longtail import class_counts
from foprokd.deploy.policy import image_sources
from foprokd.deploy.onnx_student import OnnxStudent
from foprokd.data.splits import split_data
from foprokd.student import Student
from foprokd.data.synth import demo_set

DATA = os.environ.get('FOPROKD_DATA')


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    "Skin lesions where they are, 128 x 96 pixels; else the demo set at 80 x 80"
    if DATA and (Path(DATA)/'skin').is_dir():
        return split_data(read_labels(Path(DATA)/'skin', group_col='lesion_id', bad=None), valid=.03, test=.4, imbalance=100)
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


@pytest.mark.parametrize('size', [64, 96])
@pytest.mark.parametrize('arch', ['test_resnet', 'mobilenetv3_small_050', 'test_vit'])
def test_parity(arch, size, table, tmp_path):
    learn = learner(arch, size, table)
    student = OnnxStudent(export_onnx(learn, tmp_path/'student.onnx'), threads=2)
    parity = student.notes.parity
    assert parity.n == len(learn.dls.valid_ds) > 100
    assert parity.flips == parity.raw.flips == 0
    assert max(parity.max_difference, parity.raw.max_difference, parity.batch_difference) <= 1e-4
    with learn.no_bar(): probs = learn.get_preds()[0].numpy()
    x = np.stack([student.open(o) for o in image_sources(learn.dls.valid)[:64]])
    for n in (1, 2, 7, 33, 64): assert np.abs(student.probabilities(x[:n]) - probs[:n]).max() < 1e-4


def test_a_broken_export_is_refused(table, tmp_path, monkeypatch):
    "One weight is off: no file, but one put aside, and a second export is none the wiser"
    import foprokd.deploy.export as export
    from onnx import numpy_helper
    learn, sound = learner('test_resnet', 64, table), export.student_graph

    def broken(*args):
        model = sound(*args)
        w = max(model.graph.initializer, key=lambda o: len(o.raw_data))
        a = numpy_helper.to_array(w).copy()
        a[0] += 1
        w.CopyFrom(numpy_helper.from_array(a, w.name))
        return model

    monkeypatch.setattr(export, 'student_graph', broken)
    with pytest.raises(ValueError, match='is refused and kept as'): export_onnx(learn, tmp_path/'student.onnx')
    assert [f.name for f in tmp_path.iterdir()] == ['student.refused.onnx']
    monkeypatch.setattr(export, 'student_graph', sound)
    export_onnx(learn, tmp_path/'student.onnx')
    assert [f.name for f in tmp_path.iterdir()] == ['student.onnx']


def test_a_batch_size_built_in_is_refused(table, tmp_path, monkeypatch):
    "Even where all else is right"
    import foprokd.deploy.export as export
    learn, sound = learner('test_resnet', 64, table), export.student_graph

    def fixed(*args):
        model = sound(*args)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        return model

    monkeypatch.setattr(export, 'student_graph', fixed)
    with pytest.raises(ValueError, match='is refused and kept as'): export_onnx(learn, tmp_path/'student.onnx')
    assert not (tmp_path/'student.onnx').exists()


def test_the_file_tells_nothing_of_the_machine(table, tmp_path):
    "Neither folders nor names of source files"
    data = export_onnx(learner('test_resnet', 64, table), tmp_path/'student.onnx').read_bytes()
    assert b'.py' not in data and str(tmp_path).encode() not in data and b'site-packages' not in data
