"""What the wheel and the sdist hold, what they say of themselves, and that the embedded teacher loads from the wheel. Both are built once, the wheel
from the sdist. The full demo from an installed wheel is in .ci/run."""
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt  # which twine brings

from checks import WINGS
from conftest import environment

MAX_MB = 5


@pytest.fixture(scope='module')
def dist(source_copy, tmp_path_factory):
    "Folder with the sdist, and the wheel that was built from it"
    out = tmp_path_factory.mktemp('dist')
    res = subprocess.run([sys.executable, '-W', 'default', '-m', 'build', '--no-isolation', '--outdir', str(out), str(source_copy)],
                         capture_output=True, text=True, timeout=300)
    said = res.stdout + res.stderr
    assert res.returncode == 0, said[-3000:]
    assert 'DeprecationWarning' not in said and 'no files found' not in said, said[-3000:]
    return out


@pytest.fixture(scope='module')
def wheel(dist):
    [path] = dist.glob('*.whl')
    return path


@pytest.fixture(scope='module')
def sdist(dist):
    [path] = dist.glob('*.tar.gz')
    return path


@pytest.fixture(scope='module')
def release(root):
    "release.py, which is no part of the package"
    spec = importlib.util.spec_from_file_location('release', root/'release.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def metadata(wheel):
    z = zipfile.ZipFile(wheel)
    return z.read(next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))).decode()


def tracked(root, folder):
    "Files of `folder` that git tracks or would track"
    names = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', folder], cwd=root,
                           capture_output=True, text=True, check=True).stdout.split('\0')
    return {n for n in names if n and (root/n).exists()}


def with_stubs(root, release):
    "Stubs that the wheel has to hold: one for each module of the package, in wings too, that patches methods into a class"
    return {p.relative_to(root).with_suffix('.pyi').as_posix() for p in (root/'foprokd').rglob('*.py') if release.stub(p.read_text(encoding='utf-8'))}


def test_a_missing_stub_would_be_seen(root, release, tmp_path):
    "In a copy in which a module of a wing patches something"
    (tmp_path/'foprokd'/'data').mkdir(parents=True)
    (tmp_path/'foprokd'/'data'/'longtail.py').write_text('from fastcore.basics import patch\nclass A: pass\n@patch\ndef f(self:A): pass\n')
    (tmp_path/'foprokd'/'plain.py').write_text('x = 1\n')
    assert with_stubs(tmp_path, release) == {'foprokd/data/longtail.pyi'}


def without_stub(root, release, names):
    "Modules that patch something and have no stub among `names`, files of a wheel"
    return sorted(with_stubs(root, release) - {*names})


def test_the_wheel_holds_the_package_and_nothing_else(root, wheel, release):
    z = zipfile.ZipFile(wheel)
    names = {n for n in z.namelist() if '.dist-info/' not in n}
    patched = with_stubs(root, release)
    assert {'foprokd/phases.pyi', 'foprokd/prompt.pyi'} < patched and any(o.count('/') > 1 for o in patched), 'wings have stubs too'
    assert without_stub(root, release, names) == [] and names == tracked(root, 'foprokd') | patched
    for wing in WINGS: assert f'foprokd/{wing}/__init__.py' in names and any(o.startswith(f'foprokd/{wing}/') and not o.endswith('__init__.py') for o in names), wing
    assert {'foprokd/py.typed', 'foprokd/app/explorer.ipynb', 'foprokd/weights/embedded_teacher.safetensors'} < names
    for n in names:
        if n.endswith('.safetensors'): assert (root/n).stat().st_size == z.getinfo(n).file_size <= 2 * 2**20
    assert any(n.endswith('licenses/LICENSE') for n in z.namelist())


@pytest.mark.parametrize('stub', ['foprokd/phases.pyi', 'foprokd/deploy/methods.pyi'])
def test_a_wheel_without_a_stub_is_seen(root, site, release, tmp_path, stub):
    "In a copy of the unpacked wheel from which the stub of the phases, or one in a wing, is taken"
    def held(): return {p.relative_to(tmp_path).as_posix() for p in (tmp_path/'foprokd').rglob('*') if p.is_file()}
    shutil.copytree(site/'foprokd', tmp_path/'foprokd')
    assert without_stub(root, release, held()) == []
    (tmp_path/stub).unlink()
    assert without_stub(root, release, held()) == [stub]


def test_the_sdist_holds_what_a_wheel_is_built_from(root, sdist, settings):
    with tarfile.open(sdist) as t: names = {m.name.split('/', 1)[1] for m in t.getmembers() if m.isfile()}
    own = {n for n in names if not n.startswith('foprokd.egg-info/')} - {'PKG-INFO', 'setup.cfg'}
    assert own == tracked(root, 'foprokd') | {'settings.ini', 'setup.py', 'release.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md',
                                              'CHANGELOG.md', 'CONTRIBUTING.md', 'CITATION.cff'}
    assert sdist.name == f"foprokd-{settings['version']}.tar.gz"


