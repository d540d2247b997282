"""Files of earlier versions, which every later one reads and answers the same. `frozen/make.py` made them, with the version that names
their folder; a version whose files differ in kind adds its own.

Networks answer alike on two machines to about 1e-6; what is trained on from a checkpoint is compared more loosely."""
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch

FROZEN = Path(__file__).parent/'frozen'
sys.path.insert(0, str(FROZEN))
import make  # noqa: E402

from foprokd.backbone import load_weights, read_checkpoint  # noqa: E402
from foprokd.data.synth import demo_dls  # noqa: E402
from foprokd.deploy.onnx_student import OnnxStudent  # noqa: E402
from foprokd.measure.compare import compare_runs  # noqa: E402
from foprokd.measure.results import load_results  # noqa: E402
from foprokd.measure.table import format_results  # noqa: E402
from foprokd.prompt import FourierPromptGenerator  # noqa: E402
from foprokd.study.settings import RunConfig, settings_hash  # noqa: E402


@pytest.fixture(params=[p.name for p in sorted(FROZEN.iterdir()) if (p/'answers.npz').exists()])
def files(request): return FROZEN/request.param


@pytest.fixture(autouse=True)
def drawn_once(demo_folder, monkeypatch):
    "The demo set that `make.py` draws"
    monkeypatch.setattr(make, 'demo_dls', lambda: demo_dls(demo_folder))


@pytest.fixture
def answers(files): return np.load(files/'answers.npz')


def alike(a, b, atol=1e-5): np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_a_version_is_there():
    assert (FROZEN/'0.1.0'/'answers.npz').exists()


def test_onnx_student(files, answers):
    if [int(v) for v in onnxruntime.__version__.split('.')[:2]] < [1, 18]: # what 0.1.0 wrote needs 1.18
        with pytest.raises(ValueError, match='newer format than it reads.*pip install -U onnxruntime'): OnnxStudent(files/'student.onnx')
        return
    student = OnnxStudent(files/'student.onnx')
    alike(student.probabilities(make.pixels(64).numpy()), answers['onnx'])
    assert len(student.classes) == answers['onnx'].shape[1]


def test_weights_of_a_student(files, answers, tmp_path):
    "Weights beside a note without architecture, which the reader builds"
    sd, notes = read_checkpoint(files/'student.safetensors')
    net = load_weights(timm.create_model('test_resnet', num_classes=len(notes['vocab']), **make.STUDENT), sd).eval()
    valid = make.make_learner(tmp_path).dls.valid
    with torch.no_grad(): probs = torch.cat([net(x.as_subclass(torch.Tensor)).softmax(1) for x, _ in valid])
    alike(probs, answers['valid'])
    assert notes['vocab'] == list(valid.vocab)


def test_student_and_row_of_a_run(files, answers):
    alike(make.judged(files/'run_student.safetensors'), answers['run'])
    [row] = rows = load_results([files/'run_results.jsonl'])
    assert settings_hash(RunConfig(**row['settings'])) == row['settings_hash']
    tidy = compare_runs(rows, by='method', metrics='accuracy', interval='images')
    assert tidy['mean'].tolist() == [row['accuracy']] and format_results(tidy).splitlines()[2].startswith('| ekd | 0.125 [')


def test_prompt(files, answers):
    prompt = FourierPromptGenerator.from_file(files/'prompt.safetensors')
    x = make.pixels(64).permute(0, 3, 1, 2)[:2] / 255
    with torch.no_grad(): alike(prompt(x, torch.zeros(2, prompt.z_dim)), answers['prompted'])


def test_saved_learner(files, answers, tmp_path):
    learn = make.make_learner(tmp_path)
    assert not np.allclose(make.said(learn), answers['valid'], atol=1e-2), 'an untrained learner must answer otherwise'
    learn.load((files/'learner').resolve(), with_opt=False)
    alike(make.said(learn), answers['valid'])
    with torch.no_grad(): alike(learn.prompt(make.pixels(64).permute(0, 3, 1, 2)[:2] / 255, torch.zeros(2, learn.prompt.z_dim)), answers['prompted'])


def test_checkpoint_is_trained_on_to_the_same_end(files, answers, tmp_path):
    shutil.copytree(files/'kept', tmp_path/'run')
    learn = make.make_learner(tmp_path)
    with learn.no_bar(): history = learn.fit_fopro(**make.phases(tmp_path), resume=True)
    assert [h['name'] for h in history] == ['explore', 'distill']
    alike(make.said(learn), answers['valid'], atol=2e-3)
