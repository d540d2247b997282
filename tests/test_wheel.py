"What the wheel holds, and that the embedded teacher loads from it. The full demo from an installed wheel is in .ci/run."
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from conftest import environment


@pytest.fixture(scope='module')
def wheel(source_copy, tmp_path_factory):
    "The wheel, built from a copy of the source"
    out = tmp_path_factory.mktemp('dist')
    res = subprocess.run([sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', str(out), str(source_copy)],
                         capture_output=True, text=True, timeout=300)
    assert res.returncode == 0, (res.stdout + res.stderr)[-3000:]
    [path] = out.glob('*.whl')
    return path


@pytest.fixture(scope='module')
def settings(root):
    "settings.ini"
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini')
    return cfg['DEFAULT']


def test_holds_every_module_and_the_weights(root, wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for p in (root/'foprokd').glob('*.py'): assert f'foprokd/{p.name}' in names
    weights = [n for n in names if n.startswith('foprokd/weights/') and n.endswith('.safetensors')]
    assert weights, names
    for n in weights: assert (root/n).stat().st_size == zipfile.ZipFile(wheel).getinfo(n).file_size <= 2 * 2**20
    top = {n.split('/')[0] for n in names}
    assert {o for o in top if not o.endswith('.dist-info')} == {'foprokd'}, top
    assert any(n.endswith('LICENSE') for n in names)


def test_metadata_is_that_of_settings(wheel, settings):
    z = zipfile.ZipFile(wheel)
    def read(end): return z.read(next(n for n in z.namelist() if n.endswith(end))).decode()
    meta, entry = read('.dist-info/METADATA'), read('.dist-info/entry_points.txt')
    assert f"\nVersion: {settings['version']}\n" in meta and f"\nRequires-Python: >={settings['min_python']}\n" in meta
    runtime = [o for o in meta.splitlines() if o.startswith('Requires-Dist:') and 'extra ==' not in o]
    assert len(runtime) == len(settings['requirements'].split())
    assert not any('==' in o or '<' in o for o in runtime), f'users are not pinned: {runtime}'
    assert 'foprokd = foprokd._modidx:d' in entry and '[nbdev]' in entry
    for script in settings['console_scripts'].split(): assert script.replace('=', ' = ') in entry


def test_version_has_one_home(root, settings):
    assert f'__version__ = "{settings["version"]}"' in (root/'foprokd'/'__init__.py').read_text()


def test_teacher_loads_from_the_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path/'site')
    code = ('import torch, foprokd\nfrom foprokd.teacher import FrozenTeacher\n'
            'f = FrozenTeacher("embedded")(torch.rand(2, 3, 64, 64))\n'
            'assert f.ndim == 2 and torch.isfinite(f).all()\nprint(foprokd.__file__)\n')
    (tmp_path/'script.py').write_text(code)
    res = subprocess.run([sys.executable, 'script.py'], cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path/'site')),
                         capture_output=True, text=True, timeout=300)
    assert res.returncode == 0, res.stderr[-3000:]
    assert Path(res.stdout.strip().splitlines()[-1]) == tmp_path/'site'/'foprokd'/'__init__.py'
