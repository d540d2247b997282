"""What people do at a shell who do things differently: entries B6, B7, B10, B11, B12, E12 and A10 (flags without effect).

Each test names its entry. Programs run in this process; in one of their own only where pipes and signals are the point."""
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from foprokd.study import commands
from foprokd.study.command import as_command, command_parser, flag_words, loading
from foprokd.study.config import DataConfig, check_used
from foprokd.study.entry import PROGRAMS as MODULES
from foprokd.study.settings import RunConfig

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = 'foprokd_run', 'foprokd_data', 'foprokd_export', 'foprokd_table', 'foprokd_plot', 'foprokd_explore'
FULL = OSError(errno.ENOSPC, 'No space left on device')


def shell(name, *argv):
    "Output, errors and exit code of a program in this process"
    out, err = StringIO(), StringIO()
    with mock.patch.object(sys, 'argv', [name, *map(str, argv)]), redirect_stdout(out), redirect_stderr(err):
        try:
            getattr(import_module(MODULES[name]), name)()
            code = 0
        except SystemExit as e: code = e.code
    return SimpleNamespace(out=out.getvalue(), err=err.getvalue(), code=code)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    "Three classes of 20 small images in class folders, and the same as a table elsewhere"
    root, rng = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    os.environ['FOPROKD_CACHE'] = str(root/'facts')
    lines = ['file,dx,patient']
    for i in range(60):
        label = 'abc'[i % 3]
        (root/'tree'/label).mkdir(parents=True, exist_ok=True)
        Image.fromarray((rng.random((32, 32, 3)) * 90 + 50 * (i % 3)).astype('uint8')).save(root/'tree'/label/f'{i}.png')
        lines.append(f'{label}/{i}.png,{label},p{i // 2}')
    (root/'table.csv').write_text('\n'.join(lines))
    return root


@pytest.fixture(scope='module')
def quick(images):
    return ['--data', images/'tree', '--student', 'test_resnet', '--size', 32, '--bs', 16, '--distill', 1, '--seeds', 0]


@pytest.fixture(autouse=True)
def no_figures():
    "They take most of the time of so small a run"
    with mock.patch('foprokd.study.run_files._save_figures'): yield


def rows(out):
    file = Path(out)/'results.jsonl'
    return [json.loads(o) for o in file.read_text().splitlines()] if file.exists() else []


def only_line(res, code=2):
    "The one line that a program said on stderr"
    assert res.code == code and res.err.count('\n') == 1 and 'Traceback' not in res.err, (res.code, res.err)
    return res.err.strip()


# ------------------------------------------------------------------------------------------------------------- B6
def test_b6_a_finished_run_becomes_a_file_that_says_its_prior(quick, tmp_path):
    "Logits adjusted after training: by hand, the prior of the cross-entropy would be written"
    pytest.importorskip('onnxruntime')
    from foprokd.deploy.onnx_student import OnnxStudent
    asked = []
    with mock.patch('foprokd.study.run_files.write_onnx', lambda learn, file, test: asked.append((type(learn.loss_func).__name__, file.name))):
        res = shell('foprokd_run', *quick, '--method', 'la', '--export', 'onnx', '--quiet', '--out', tmp_path)
    assert res.code == 0 and asked == [('LogitAdjustedLoss', 'student.onnx')], res.err
    [folder] = [p for p in tmp_path.iterdir() if p.is_dir()]
    res = shell('foprokd_export', folder)
    assert res.code == 0 and 'prior of the logits: the loss adjusts logits' in res.out, res.err
    student = OnnxStudent(folder/'student.onnx')
    np.testing.assert_allclose(student.notes.prior_of_logits, [1 / 3] * 3, atol=1e-6)
    assert student.classes == ['a', 'b', 'c'] and student.notes.parity.flips == 0 and student.notes.measured_on == 'test'


def test_b6_what_is_no_finished_run_is_said(quick, tmp_path):
    assert 'is no folder of a finished run' in only_line(shell('foprokd_export', tmp_path))
    assert '--export torch is not onnx' in only_line(shell('foprokd_run', *quick, '--method', 'bsm', '--export', 'torch', '--out', tmp_path))
    with mock.patch('foprokd.study.experiment.import_onnx', side_effect=ImportError("pip install 'foprokd[deploy]'")):
        said = only_line(shell('foprokd_run', *quick, '--method', 'bsm', '--export', 'onnx', '--quiet', '--out', tmp_path))
    assert 'foprokd[deploy]' in said and not rows(tmp_path)  # before the training


