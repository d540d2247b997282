"Notebooks, modules, README and site are in step. The rules for each notebook are in nbs/99_checks.ipynb."
import filecmp
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import environment, python

BIN = Path(sys.executable).parent


@pytest.fixture(scope='module')
def env():
    "Environment for nbdev's commands: its export does nothing under IN_TEST"
    return {k: v for k, v in environment(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}").items() if k != 'IN_TEST'}


def differing(root, copy, pattern):
    "Files of `copy` that match `pattern` and differ from those of `root`, or are on one side only"
    names = {p.relative_to(o).as_posix() for o in (root, copy) for p in o.glob(pattern)}
    return sorted(n for n in names if not ((root/n).exists() and (copy/n).exists() and filecmp.cmp(root/n, copy/n, shallow=False)))


def test_export_and_clean_change_nothing(root, source_copy, env):
    for p in (source_copy/'foprokd').glob('*.py'): p.unlink()
    for command in ('nbdev_export', 'nbdev_clean'):
        res = subprocess.run([BIN/command], cwd=source_copy, env=env, capture_output=True, text=True, timeout=300)
        assert res.returncode == 0, res.stderr[-3000:]
    assert differing(root, source_copy, 'foprokd/*.py') == []
    assert differing(root, source_copy, 'nbs/*.ipynb') == []


def test_site_input_is_made(root, site):
    "All that nbdev does for the site before Quarto; what is on the pages is looked at in test_site.py"
    for p in (root/'nbs').glob('*.ipynb'): assert (site/p.name).exists(), f'{p.name} is not on the site'
    assert (site/'_quarto.yml').read_text() == (root/'_quarto.yml').read_text()


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