def test_both_are_small(wheel, sdist):
    for p in (wheel, sdist): assert p.stat().st_size < MAX_MB * 2**20, f'{p.name}: {p.stat().st_size / 2**20:.1f} MB'


def test_twine_finds_no_fault(wheel, sdist):
    res = subprocess.run([sys.executable, '-m', 'twine', 'check', '--strict', str(wheel), str(sdist)], capture_output=True, text=True, timeout=300)
    assert res.returncode == 0 and (res.stdout + res.stderr).count('PASSED') == 2, res.stdout + res.stderr


def test_metadata_is_that_of_settings(wheel, metadata, settings):
    z = zipfile.ZipFile(wheel)
    entry = z.read(next(n for n in z.namelist() if n.endswith('.dist-info/entry_points.txt'))).decode()
    assert f"\nVersion: {settings['version']}\n" in metadata and f"\nRequires-Python: >={settings['min_python']}\n" in metadata
    runtime = [o for o in metadata.splitlines() if o.startswith('Requires-Dist:') and 'extra ==' not in o]
    assert len(runtime) == len(settings['requirements'].split())
    assert not any('==' in o or '<' in o for o in runtime), f'users are not pinned: {runtime}'
    assert 'foprokd = foprokd._modidx:d' in entry and '[nbdev]' in entry
    for script in settings['console_scripts'].split(): assert script.replace('=', ' = ') in entry


def test_metadata_says_licence_versions_and_addresses(metadata, settings):
    head = metadata.split('\n\n', 1)[0].splitlines()
    assert 'License-Expression: Apache-2.0' in head and not any(o.startswith(('License:', 'Classifier: License')) for o in head)
    found = {o.rsplit(' ', 1)[1] for o in head if re.fullmatch(r'Classifier: Programming Language :: Python :: 3\.\d+', o)}
    assert found == set(settings['pythons'].split()) and settings['min_python'] in found
    assert 'Classifier: Typing :: Typed' in head
    urls = dict(o.split(': ', 1)[1].split(', ') for o in head if o.startswith('Project-URL: '))
    assert set(urls) == {'Documentation', 'Source', 'Issues', 'Changelog'} and all(u.startswith('https://') for u in urls.values())
    assert not any('.invalid' in o for o in head), 'PyPI refuses this address'


class Links(HTMLParser):
    "Addresses in a page"
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [v for k, v in attrs if k in ('href', 'src', 'srcset')]


def links(markdown):
    "Addresses in a page made from Markdown"
    page = Links()
    page.feed(MarkdownIt('commonmark', {'html': True}).enable('table').render(markdown))
    return page.found


def test_links_of_the_description_work_on_pypi(root, metadata, settings):
    found, tag = links(metadata.split('\n\n', 1)[1]), f"{settings['git_url']}/blob/v{settings['version']}/"
    assert [o for o in found if not o.startswith(('https://', 'http://', 'mailto:', '#'))] == []
    ours = [o.removeprefix(tag).split('#')[0] for o in found if o.startswith(tag)]
    assert len(ours) >= len(re.findall(r'\]\(nbs/(?!images/)', (root/'README.md').read_text(encoding='utf-8'))) > 10
    assert [o for o in ours if not (root/o).exists()] == []


def test_relative_links_and_pictures_become_absolute(release):
    text = ('[a](nbs/a.ipynb#b) [c](./c.md) ![d](e/f.svg) [![g](h.png)](i.md) [j](https://k.org/l) [m](#n) [o](mailto:p@q.org)\n'
            '<picture><source srcset="dark.svg"><img src="light.svg" alt="r"></picture> <a href="s.md">t</a>\n'
            '```python\nx = y[0](z)  # [u](v.md)\n```\n[w](x.md)')
    got = release.absolute_links(text, 'https://github.com/o/r', 'v1')
    page, raw = 'https://github.com/o/r/blob/v1/', 'https://raw.githubusercontent.com/o/r/v1/'
    assert got == (f'[a]({page}nbs/a.ipynb#b) [c]({page}c.md) ![d]({raw}e/f.svg) [![g]({raw}h.png)]({page}i.md) [j](https://k.org/l) [m](#n) [o](mailto:p@q.org)\n'
                   f'<picture><source srcset="{raw}dark.svg"><img src="{raw}light.svg" alt="r"></picture> <a href="{page}s.md">t</a>\n'
                   f'```python\nx = y[0](z)  # [u](v.md)\n```\n[w]({page}x.md)')


def test_version_has_one_home(root, settings):
    assert f'__version__ = "{settings["version"]}"' in (root/'foprokd'/'__init__.py').read_text()