# ------------------------------------------------------------------------------------------------------------- B7
@pytest.mark.parametrize('where', ['foprokd.data.files.os.replace', 'numpy.savez_compressed', 'foprokd.study.run_files._save_student'])
def test_b7_the_row_is_written_first_and_the_rest_is_one_line(quick, tmp_path, where):
    error = FULL if where != 'foprokd.study.run_files._save_student' else Exception('SafetensorError: I/O error: No space left on device')
    with mock.patch(where, side_effect=error):
        res = shell('foprokd_run', *quick, '--method', 'bsm', '--quiet', '--out', tmp_path)
    said = only_line(res)
    assert 'No space left on device' in said and '--again' in said and 'results.jsonl' in said and 'balanced_accuracy' in res.out
    assert len(rows(tmp_path)) == 1
    if where != 'numpy.savez_compressed': return
    res = shell('foprokd_run', *quick, '--method', 'bsm', '--quiet', '--again', '--out', tmp_path)
    assert res.code == 0 and list(tmp_path.glob('*/student.safetensors')) and len(rows(tmp_path)) == 2


def test_b7_a_row_that_results_do_not_take_lies_beside_the_student(quick, tmp_path):
    from foprokd.measure import rows as module
    write = module.append_row
    def held(row, file):
        if Path(file).name == 'results.jsonl': raise OSError(errno.EROFS, 'Read-only file system')
        write(row, file)
    with mock.patch('foprokd.study.run_files.append_row', held):
        res = shell('foprokd_run', *quick, '--method', 'bsm', '--quiet', '--out', tmp_path)
    assert res.code == 2 and 'Read-only file system' in res.err and 'row.json' in res.err and 'Traceback' not in res.err
    [folder] = [p for p in tmp_path.iterdir() if p.is_dir()]
    assert json.loads((folder/'row.json').read_text())['method'] == 'bsm' and (folder/'student.safetensors').exists()


@pytest.mark.parametrize('hinder', ['a file', 'a folder as rows', 'no room', 'read-only'])
def test_b7_what_cannot_be_written_is_found_before_the_training(quick, tmp_path, hinder):
    out, patch = tmp_path/'out', mock.patch('foprokd.study.run_files.shutil.disk_usage', lambda p: SimpleNamespace(free=2**30))
    if hinder == 'a file': out.write_text('no folder')
    if hinder == 'a folder as rows': (out/'results.jsonl').mkdir(parents=True)
    if hinder == 'no room': patch = mock.patch('foprokd.study.run_files.shutil.disk_usage', lambda p: SimpleNamespace(free=10**5))
    if hinder == 'read-only': patch = mock.patch('foprokd.study.run_files.TemporaryFile', side_effect=OSError(errno.EROFS, 'Read-only file system'))
    with patch, mock.patch('foprokd.study.experiment._train', side_effect=AssertionError('it was trained')):
        said = only_line(shell('foprokd_run', *quick, '--method', 'bsm', '--quiet', '--out', out))
    assert {'a file': 'cannot be written', 'a folder as rows': 'results.jsonl', 'no room': 'has room for 0.1 MiB', 'read-only': 'Read-only'}[hinder] in said


