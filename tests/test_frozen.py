"""Files of earlier versions, which every later one reads and answers the same. `frozen/make.py` made them, with the version that names
their folder; formats that came after the last release lie in `unreleased`.

Networks answer alike on two machines to about 1e-6; what is trained on from a checkpoint is compared more loosely."""
import json
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
from fastai.learner import load_learner  # noqa: E402

from foprokd.data.labels import read_labels  # noqa: E402
from foprokd.data.splits import check_split  # noqa: E402
from foprokd.data.synth import demo_dls  # noqa: E402
from foprokd.deploy.onnx_student import OnnxStudent  # noqa: E402
from foprokd.deploy.predict import foprokd_predict  # noqa: E402
from foprokd.frequency.sensitivity import SensitivityMap  # noqa: E402
from foprokd.measure.compare import compare_runs  # noqa: E402
from foprokd.measure.results import load_results  # noqa: E402
from foprokd.measure.table import format_results  # noqa: E402
from foprokd.prompt import FourierPromptGenerator  # noqa: E402
from foprokd.study.finished import finished_learner  # noqa: E402
from foprokd.measure.lost import read_predictions  # noqa: E402
from foprokd.study.settings import RunConfig, settings_hash  # noqa: E402


@pytest.fixture(params=[p.name for p in sorted(FROZEN.iterdir()) if (p/'answers.npz').exists()])
def files(request): return FROZEN/request.param


@pytest.fixture(autouse=True)
def drawn_once(demo_folder, monkeypatch):
    "The demo set that `make.py` draws"
    monkeypatch.setattr(make, 'demo_dls', lambda **kwargs: demo_dls(None if kwargs else demo_folder, **kwargs))


@pytest.fixture
def answers(files): return np.load(files/'answers.npz')


@pytest.fixture(scope='module', params=[p.parent.name for p in sorted(FROZEN.glob('*/formats.tar.xz'))])
def formats(request, tmp_path_factory):
    "The files of `make.new`, unpacked"
    folder = tmp_path_factory.mktemp('formats')
    shutil.unpack_archive(FROZEN/request.param/'formats.tar.xz', folder)
    return folder


@pytest.fixture
def new_answers(formats): return {**np.load(formats/'formats.npz'), **json.loads((formats/'formats.json').read_text())}


def alike(a, b, atol=1e-5): np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_a_version_is_there():
    assert (FROZEN/'0.1.0'/'answers.npz').exists() and [*FROZEN.glob('*/formats.tar.xz')]


def test_every_format_is_kept(formats):
    "What `make.new` writes; a format that is added there has a test here"
    kept = {o.relative_to(formats).as_posix() for o in formats.rglob('*') if o.is_file()}
    read = {'bank/a0dd4a9c0194/view_0/checksums.json', 'bank/a0dd4a9c0194/view_0/features.npy', 'bank/a0dd4a9c0194/view_0/picture.npy', 'formats.json', 'formats.npz', 'grid.toml',
            'grid.yaml', 'int8.onnx', 'labels.csv', 'learner.pkl', 'map.safetensors', 'prior.json', 'rows.jsonl', 'run/history.json', 'run/student.safetensors', 'run/test_predictions.npz',
            'rung.prompt.safetensors', 'small_kept/00000003.ckpt', 'timm/config.json', 'timm/model.safetensors'}
    assert kept == read
    assert sum(o.stat().st_size for o in FROZEN.glob('*/formats.tar.xz')) < 300_000


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


def test_exported_learner(formats, new_answers, tmp_path):
    "fastai's pickle, which holds functions as code of one Python: it is read by that one, and a clinic is given .onnx"
    if new_answers['python'] != list(sys.version_info[:2]):
        with pytest.raises(Exception): load_learner(formats/'learner.pkl')  # noqa: B017
        return
    learn, dls = load_learner(formats/'learner.pkl'), make.demo_dls(**make.DEMO)
    files = [Path(dls.path)/name for name in dls.valid.items.image]
    with learn.no_bar(): alike(learn.get_preds(dl=learn.dls.test_dl(files))[0].numpy(), new_answers['valid'])