@pytest.fixture(scope='module')
def site(wheel, tmp_path_factory):
    "Folder with the unpacked wheel"
    path = tmp_path_factory.mktemp('wheel')/'site'
    zipfile.ZipFile(wheel).extractall(path)
    return path


def test_teacher_loads_from_the_wheel(site, tmp_path):
    code = ('import torch, foprokd\nfrom foprokd.teacher import FrozenTeacher\n'
            'f = FrozenTeacher("embedded")(torch.rand(2, 3, 64, 64))\n'
            'assert f.ndim == 2 and torch.isfinite(f).all()\nprint(foprokd.__file__)\n')
    (tmp_path/'script.py').write_text(code)
    res = subprocess.run([sys.executable, 'script.py'], cwd=tmp_path, env=environment(PYTHONPATH=str(site)),
                         capture_output=True, text=True, timeout=300)
    assert res.returncode == 0, res.stderr[-3000:]
    assert Path(res.stdout.strip().splitlines()[-1]) == site/'foprokd'/'__init__.py'


MODULE = '''"Doc"
from fastcore.basics import patch
LIMIT, NAMES = 3, make_names()
class A(Base):
    "An A"
    kind = 1
    def __init__(self, n:int, m:int|None=None):
        if m is None: m = n
        self.n, self.m, self.kind = n, m, 2
    def old(self): return 1
@patch
def double(self:A, by:int=2)->int: return self.n * by
@patch(cls_method=True)
def make(cls:A)->'A': return cls(1)
@patch(as_prop=True)
def size(self:A)->int: return self.n
@patch
def old(self:A)->float: return 2.
def free(x:int)->A:
    "A of x"
    return A(x)
'''
STUB = '''"""Doc"""
from typing import Any
from fastcore.basics import patch
LIMIT: Any
NAMES: Any

class A(Base):
    """An A"""
    n: int
    m: Any
    kind = 1

    def __init__(self, n: int, m: int | None=None):
        ...

    def double(self, by: int=2) -> int:
        ...

    @classmethod
    def make(cls) -> 'A':
        ...

    @property
    def size(self) -> int:
        ...

    def old(self) -> float:
        ...

def free(x: int) -> A:
    """A of x"""
    ...
'''


def test_a_stub_puts_patches_into_their_class(release):
    assert release.stub(MODULE) == STUB
    assert release.stub('def free(): pass\n') is None
    with pytest.raises(ValueError, match='other is patched into B, which the module does not define'):
        release.stub('@patch\ndef other(self:B): pass\n')


MYPY = '''[mypy]
strict = True
[mypy-fastai.*,fastcore.*]
ignore_missing_imports = True
'''


SKIPPED = '''[mypy-torch.*,torchvision.*,numpy.*,pandas.*,matplotlib.*,PIL.*]
follow_imports = skip
follow_imports_for_stubs = True
'''


@pytest.mark.parametrize('whole', [False, pytest.param(True, marks=pytest.mark.long)], ids=['ours', 'whole'])
def test_mypy_accepts_a_typed_client_and_refuses_a_wrong_one(root, site, tmp_path, request, whole):
    """The wheel as it lies in site-packages, where only py.typed makes mypy read it. The first run that reads torch's types takes a minute;
    without them an argument that should be a tensor passes, and a base class of torch lets a wrong name pass, so fewer lines are refused"""
    venv = tmp_path/'venv'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(venv)], check=True, timeout=120)
    [packages] = venv.glob('lib/python*/site-packages')
    shutil.copytree(site/'foprokd', packages/'foprokd')
    (packages/'others.pth').write_text(sysconfig.get_paths()['purelib'])
    (tmp_path/'mypy.ini').write_text(MYPY if whole else MYPY.replace('strict = True', 'strict = True\ndisallow_any_unimported = False\ndisallow_subclassing_any = False') + SKIPPED)
    client = (root/'tests'/'typed_client.py').read_text(encoding='utf-8')
    (tmp_path/'client.py').write_text(client, encoding='utf-8')
    cache = request.config.cache.mkdir('mypy') if hasattr(request.config, 'cache') else tmp_path/'cache'
    env = {k: v for k, v in environment().items() if k not in ('PYTHONPATH', 'MYPYPATH')}
    res = subprocess.run([sys.executable, '-m', 'mypy', '--config-file', 'mypy.ini', '--python-executable', str(venv/'bin'/'python'),
                          '--cache-dir', str(cache), 'client.py'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    wrong = {i for i, line in enumerate(client.splitlines(), 1) if line.endswith('# wrong')}
    refused = {int(n) for n in re.findall(r'^client\.py:(\d+): error', res.stdout, re.M)}
    assert len(wrong) > 15 and res.returncode == 1, res.stdout + res.stderr
    assert refused == wrong if whole else refused < wrong and len(refused) > 10, (sorted(wrong - refused), res.stdout)
