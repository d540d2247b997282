"`foprokd_run` as a stranger runs it: another process, another folder, a tiny budget."
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = '--data', 'demo', '--n-max', 40, '--imbalance', 10
METRICS = ['accuracy', 'balanced_accuracy', 'mcc', 'macro_f1', 'macro_auroc', 'recall_head', 'recall_medium', 'recall_tail', 'ece']


def rows(out):
    "The rows that a run wrote"
    return [json.loads(o) for o in (Path(out)/'results.jsonl').read_text().splitlines()]


def leaves(d, prefix=''):
    "Nested dictionaries as one flat dictionary, inner names only"
    res = {}
    for k, v in d.items():
        if isinstance(v, dict): res.update(leaves(v))
        res[k] = v
    return res


@pytest.fixture(scope='module')
def demo(foprokd_run, demo_folder, tmp_path_factory):
    "One run of the whole method on a part of the demo set (drawn before), one epoch a phase; .ci/run runs it whole, from the wheel"
    out = tmp_path_factory.mktemp('demo')/'out'
    shutil.copytree(demo_folder, out/'demo_data')
    return foprokd_run(*SMALL, '--method', 'fopro', '--student', 'test_resnet', '--prompt', 'learned', '--explore', 1, '--distill', 1, '--seeds', 0, '--out', out, figures=True), out


def test_demo_ends_well_and_shows_a_table(demo):
    res, out = demo
    assert res.returncode == 0, res.stderr[-3000:]
    assert 'balanced_accuracy' in res.stdout
    assert 'Traceback' not in res.stdout + res.stderr


def test_demo_writes_one_full_row(demo):
    res, out = demo
    [row] = rows(out)
    flat = leaves(row)
    assert flat['method'] == 'fopro' and int(flat['seed']) == 0
    for name in METRICS:
        assert name in flat, f'{name} is not in the row: {sorted(flat)}'
        assert -1 <= flat[name] <= 1, (name, flat[name])
    low, high = flat['balanced_accuracy_ci']
    assert low <= flat['balanced_accuracy'] <= high
    text = json.dumps(row)
    for what in ('explore', 'distill', 'lr', 'bs', 'size', 'torch', 'timm', 'fastai', 'commit', 'count'):
        assert what in text, f'the row says nothing of {what}'


def test_demo_writes_student_prompt_and_figures(demo):
    res, out = demo
    names = [p.relative_to(out).as_posix() for p in out.rglob('*') if p.is_file()]
    assert any('student' in n for n in names), names
    assert any('prompt' in n and n.endswith('.safetensors') for n in names), names
    figures = [p for p in out.rglob('*.png')]
    assert len(figures) >= 3, names  # prompted images, loss curves, per-class recall
    for p in figures:
        with Image.open(p) as im: assert min(im.size) >= 50 and np.asarray(im.convert('L')).std() > 1, f'{p.name} is blank'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A `labels.csv` of 3 classes, 24 patients with 3 small images each; classes differ in brightness"
    path, rng = tmp_path_factory.mktemp('own'), np.random.default_rng(0)
    with (path/'labels.csv').open('w', newline='') as f:
        w = csv.writer(f)
        w.writerow(['file', 'finding', 'patient'])
        for i in range(72):
            patient = i // 3
            label = patient % 3
            Image.fromarray((rng.random((32, 32, 3)) * 60 + 60 * label).astype('uint8')).save(path/f'im{i}.png')
            w.writerow([f'im{i}.png', 'abc'[label], f'p{patient}'])
    return path


@pytest.mark.parametrize('method', ['bsm', 'cb', 'ekd'])
def test_own_images_with_groups(foprokd_run, folder, tmp_path, method):
    out = tmp_path/'out'
    res = foprokd_run('--data', folder, '--image-col', 'file', '--label-col', 'finding', '--group-col', 'patient', '--method', method,
                      '--student', 'test_resnet', '--teacher', 'embedded', '--size', 32, '--bs', 8, '--distill', 1, '--seeds', 0, '--out', out)
    assert res.returncode == 0, res.stderr[-3000:]
    [row] = rows(out)
    assert leaves(row)['method'] == method


@pytest.mark.parametrize('args, word', [
    (('--data', 'nowhere/at/all'), 'nowhere/at/all'),
    (('--data', 'demo', '--method', 'magic'), 'magic'),
    (('--data', None, '--image-col', 'file', '--label-col', 'finding', '--student', 'resnet-18', '--bs', 8, '--distill', 1), 'resnet-18'),
])
def test_bad_input_is_named(foprokd_run, folder, tmp_path, args, word):
    res = foprokd_run(*(folder if o is None else o for o in args), '--seeds', 0, '--out', tmp_path/'out')
    assert res.returncode != 0
    assert word in res.stderr + res.stdout
    assert not (tmp_path/'out'/'results.jsonl').exists()


def test_help(foprokd_run):
    res = foprokd_run('--help', fresh=True)
    assert res.returncode == 0
    for name in 'data method student teacher teacher_ckpt size bs lr explore distill adversarial imbalance seeds out image_col label_col group_col'.split():
        assert f'--{name}' in res.stdout or f"--{name.replace('_', '-')}" in res.stdout, f'--{name} is not in the help'