def test_folder_for_timm(formats, new_answers, tmp_path):
    net = timm.create_model(f"local-dir:{formats/'timm'}", pretrained=True).eval()
    valid = make.small_learner(tmp_path).dls.valid
    with torch.no_grad(): alike(torch.cat([net(x.as_subclass(torch.Tensor)).softmax(1) for x, _ in valid]), new_answers['valid'])
    assert json.loads((formats/'timm'/'config.json').read_text())['label_names'] == list(valid.vocab)


def test_student_in_eight_bits_and_prior(formats, new_answers, tmp_path, capsys):
    "Answers at the file's prior, and at that of a JSON file"
    x, prior = make.pixels(32).numpy(), json.loads((formats/'prior.json').read_text())
    alike(OnnxStudent(formats/'int8.onnx').probabilities(x), new_answers['int8'], atol=.02)
    alike(OnnxStudent(formats/'int8.onnx', prior=prior).probabilities(x), new_answers['tilted'], atol=.02)
    image = next(Path(make.demo_dls(**make.DEMO).path).rglob('*.png'))
    with pytest.raises(SystemExit) as left: foprokd_predict([str(o) for o in (formats/'int8.onnx', image, '--prior', formats/'prior.json')])
    assert left.value.code == 0 and len(capsys.readouterr().out.splitlines()) == 2


def test_prompt_of_a_rung(formats, new_answers):
    prompt = FourierPromptGenerator.from_file(formats/'rung.prompt.safetensors')
    assert prompt.rung == 'radial'
    with torch.no_grad(): alike(prompt(make.pixels(32).permute(0, 3, 1, 2)[:2] / 255)[..., ::4, ::4], new_answers['prompted'])


def test_checkpoint_of_a_phase_goes_on_to_the_same_end(formats, new_answers, tmp_path):
    shutil.copytree(formats/'small_kept', tmp_path/'small')
    learn = make.small_learner(tmp_path)
    with learn.no_bar(): history = learn.fit_fopro(**make.small_phases(tmp_path), resume=True)
    assert [h['name'] for h in history] == ['explore', 'distill']
    alike(make.said(learn), new_answers['valid'], atol=2e-3)


def test_map_and_answers_of_a_bank(formats):
    m, want = SensitivityMap.load(formats/'map.safetensors'), make.the_map()
    for k in ('cosine', 'l2', 'norm', 'measured'): np.testing.assert_array_equal(getattr(m, k), getattr(want, k))
    assert m.group.tolist() == ['0', '1'] and (m.width, m.eps, m.name) == (8, .1, 'a')
    bank = make.bank(formats)
    assert bank.has(0)
    for k, v in make.answers_of_bank().items(): np.testing.assert_array_equal(bank.read(0)[k], v)


def test_grids_are_the_same_runs(formats, new_answers):
    "With the hashes by which rows count as done"
    if sys.version_info < (3, 11): make.GRID.pop('toml', None)
    kept = {k: v for k, v in new_answers['grid'].items() if sys.version_info >= (3, 11) or not k.startswith('kd ')}
    assert make.grids(formats) == kept


def test_label_table(formats):
    "Names that other readers take for numbers or nothing, groups, and a split"
    for line in make.LABELS[1:]: (formats/line.split(',')[0]).touch()
    df = read_labels(formats/'labels.csv', group_col='group', bad=None)
    assert df.label.value_counts().to_dict() == {'nævus': 6, '01': 6, 'NA': 6} and df.group.nunique() == 9
    assert df.split.value_counts().to_dict() == dict(train=6, valid=6, test=6)
    check_split(df, leaks='allow')


def test_run_folder_and_its_rows(formats):
    "Rows of a success and of a failure; predictions; and the student as a learner once more, which answers as it did, or it is refused"
    rows = load_results(formats/'rows.jsonl')
    [row], [failed] = rows, rows.failed
    assert settings_hash(RunConfig(**row['settings'])) == row['settings_hash'] and failed['failed'] == 'ValueError: no luck'
    saved = read_predictions(formats/'run'/'test_predictions.npz')
    assert (saved['probs'].argmax(1) == saved['targs']).mean() == row['accuracy'] and str(saved['settings_hash']) == row['settings_hash']
    assert json.loads((formats/'run'/'history.json').read_text())[0]['name'] == 'distill'
    learn, test = finished_learner(formats/'run')
    assert list(learn.dls.vocab) == row['classes'] and len(test.dataset) == len(saved['targs'])
