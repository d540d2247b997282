"What an import brings along, counted in modules: seconds depend on the machine. `benchmarks/import_speed.py` measures those."
import json

import pytest

from conftest import python

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


def test_the_learner_imports_nothing_that_fastai_and_timm_do_not(fastai, tmp_path):
    got = modules('from foprokd.learner import fopro_learner', tmp_path)
    assert sorted(tops(got - fastai)) == ['foprokd']
    assert not tops(got) & set(HEAVY)
    ours = {n for n in got if n.startswith('foprokd.')}
    assert not ours & {f'foprokd.{n}' for n in ('deploy.export', 'deploy.report', 'deploy.saliency', 'study.experiment', 'study.grid', 'measure.table', 'measure.figures',
                                            'frequency.explorer', 'data.scan', 'data.synth')}


def test_prediction_in_a_clinic_imports_neither_torch_nor_fastai(tmp_path):
    assert not tops(modules('from foprokd.deploy.predict import OnnxStudent', tmp_path)) & {'torch', 'fastai', 'fastcore', 'pandas', 'matplotlib', 'scipy', 'sklearn'}


def test_parts_import_no_heavy_package(fastai, tmp_path):
    got = modules('import foprokd.losses, foprokd.prompt, foprokd.teacher, foprokd.student, foprokd.measure.metrics, foprokd.data.longtail', tmp_path)
    assert tops(got - fastai) == {'foprokd'}
