"What an import brings along, counted in modules: seconds depend on the machine. `benchmarks/import_speed.py` measures those."
import json

import pytest

from conftest import ROOT, python

PRINT = 'import json, sys\n{}\nprint(json.dumps(sorted(sys.modules)))'
# Packages that some feature needs and no training does.
HEAVY = ('seaborn', 'onnx', 'onnxscript', 'onnxruntime', 'ipywidgets', 'imagehash', 'captum', 'accelerate', 'wandb', 'tensorboard', 'voila', 'medmnist', 'nbdev')


def modules(code, cwd):
    "Names of the modules that a fresh process has imported after `code`"
    res = python(PRINT.format(code), cwd, fresh=True)
    assert res.returncode == 0, res.stderr[-3000:]
    return set(json.loads(res.stdout.splitlines()[-1]))


@pytest.fixture(scope='module')
def fastai(tmp_path_factory):
    "What fastai and timm import"
    return modules('import fastai.vision.all, timm', tmp_path_factory.mktemp('fastai'))


def tops(names): return {n.split('.')[0] for n in names}


def test_the_package_alone_imports_nothing(tmp_path):
    assert modules('import foprokd', tmp_path) - modules('', tmp_path) == {'foprokd'}


# What a training run does not need, though it is ours.
NOT_OF_THE_LEARNER = ('deploy.', 'frequency.', 'study.', 'measure.table', 'measure.figures', 'data.scan', 'data.synth', 'data.leakage')
OURS = {'.'.join(p.relative_to(ROOT/'foprokd').with_suffix('').parts) for p in (ROOT/'foprokd').rglob('[!_]*.py')}


def test_the_names_below_are_modules():
    "An assertion about a module that is not there holds whatever happens"
    for name in NOT_OF_THE_LEARNER: assert any(o == name or o.startswith(name) for o in OURS), name


def test_the_learner_imports_nothing_that_fastai_and_timm_do_not(fastai, tmp_path):
    got = modules('from foprokd.learner import fopro_learner', tmp_path)
    assert sorted(tops(got - fastai)) == ['foprokd']
    assert not tops(got) & set(HEAVY)
    ours = {n.removeprefix('foprokd.') for n in got if n.startswith('foprokd.')}
    assert {'learner', 'teacher'} <= ours & OURS
    assert [n for n in ours & OURS if n in NOT_OF_THE_LEARNER or n.startswith(tuple(o for o in NOT_OF_THE_LEARNER if o.endswith('.')))] == []


def test_prediction_in_a_clinic_imports_neither_torch_nor_fastai(tmp_path):
    got = modules('from foprokd.deploy.predict import OnnxStudent', tmp_path)
    assert not tops(got) & {'torch', 'torchvision', 'timm', 'fastai', 'fastcore', 'pandas', 'matplotlib', 'scipy', 'sklearn'} and 'foprokd.deploy.predict' in got


def test_a_table_of_results_needs_neither_torch_nor_fastai(tmp_path):
    got = modules('import foprokd.measure.table', tmp_path)
    assert not tops(got) & {'torch', 'fastai', 'timm'} and 'foprokd.measure.table' in got


def test_parts_import_no_heavy_package(fastai, tmp_path):
    got = modules('import foprokd.losses, foprokd.prompt, foprokd.teacher, foprokd.student, foprokd.measure.metrics, foprokd.data.longtail', tmp_path)
    assert tops(got - fastai) == {'foprokd'}