# ------------------------------------------------------------------------------------------------------------ B10
@pytest.mark.parametrize('more, words', [
    (['--method', 'bsm,fopro', '--teacher-ckpt', '{weights}'], ['fopro: --teacher-ckpt', 'does not name its architecture: give --teacher, a timm name']),
    (['--method', 'bsm,ekd', '--teacher', 'resnet999'], ["ekd: timm has no model 'resnet999'"]),
    (['--method', 'bsm,ekd', '--teacher', 'test_resnet', '--teacher-ckpt', '{absent}'], ['ekd: No checkpoint at']),
    (['--method', 'bsm,at', '--teacher', 'embedded', '--teacher-ckpt', '{text}'], ['at: ', 'notes.pth']),
    (['--method', 'bsm,ce', '--student-ckpt', '{absent}'], ['2 of 2 kinds of runs cannot work; bsm: No checkpoint at']),
    (['--method', 'bsm,ekd', '--teacher', 'resnet18'], ['could not be fetched', 'give a local file with --teacher-ckpt, or --teacher-kwargs pretrained=False']),
])
def test_b10_all_runs_are_tried_before_the_first_is_trained(quick, tmp_path, more, words):
    import torch
    names = dict(weights=tmp_path/'plain.pth', absent=tmp_path/'absent.pth', text=tmp_path/'notes.pth')
    torch.save({'w': torch.zeros(3)}, names['weights'])
    names['text'].write_text('no weights')
    import timm
    build = timm.create_model
    def offline(name, pretrained=False, **kwargs):
        if pretrained: raise OSError('no network')
        return build(name, **kwargs)
    with mock.patch('timm.create_model', offline), mock.patch('foprokd.study.experiment._train', side_effect=AssertionError('it was trained')):
        said = only_line(shell('foprokd_run', *quick, *(o.format(**names) for o in more), '--quiet', '--out', tmp_path/'out'))
    assert all(w in said for w in words) and said.endswith('Nothing was trained.') and not rows(tmp_path/'out'), said
    assert not re.search(r'\b(teacher_|student_|data_|FrozenTeacher|ckpt=)', said), said


def test_b10_a_grid_is_tried_too_and_one_that_works_is_run(images, tmp_path):
    shared = f'shared: {{data: {images}/tree, student: test_resnet, size: 32, bs: 16, distill: 1, teacher_size: "32"}}\n'
    (tmp_path/'bad.yaml').write_text(shared + 'runs: [{method: bsm}, {method: ekd, name: ours, teacher: no_such_net}]')
    (tmp_path/'good.yaml').write_text(shared + 'runs: [{method: bsm}, {method: ekd, name: ours}]')
    said = only_line(shell('foprokd_run', '--grid', tmp_path/'bad.yaml', '--quiet', '--out', tmp_path/'out'))
    assert 'ours: timm has no model' in said and not rows(tmp_path/'out')
    res = shell('foprokd_run', '--grid', tmp_path/'good.yaml', '--quiet', '--out', tmp_path/'out')
    assert res.code == 0 and [r['method'] for r in rows(tmp_path/'out')] == ['bsm', 'ekd'], res.err


@pytest.mark.parametrize('message, said', [
    ("method='akd' is not one of ce, cbs.", '--method akd is not one of ce, cbs.'),
    ("data='isic' needs data_root, the folder.", '--data isic needs --data-root, the folder.'),
    ("leave them out with bad='drop' (--bad drop).", 'leave them out with --bad drop.'),
    ("root= (--data-root) names the folder", '--data-root names the folder'),
    ("bs=3.5 is no int; give teacher=, a name.", '--bs 3.5 is no int; give --teacher, a name.'),
    ("labels.csv has no column 'data_root'; it has name, data, test.", "labels.csv has no column 'data_root'; it has name, data, test."),
    ("'/a/data_root/test=3/x.png' cannot be read", "'/a/data_root/test=3/x.png' cannot be read"),
    ("run it with again=True (--again).", 'run it with --again.'),
    ("'x' is not of the form name=value.", "'x' is not of the form name=value."),
    ("needs `explore` of at least 1 epoch", 'needs --explore of at least 1 epoch'),
])
def test_b10_a_command_speaks_of_its_flags(message, said):
    assert flag_words(message, command_parser(commands.foprokd_run.__wrapped__).names) == said


# ------------------------------------------------------------------------------------------------------------ A10
@pytest.mark.parametrize('flags', [
    ['--method', 'bsm', '--teacher-size', '64'], ['--method', 'ce,cb', '--teacher', 'resnet18'], ['--method', 'kd', '--lam', '1'], ['--method', 'bsm', '--explore', '3'],
    ['--method', 'probe', '--student', 'resnet34'], ['--method', 'ekd', '--explore-lr', '.1'], ['--image-col', 'file'], ['--label-col', 'dx'], ['--data-root', '/elsewhere'],
    ['--n-folds', '3'], ['--profile', 'pareto'], ['--missing', 'drop'], ['--fold', '1', '--test', '.3'], ['--method-kwargs', 'temperature=4'], ['--method', 'ekd', '--method-kwargs', 'temperature=4'],
    ['--data', 'demo', '--data-root', '/elsewhere'], ['--data', 'demo', '--valid', '.3'],
])
def test_a10_a_flag_without_effect_is_refused(images, tmp_path, flags):
    given = [] if '--data' in flags else ['--data', images/'tree']
    said = only_line(shell('foprokd_run', *given, *flags, '--out', tmp_path/'out'))
    last = next(f for f in reversed(flags) if f.startswith('--'))
    assert 'no effect' in said and last in said and not (tmp_path/'out').exists(), said


