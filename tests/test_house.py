"Notebooks, modules, README and site are in step, and what guards that is shown to bite. The rules for each notebook are in tests/test_checks.py."
import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checks import _around, check_order, read_notebooks, write_readme
from conftest import environment, python

BIN = Path(sys.executable).parent


@pytest.fixture(scope='module')
def env():
    "Environment for nbdev's commands: its export does nothing under IN_TEST"
    return {k: v for k, v in environment(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}").items() if k != 'IN_TEST'}


@pytest.fixture
def house(source_copy, tmp_path):
    "A copy of the repository that a test may spoil; what the site's build left in it stays behind"
    return Path(shutil.copytree(source_copy, tmp_path/'house', symlinks=True, ignore=shutil.ignore_patterns('_proc', 'make_site.py', 'build', '*.egg-info')))


def differing(root, copy, pattern):
    "Files of `copy` that match `pattern` and differ from those of `root`, or are on one side only"
    names = {p.relative_to(o).as_posix() for o in (root, copy) for p in o.glob(pattern) if '_proc' not in p.parts}
    return sorted(n for n in names if not ((root/n).exists() and (copy/n).exists() and filecmp.cmp(root/n, copy/n, shallow=False)))


def out_of_step(root, copy):
    "Modules and notebooks, in wings too, that differ"
    return differing(root, copy, 'foprokd/**/*.py') + differing(root, copy, 'nbs/**/*.ipynb')


def nbdev(command, folder, env, **kwargs):
    "Run a command of nbdev; its output"
    res = subprocess.run([BIN/command], cwd=folder, env=env, capture_output=True, text=True, timeout=300, **kwargs)
    assert res.returncode == 0, res.stderr[-3000:]
    return res.stdout


def test_export_and_clean_change_nothing(root, house, env):
    "nbdev writes every module anew, in wings too; then a module, and the outputs of a notebook, are changed, and both is seen"
    gone = [p for p in (house/'foprokd').rglob('*.py') if p.name != '__init__.py']
    assert len(gone) > 50 and {'data', 'deploy', 'study'} < {p.parent.name for p in gone}
    for p in gone: p.unlink()
    for command in ('nbdev-export', 'nbdev-clean'): nbdev(command, house, env)
    assert out_of_step(root, house) == []
    planted = house/'foprokd'/'data'/'longtail.py', house/'nbs'/'data'/'01_longtail.ipynb'
    for p in planted: p.write_text(p.read_text(encoding='utf-8') + '\n', encoding='utf-8')
    assert out_of_step(root, house) == [p.relative_to(house).as_posix() for p in planted], 'the comparison is blind'


# Guards that bite.

def lint(folder, *tools):
    "tools/lint.py of a copy"
    return subprocess.run([sys.executable, 'tools/lint.py', *tools], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)


def test_layers_code_and_requirements_are_in_order(root):
    res = lint(root)
    assert res.returncode == 0, res.stdout[-6000:] + res.stderr[-2000:]


PLANTED = {
    'imports': [
        ('foprokd/data/longtail.py', 'from ..measure import metrics', 'foprokd.data.longtail -> foprokd.measure.metrics'),
        ('foprokd/spectrum.py', 'def f():\n    from .prompt import SpectralPrompt\n    return SpectralPrompt', 'foprokd.spectrum -> foprokd.prompt'),
        ('foprokd/deploy/predict.py', 'from ..frequency import bands', 'foprokd.deploy.predict -> foprokd.frequency.bands'),
        ('foprokd/helpers.py', 'x = 1', 'foprokd.helpers')],
    'ruff': [
        ('foprokd/data/longtail.py', 'nobody_knows_this', 'F821'),
        ('foprokd/measure/metrics.py', 'print(1)', 'T201'),
        ('foprokd/losses.py', 'from torch import *', 'F403')],
    'requirements': [
        ('foprokd/data/longtail.py', 'import nobody_has_this', "DEP001 'nobody_has_this'"),
        ('foprokd/deploy/predict.py', 'import attr', "'attr' imported but it is a transitive dependency")]}


@pytest.mark.parametrize('tool', PLANTED)
def test_what_is_planted_is_found(house, tool):
    for file, code, _ in PLANTED[tool]:
        with (house/file).open('a', encoding='utf-8') as f: f.write(f'\n{code}\n')
    res = lint(house, tool)
    output = res.stdout + res.stderr
    assert res.returncode == 1 and [said for *_, said in PLANTED[tool] if said not in output] == [], output[-6000:]


def test_a_page_that_is_not_exported_or_not_read_is_found(house):
    "What recursion could lose: a page in a wing without its module, a module without its page, and imports against the order of a wing"
    def problems():
        nbs = read_notebooks(house/'nbs')
        return {*check_order(nbs), *_around(house, nbs)}
    write_readme(house)
    before = problems()
    page = house/'nbs'/'data'/'98_new.ipynb'
    page.write_text((house/'nbs'/'data'/'01_longtail.ipynb').read_text(encoding='utf-8').replace('data.longtail', 'data.new'), encoding='utf-8')
    (house/'foprokd'/'train'/'left.py').write_text('x = 1\n')
    spoiled = house/'nbs'/'data'/'00_files.ipynb'
    spoiled.write_text(spoiled.read_text(encoding='utf-8').replace('"#| export\\n",', '"#| export\\n",\n    "from foprokd.data.leakage import x\\n",', 1), encoding='utf-8')
    found = problems() - before
    for said in ('data.new: not exported yet', 'train.left: exported by no notebook', 'README.md: does not link data/98_new', 'data/00_files: imports `data.leakage`, which is not below it'):
        assert any(said in o for o in found), (said, sorted(found)[:10])


def test_a_cell_that_fails_in_a_wing_fails_the_tests(house, env):
    "`nbdev-test` goes into wings, and the flags of pyproject.toml are read"
    for name in read_notebooks(house/'nbs'):
        if name != 'data/00_files': (house/'nbs'/f'{name}.ipynb').unlink()
    page = house/'nbs'/'data'/'00_files.ipynb'
    text = page.read_text(encoding='utf-8')
    cell = '{"cell_type": "code", "execution_count": null, "id": "11111111", "metadata": {}, "outputs": [], "source": "FLAGassert 1 == 2"}'

    def run(flag):
        end = text.rindex('  {\n   "cell_type": "code"')
        page.write_text(text[:end] + cell.replace('FLAG', flag) + ',\n' + text[end:], encoding='utf-8')
        return subprocess.run([BIN/'nbdev-test', '--n-workers', '0'], cwd=house, env={**env, 'PYTHONPATH': str(house)}, capture_output=True, text=True, timeout=300)
    assert run('').returncode == 1
    res = run('#| data\\n')
    assert res.returncode == 0, res.stderr[-2000:]


# The commands.

NEW = ['export', 'test', 'clean', 'docs']


@pytest.mark.parametrize('old,new', [
    (['--path', 'nbs/a_b.ipynb', '--do_print'], ['nbs/a_b.ipynb', '--do-print']), (['--path=nbs/a.ipynb', '--n_workers=2'], ['nbs/a.ipynb', '--n-workers=2']),
    (['--n_workers', '2', '--flags', 'data slow'], ['--n-workers', '2', '--flags', 'data slow']), ([], [])])
def test_commands_of_nbdev_2_are_those_of_nbdev_3(root, tmp_path, old, new):
    "What `make names` puts into an environment, here one of commands that print what they are asked"
    (tmp_path/'bin').mkdir()
    for name in NEW:
        (tmp_path/'bin'/f'nbdev-{name}').write_text('#!/bin/sh\nbasename "$0"; for a in "$@"; do echo "$a"; done\n')
        (tmp_path/'bin'/f'nbdev-{name}').chmod(0o755)
    res = subprocess.run(['make', '--no-print-directory', '-s', 'names', f'DEV={tmp_path}'], cwd=root, capture_output=True, text=True, timeout=60)
    assert res.returncode == 0, res.stderr
    for name in NEW:
        out = subprocess.run([f'nbdev_{name}', *old], env={**os.environ, 'PATH': f"{tmp_path/'bin'}{os.pathsep}{os.environ['PATH']}"}, capture_output=True, text=True, timeout=60)
        assert out.stdout.splitlines() == [f'nbdev-{name}', *new], out.stderr
        assert (BIN/f'nbdev-{name}').exists(), 'nbdev has this command'


def test_quarto_configuration_is_a_relative_link(root):
    assert os.readlink(root/'nbs'/'_quarto.yml') == '../_quarto.yml'


README_CHANGES = [  # what is changed so that the README's code runs in seconds and without a download
    (r"Path\('images'\)", "Path('pictures')"), (r'Resize\(256\)', 'Resize(32), bs=8, num_workers=0'), (r'size=224', 'size=32'),
    (r"'resnet18'", "'test_resnet'"), (r"'resnet50\.a1_in1k'", "'embedded'"), (r'explore=5, distill=40', 'explore=1, distill=1')]
PICTURES = '''
import matplotlib; matplotlib.use('Agg')
import pathlib
from PIL import Image
from foprokd.data.synth import synth_images
for i, im in enumerate(synth_images([i % 3 for i in range(120)], size=32, seed=0)):
    folder = pathlib.Path('pictures')/'abc'[i % 3]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(im).save(folder/f'{i}.png')
'''


def test_readme_code_runs(root, tmp_path):
    *_, code, clinic, _ = re.findall(r'```python\n(.*?)```', (root/'README.md').read_text(), re.S) # the front page runs its first two itself
    for old, new in README_CHANGES:
        assert re.search(old, code), f'{old} is no longer in the README: mend this test'
        code = re.sub(old, new, code)
    res = python(PICTURES + code + "\nprint('said')\n" + clinic, tmp_path)
    assert res.returncode == 0, res.stderr[-3000:]
    assert res.stdout.split('said')[0].strip().splitlines()[-1].startswith("('"), res.stdout[-500:]
    assert {'student.onnx', 'student.int8.onnx', 'card.md'} <= {f.name for f in tmp_path.iterdir()}


def test_readme_atlas_runs(root, tmp_path):
    *_, code = re.findall(r'```python\n(.*?)```', (root/'README.md').read_text(), re.S)
    changes = [('rand\\(16, 3, 64, 64\\)', 'rand(4, 3, 24, 24)'), ("'resnet18'", "dict(model='resnet18', pretrained=False)"),
               ("'runs/atlas'", "'runs/atlas', step=8")] # small, without a download
    for old, new in changes:
        assert re.search(old, code), f'{old} is no longer in the README: mend this test'
        code = re.sub(old, new, code)
    res = python(code + '\nprint(len(set(atlas.frame().model)))', tmp_path)
    assert res.returncode == 0 and res.stdout.strip().endswith('2'), res.stderr[-3000:]
