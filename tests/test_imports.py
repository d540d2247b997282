"What an import brings along, counted in modules: seconds depend on the machine. `benchmarks/import_speed.py` measures those."
import ast
import json

from conftest import ROOT, python

PRINT = 'import json, sys\nseen = []\n{}\nprint(json.dumps(seen))'
SEE = 'seen.append(sorted(sys.modules))'
# Packages that some feature needs and no training does.
HEAVY = ('seaborn', 'onnx', 'onnxscript', 'onnxruntime', 'ipywidgets', 'imagehash', 'captum', 'accelerate', 'wandb', 'tensorboard', 'voila', 'medmnist', 'nbdev', 'pydicom', 'highdicom')


def modules(cwd, *codes):
    "Names of the modules that a fresh process has imported after each of `codes`"
    res = python(PRINT.format('\n'.join(f'{o}\n{SEE}' for o in codes)), cwd, fresh=True)
    assert res.returncode == 0, res.stderr[-3000:]
    return [set(o) for o in json.loads(res.stdout.splitlines()[-1])]


def tops(names): return {n.split('.')[0] for n in names}


def test_the_package_alone_imports_nothing(tmp_path):
    before, after = modules(tmp_path, '', 'import foprokd')
    assert after - before == {'foprokd'}


# What a training run does not need, though it is ours.
# `deploy.methods` alone is: the Learner's methods that import the rest of `deploy` when they are called.
NOT_OF_THE_LEARNER = ('deploy.', 'frequency.', 'study.', 'measure.table', 'measure.figures', 'data.scan', 'data.synth', 'data.leakage')
OURS = {'.'.join(p.relative_to(ROOT/'foprokd').with_suffix('').parts) for p in (ROOT/'foprokd').rglob('[!_]*.py')}


def test_the_names_below_are_modules():
    "An assertion about a module that is not there holds whatever happens"
    for name in NOT_OF_THE_LEARNER: assert any(o == name or o.startswith(name) for o in OURS), name


ASKED = """
import importlib, json, sys
pairs = json.load(open('asked.json'))
def there(module, name):
    if hasattr(importlib.import_module(module), name): return True
    try: return bool(importlib.import_module(f'{module}.{name}'))
    except ModuleNotFoundError: return False
print(json.dumps([o for o in pairs if not there(*o)]))
"""


def asked(source, module):
    "(module, name) of all that a module takes from modules of the package, inside functions too"
    for o in ast.walk(ast.parse(source)):
        if isinstance(o, ast.ImportFrom) and (o.level or (o.module or '').split('.')[0] == 'foprokd'):
            above = module.split('.')[:-o.level] if o.level else []
            yield from (('.'.join([*above, *filter(None, [o.module])]), a.name) for a in o.names if a.name != '*')


def test_what_functions_import_is_there(tmp_path):
    "An import inside a function fails when somebody calls that function, and not before"
    assert list(asked('def f():\n    from foprokd.a import b\nfrom ..c import d', 'foprokd.x.y')) == [('foprokd.c', 'd'), ('foprokd.a', 'b')]
    found = {o for n in OURS for o in asked((ROOT/'foprokd'/f"{n.replace('.', '/')}.py").read_text(encoding='utf-8'), f'foprokd.{n}')}
    assert len(found) > 300
    (tmp_path/'asked.json').write_text(json.dumps(sorted([*found, ('foprokd.losses', 'no_such_loss')])))
    res = python(ASKED, tmp_path)
    assert res.returncode == 0, res.stderr[-3000:]
    assert json.loads(res.stdout.splitlines()[-1]) == [['foprokd.losses', 'no_such_loss']]


def test_parts_and_learner_import_nothing_that_fastai_and_timm_do_not(tmp_path):
    parts = 'import foprokd.losses, foprokd.prompt, foprokd.teacher, foprokd.student, foprokd.measure.metrics, foprokd.data.longtail'
    fastai, some, got = modules(tmp_path, 'import fastai.vision.all, timm', parts, 'from foprokd.learner import fopro_learner')
    assert tops(some - fastai) == tops(got - some) == {'foprokd'}
    assert not tops(got) & set(HEAVY)
    ours = {n.removeprefix('foprokd.') for n in got if n.startswith('foprokd.')}
    assert {'learner', 'teacher'} <= ours & OURS
    assert [n for n in ours & OURS if n in NOT_OF_THE_LEARNER or n.startswith(tuple(o for o in NOT_OF_THE_LEARNER if o.endswith('.')))] == ['deploy.methods']


def test_prediction_in_a_clinic_imports_neither_torch_nor_fastai(tmp_path):
    [got] = modules(tmp_path, 'from foprokd.deploy.predict import OnnxStudent')
    assert not tops(got) & {'torch', 'torchvision', 'timm', 'fastai', 'fastcore', 'pandas', 'matplotlib', 'scipy', 'sklearn'} and 'foprokd.deploy.predict' in got


def test_a_table_of_results_needs_neither_torch_nor_fastai(tmp_path):
    [got] = modules(tmp_path, 'import foprokd.measure.table')
    assert not tops(got) & {'torch', 'fastai', 'timm'} and 'foprokd.measure.table' in got


EVERYTHING = """
import json
import fastai.vision.all as fastai
theirs = {o for o in dir(fastai) if not o.startswith('_')}
from foprokd.all import *
import foprokd.all as ours
names = [o for o in dir(ours) if not o.startswith('_')]
same = [o for o in theirs if getattr(ours, o, None) is getattr(fastai, o)]
print(json.dumps([sorted(theirs), names, same, Learner.__module__, fopro_learner.__module__]))
"""


def names_of(source):
    "Names that a module takes from modules of the package"
    return [a.asname or a.name for o in ast.parse(source).body if isinstance(o, ast.ImportFrom) and o.level for a in o.names]


def test_everything_shadows_nothing_of_fastai(tmp_path):
    "`foprokd.all` is written by hand: each name of fastai is still fastai's, and ours are added"
    assert names_of('from fastai.all import *\nfrom .a import b, c as Learner') == ['b', 'Learner']
    own = names_of((ROOT/'foprokd'/'all.py').read_text(encoding='utf-8'))
    res = python(EVERYTHING, tmp_path)
    assert res.returncode == 0, res.stderr[-3000:]
    theirs, names, same, learner, fopro = json.loads(res.stdout.splitlines()[-1])
    assert len(own) == len({*own}) > 20 and {*own} <= {*names} and sorted({*own} & {*theirs}) == []
    assert sorted({*theirs} - {*same}) == [], 'names of fastai that mean something else'
    assert learner == 'fastai.learner' and fopro == 'foprokd.learner'