@pytest.mark.parametrize('flags', [
    ['--method', 'bsm,ekd', '--teacher-size', '64'], ['--method', 'bsm', '--explore', '0'], ['--method', 'bsm', '--teacher', 'embedded', '--lam', '3'], ['--method', 'kd', '--explore', '3'],
    ['--method', 'ekd', '--method-kwargs', 'soft=1 temperature=4', '--explore', '3'], ['--fold', '1', '--n-folds', '3'], ['--imbalance', '10', '--profile', 'pareto'], ['--image-col', 'image'],
    ['--data', '{table}', '--image-col', 'file', '--label-col', 'dx', '--group-col', 'patient', '--data-root', '{root}'], ['--split-seed', '1'], ['--data', 'demo', '--split-seed', '1'], ['--bad', 'drop'],
])
def test_a10_a_flag_that_one_run_uses_is_taken(images, flags):
    names = dict(table=images/'table.csv', root=images/'tree')
    given = dict(zip([f[2:].replace('-', '_') for f in flags[::2]], [v.format(**names) for v in flags[1::2]]))
    given.setdefault('data', str(images/'tree'))
    assert commands.grid_from_flags(None, None, given)


def test_a10_a_grid_entry_with_a_setting_of_no_use_is_refused(tmp_path):
    from foprokd.study.grid import read_grid
    for entry in ('{method: bsm, teacher_size: 64}', '{method: [ce, bsm], lam: [1, 2]}', '{method: fopro, n_folds: 3}'):
        (tmp_path/'g.yaml').write_text(f'runs: [{{method: fopro}}, {entry}]')
        with pytest.raises(ValueError, match='Run 2 of g.yaml: .*has no effect'): read_grid(tmp_path/'g.yaml')
    (tmp_path/'g.yaml').write_text('shared: {teacher_size: 64}\nruns: [{method: bsm}, {method: ce}]')
    with pytest.raises(ValueError, match='The runs of g.yaml: teacher_size=64 has no effect'): read_grid(tmp_path/'g.yaml')
    (tmp_path/'g.yaml').write_text('shared: {teacher_size: 64}\nruns: [{method: [bsm, ekd]}]')
    with pytest.raises(ValueError, match='lam=2.0 has no effect'): read_grid(tmp_path/'g.yaml', method='bsm', lam=2., teacher_size=None)
    assert len(read_grid(tmp_path/'g.yaml')) == 2
    for file in (ROOT/'studies').glob('*.yaml'): assert read_grid(file), file


def test_a10_rows_of_old_runs_load_whatever_they_hold():
    cfg = RunConfig(method='bsm', teacher_size='96', lam=1.)
    with pytest.raises(ValueError, match='no effect'): check_used(dict(lam=1.), [cfg])
    given = dict(image_col='file', group_col='patient', data_root='.', missing='drop', n_folds=3, profile='pareto', n_max=9, protocol='fixed')
    for kind in (DataConfig, RunConfig):
        old = kind(**given) # every setting but the last few was once taken, and each changes nothing on the demo set
        assert set(given) <= set(old.idle())
        for k, v in given.items():
            with pytest.raises(ValueError, match=f'{k}=.*no effect'): check_used({k: v}, [old])


def test_a10_what_names_no_experiment_separates_no_rows():
    from foprokd.measure import results
    from foprokd.study import settings
    assert set(results._FREE) == settings._ELSEWHERE | {'fold'}


# ------------------------------------------------------------------------------------------------------------ B11
TALK = '''
import os, signal, sys, time, warnings
from foprokd.study.command import as_command, loading
@as_command
def talk(how:str=''):
    "Talk on"
    warnings.warn('of a package', FutureWarning)
    with loading(): warnings.warn('while loading'); time.sleep(30 if how == 'loading' else 0)
    warnings.warn('data_root=3 is odd')
    if how == 'later': time.sleep(30)
    for _ in range(30_000): print('words')
    open('end', 'w').write('reached')
talk()
'''


