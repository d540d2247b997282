"What the tests share: the repository's folder, and the command line in a process of its own."
import os
import subprocess
import sys
from configparser import ConfigParser
from functools import lru_cache
from pathlib import Path

import pytest

from warm import WarmPython

ROOT = Path(__file__).resolve().parents[1]
SHARED = pytest.StashKey[WarmPython]()
sys.path.insert(0, str(ROOT/'tools'))
# What `nbdev-docs` hands to Quarto, in one process: two would import everything twice. nbdev reads pyproject.toml anew for each cell.
SITE = '''
import functools, os, sys
for name in [n for n in sys.modules if n.split('.')[0] == 'foprokd']: del sys.modules[name]  # those of the copy, not of the repository
import nbdev.config, nbdev.serve
nbdev.config._load_toml = functools.lru_cache(nbdev.config._load_toml)
nbdev.serve.parallel = lambda f, items, **kwargs: [f(o) for o in items]
nbdev.serve.proc_nbs()
sys.stdout.flush(), sys.stderr.flush()
os._exit(0)  # the end of a hundred shells takes a minute
'''
LAUNCHER = 'from foprokd.{} import {}\nif __name__ == "__main__": {}()\n'
NO_FIGURES = 'import foprokd.study.run_files as files\nfiles._save_figures = lambda *args: None\n' # half of the time of a small run


def environment(**extra):
    "The environment of a second process: no download, one thread, no display"
    return {**os.environ, 'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg', **extra}


def paths():
    "`PYTHONPATH` with this repository first"
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))


@lru_cache
def warm():
    "The process that has imported everything, see `warm.py`; None where there is no fork, or a GPU, which cannot be used after one"
    import torch
    if not hasattr(os, 'fork') or torch.cuda.is_available(): return None
    return WarmPython(os.environ.get('FOPROKD_WARM'), environment(PYTHONPATH=paths()))


def run_file(file, args, cwd, env, fresh):
    "Run a Python file in another process, a fresh one or a fork of one that has done the imports"
    if not fresh and warm(): return warm().run([file, *map(str, args)], cwd, env)
    return subprocess.run([sys.executable, str(file), *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def start_file(file, args, cwd, env, out=os.devnull, err=os.devnull):
    "Begin a Python file in another process, a fork if that is possible; it has `pid`, `poll` and `wait`"
    if warm(): return warm().start([file, *args], cwd, env, out, err)
    with open(out, 'w') as o, open(err, 'w') as e: return subprocess.Popen([sys.executable, str(file), *map(str, args)], cwd=cwd, env=env, stdout=o, stderr=e)


def python(code, cwd, fresh=False, **env):
    "Run `code` as a file in a second Python, which imports the package of this repository"
    file = Path(cwd)/'script.py'
    file.write_text(code, encoding='utf-8')
    return run_file(file, [], cwd, environment(PYTHONPATH=paths(), **env), fresh)


def pytest_configure(config):
    "One warm process for all workers, which starts while they collect"
    if hasattr(os, 'fork') and getattr(config.option, 'numprocesses', None) and not hasattr(config, 'workerinput'):
        config.stash[SHARED] = WarmPython(env=environment(PYTHONPATH=paths()))
        os.environ['FOPROKD_WARM'] = config.stash[SHARED].address


def pytest_unconfigure(config):
    if warm.cache_info().currsize and warm(): warm().close()
    if SHARED in config.stash: config.stash[SHARED].close()


# With `-n 2 --dist loadfile` a file is one piece of work: the long ones begin first, so that no process waits at the end.
FIRST = 'grid site distributed house browser deploy cli resume compare predict frozen security faults_learner wheel imports determinism sets soak faults_measure faults_commands checks export quantize gpu_check atlas resized faults_gpu faults_models faults_splits faults_read'.split()


def pytest_collection_modifyitems(items):
    "Long files first, the others as they came"
    rank = {f'test_{n}': i for i, n in enumerate(FIRST)}
    items.sort(key=lambda o: rank.get(o.path.stem, len(rank)))


@pytest.fixture(scope='session')
def root():
    "Folder of the repository"
    return ROOT


@pytest.fixture(scope='session')
def settings(root):
    "settings.ini"
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini')
    return cfg['DEFAULT']


def command(name, module, cwd):
    "A function that calls a command of ours in a second process, away from the source tree; fresh: as it is installed; figures: a run draws them"
    script, launcher, plain = Path(sys.executable).parent/name, cwd/'launch.py', cwd/'launch_plain.py'
    launcher.write_text(LAUNCHER.format(module, name, name), encoding='utf-8')
    plain.write_text(NO_FIGURES + LAUNCHER.format(module, name, name), encoding='utf-8')
    installed = [str(script)] if script.exists() else [sys.executable, str(launcher)]
    env = environment(PYTHONPATH=paths(), FOPROKD_CACHE=str(cwd/'facts'))

    def run(*args, fresh=False, figures=False):
        if not fresh: return run_file(launcher if figures else plain, args, cwd, env, fresh)
        return subprocess.run([*installed, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    run.start = lambda *args: start_file(plain, args, cwd, env)
    return run


@pytest.fixture(scope='session')
def foprokd_run(tmp_path_factory):
    "The command `foprokd_run`"
    return command('foprokd_run', 'study.commands', tmp_path_factory.mktemp('cli'))


@pytest.fixture(scope='session')
def foprokd_data(tmp_path_factory):
    "The command `foprokd_data`"
    return command('foprokd_data', 'study.commands', tmp_path_factory.mktemp('cli'))


@pytest.fixture(scope='session')
def demo_folder(tmp_path_factory):
    "The demo set as `demo` makes it, once for all workers"
    from foprokd.data.synth import demo_set
    base = tmp_path_factory.getbasetemp()
    return demo_set((base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base)/'demo_set')


@pytest.fixture(scope='session')
def source_copy(root, tmp_path_factory):
    "Copy of what git tracks or would track, so that builds and exports cannot touch the repository"
    dest = tmp_path_factory.mktemp('source')/'foprokd'
    names = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=root,
                           capture_output=True, text=True, check=True).stdout.split('\0')
    for name in filter(None, names):
        src, dst = root/name, dest/name
        if not (src.exists() or src.is_symlink()): continue
        dst.parent.mkdir(parents=True, exist_ok=True)
        if src.is_symlink(): dst.symlink_to(os.readlink(src))
        else: dst.write_bytes(src.read_bytes())
    return dest


@pytest.fixture(scope='session')
def site(source_copy):
    "Folder that nbdev hands to Quarto: runs exports and imports, makes the API tables"
    (source_copy/'make_site.py').write_text(SITE)
    env = {k: v for k, v in environment(PYTHONPATH=str(source_copy)).items() if k != 'IN_TEST'}  # nbdev's export does nothing under IN_TEST
    res = run_file(source_copy/'make_site.py', [], source_copy, env, fresh=False)
    assert res.returncode == 0, (res.stdout + res.stderr)[-4000:]
    assert 'imports and other code' not in res.stderr, res.stderr[-3000:]
    return source_copy/'_proc'