def hear(): signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background was told to ignore Ctrl-C


def talk(folder, command, **kwargs):
    (folder/'talk.py').write_text(TALK)
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hear, **kwargs)


def test_b11_a_reader_that_leaves_does_not_end_the_program(tmp_path):
    p = talk(tmp_path, ['bash', '-c', f'set -o pipefail; {sys.executable} talk.py | head -1; exit ${{PIPESTATUS[0]}}'])
    out, err = p.communicate(timeout=60)
    assert (p.returncode, out, (tmp_path/'end').read_text()) == (0, 'words\n', 'reached')
    assert err == 'talk: data_root=3 is odd\n'  # nothing of what is for developers, and no line of code


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_b11_output_without_room_does_not_end_the_program_and_is_said(tmp_path):
    p = talk(tmp_path, ['bash', '-c', f'{sys.executable} talk.py >/dev/full'])
    out, err = p.communicate(timeout=60)
    assert (p.returncode, (tmp_path/'end').read_text()) == (2, 'reached')
    assert err.splitlines()[-1] == 'talk: its output could not be written (No space left on device)'


@pytest.mark.parametrize('how', ['loading', 'later'])
def test_b11_ctrl_c_is_one_line(tmp_path, how):
    p = talk(tmp_path, [sys.executable, 'talk.py', '--how', how], start_new_session=True)
    time.sleep(1.5)
    os.killpg(p.pid, signal.SIGINT)
    out, err = p.communicate(timeout=30)
    assert p.returncode == 130 and err.splitlines()[-1] == 'talk: interrupted' and 'Traceback' not in err, err


def test_b11_ctrl_c_is_one_line_from_the_first_import_on():
    late = 'import os, signal, foprokd.study.entry as e; e.import_module = lambda m: os.kill(os.getpid(), signal.SIGINT); e.foprokd_run()'
    res = subprocess.run([sys.executable, '-c', late], env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, timeout=30,
                         preexec_fn=hear)
    assert (res.returncode, res.stderr) == (130, '\nfoprokd_run: interrupted\n')
    scripts = re.search(r'^console_scripts = (.*)$', (ROOT/'settings.ini').read_text(), re.M)[1].split()
    from foprokd.study import entry
    assert {s.split('=')[0] for s in scripts} == {*PROGRAMS, 'foprokd_predict'} == {*entry.PROGRAMS}


def test_b11_a_notebook_keeps_its_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    with loading(): assert signal.getsignal(signal.SIGINT) is before


def test_b11_output_that_nobody_watches_has_lines_and_no_bars(quick, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        res = shell('foprokd_run', *quick[:-2], '--distill', 2, '--method', 'bsm', '--out', tmp_path)
    assert res.code == 0 and res.err == ''
    assert '\r' not in res.out and '█' not in res.out and '|---' not in res.out
    lines = [o for o in res.out.splitlines() if o.startswith('epoch ')]
    assert len(lines) == 2 and 'train_loss' in lines[0] and 'valid_loss' in lines[0], res.out


# ------------------------------------------------------------------------------------------------------------ B12
@pytest.mark.parametrize('name', PROGRAMS)
def test_b12_help_has_groups_an_example_and_a_version(name):
    from foprokd import __version__
    text = shell(name, '--help').out
    assert 'example' in text and f'{name} ' in text.split('example')[1] and '--version' in text
    assert max(map(len, text.splitlines())) <= 100 and 'None' not in text and 'Called from Python' not in text
    assert not re.search(r'(?<![-\w])[a-z]+_[a-z]+(?![\w.]*\))', re.sub(rf'{"|".join(PROGRAMS)}|isic2019_lt|hyper_kvasir|foprokd_predict|fopro_\w+|test_resnet|bal_mixup|ldam_drw|w_cls, w_prior, w_div|pad_type|bn_eps|balanced_accuracy,\S+', '', text)), text
    assert shell(name, '--version').out == f'foprokd {__version__}\n'
    if name == 'foprokd_run':
        for title in ('what is run', 'data', 'teacher and prompt', 'student', 'training', 'output'): assert f'\n{title}:\n' in text
        assert '\noptions:\n' not in text, 'a flag without a heading'


SPEED = '''
import sys
from importlib import import_module
from foprokd.study.entry import PROGRAMS
for name, *argv in {cases}:
    sys.argv = [name, *argv]
    try: getattr(import_module(PROGRAMS[name]), name)()
    except SystemExit: pass
print('heavy', [m for m in ('torch', 'fastai', 'pandas', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])
'''


def test_b12_help_and_wrong_words_load_nothing_that_takes_seconds():
    cases = [(n, '--help') for n in PROGRAMS] + [('foprokd_run', '--metod', 'fopro'), ('foprokd_run', '--method', 'akd'), ('foprokd_run', '--bs', 'many'), ('foprokd_run', 'images'),
             ('foprokd_run', '--lr', '-1'), ('foprokd_run', '--data', 'no/folder'), ('foprokd_data', '--data', 'no/folder'), ('foprokd_run', '--grid', 'none.yaml'), ('foprokd_data', '--data', 'images', '--n-folds', '3'), ('foprokd_plot', 'runs', '--kind', 'pie'),
             ('foprokd_run', '--method', 'bsm', '--teacher-size', '9'), ('foprokd_export',), ('foprokd_table',)]
    res = subprocess.run([sys.executable, '-c', SPEED.format(cases=cases)], env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert res.stdout.splitlines()[-1] == 'heavy []', res.stdout[-300:] + res.stderr
    assert 'did you mean --method?' in res.stderr and res.stderr.count('\n') == len(cases) - len(PROGRAMS)


def test_b12_no_interval_leaves_the_range_of_its_score():
    from foprokd.study.jobs import summary_table
    ones = [dict(name='', method='bsm', seed=s, accuracy=a, accuracy_ci=None, mcc=m, mcc_ci=None, ece=e, ece_ci=None) for s, a, m, e in ((0, .9, -.9, .01), (1, 1., -1., .2), (2, .95, .9, .0))]
    text = summary_table(ones).bsm
    for k, low in (('accuracy', 0), ('mcc', -1), ('ece', 0)):
        ends = [float(o) for o in text[k].partition('[')[2].rstrip(']').split(', ') if o]
        assert all(low <= o <= 1 for o in ends) and (ends or k == 'ece'), text[k]


def test_b12_an_unwritable_cache_means_one_scan(images, tmp_path, monkeypatch):
    from foprokd.data import scan
    (tmp_path/'file').write_text('no folder')
    monkeypatch.setenv('FOPROKD_CACHE', str(tmp_path/'file'/'below'))
    looked, look = [], scan.inspect_file
    monkeypatch.setattr(scan, 'inspect_file', lambda f, m=None: (looked.append(f), look(f, m))[1])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        files = sorted(map(str, (images/'tree').rglob('*.png')))
        first, again = scan.scan_images(files), scan.scan_images(files)
        os.utime(files[0])  # a file that was touched is looked at again
        scan.scan_images(files)
    assert first.equals(again) and len(looked) == len(files) + 1
    assert sum('cannot be remembered' in str(o.message) for o in seen) == 1


# ------------------------------------------------------------------------------------------------------------ E12
def test_e12_without_a_flag_the_demo_is_that_of_make_demo():
    words = re.search(r'^DEMO_FLAGS \?= (.*)$', (ROOT/'Makefile').read_text(), re.M)[1].split()
    given = dict(zip([w[2:] for w in words[::2]], words[1::2]))
    [(plain, seeds)], [(made, _)] = commands.grid_from_flags(None, None, {}), commands.grid_from_flags(None, None, given)
    assert plain == made and seeds == [0]
    assert (plain.data, plain.method, plain.student, plain.explore, plain.distill, plain.lr) == ('demo', 'fopro', 'test_resnet', 5, 15, 3e-3)
    assert commands.grid_from_flags(None, None, dict(data='demo', distill=2, method='bsm'))[0][0] == RunConfig(method='bsm', student='test_resnet', distill=2, lr=3e-3)
    assert commands.grid_from_flags(None, None, dict(data='images'))[0][0] == RunConfig(data='images') and RunConfig().student == 'resnet18'


def test_program_of_a_function_is_that_function(tmp_path):
    "The pieces above do not change what a notebook calls"
    f = as_command(lambda a=1: a)
    assert f(a=2) == 2
