"A grid of runs that is killed, restarted, run side by side, and given a run that must fail."
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from conftest import LAUNCHER, environment, paths, run_file, start_file
from PIL import Image

RUNS = '''
seeds: [0]
shared: {{data: {data}, student: test_resnet, size: 32, bs: 8, distill: 2}}
runs:
  - method: [bsm, ce, focal]
  - {{method: bsm, name: wrong, lr: 1.0e+30, distill: 3}}
'''


@pytest.fixture(scope='module')
def grid(tmp_path_factory):
    "A grid file of three runs that work and one whose losses are soon no numbers, on 60 small images"
    root, rng = tmp_path_factory.mktemp('grid'), np.random.default_rng(0)
    for label, n in zip('abc', (30, 18, 12)):
        (root/'images'/label).mkdir(parents=True)
        for i in range(n):
            low = 60 * 'abc'.index(label)
            Image.fromarray((rng.random((32, 32, 3)) * 90 + low).astype('uint8')).save(root/'images'/label/f'{label}{i}.png')
    (root/'grid.yaml').write_text(RUNS.format(data=root/'images'))
    return root/'grid.yaml'


def rows(out):
    "Rows written so far, failures included"
    file = Path(out)/'results.jsonl'
    return [json.loads(o) for o in file.read_text().splitlines()] if file.exists() else []


def essence(row):
    "What must be the same however often a grid was interrupted"
    kept = {k: row.get(k) for k in ('method', 'seed', 'settings_hash', 'data_hash', 'balanced_accuracy', 'macro_auroc', 'predictions', 'failed')}
    return {**kept, 'curves': [h['values'] for h in row.get('phase_history', [])]}


def finished(out):
    "One essence per experiment, those that failed several times once"
    return {(r['method'], 'failed' in r): essence(r) for r in rows(out)}


@pytest.fixture(scope='module')
def whole(foprokd_run, grid, tmp_path_factory):
    "The grid without interruption"
    out = tmp_path_factory.mktemp('whole')
    return foprokd_run('--grid', grid, '--quiet', '--out', out), out


def test_one_failure_is_recorded_and_does_not_stop_the_grid(whole):
    res, out = whole
    assert res.returncode == 2 and '1 of 4 runs failed' in res.stderr and 'Traceback' not in res.stderr
    done = rows(out)
    assert [('failed' in r, r['method']) for r in done] == [(False, 'bsm'), (False, 'ce'), (False, 'focal'), (True, 'bsm')]
    assert 'Error: ' in done[-1]['failed'] and 'balanced_accuracy' in res.stdout


def test_what_can_never_work_is_refused_before_the_first_run(foprokd_run, grid, tmp_path):
    (tmp_path/'bad.yaml').write_text(grid.read_text().replace('lr: 1.0e+30', 'student: no_such_net'))
    res = foprokd_run('--grid', tmp_path/'bad.yaml', '--quiet', '--out', tmp_path/'out')
    assert res.returncode == 2 and "wrong: timm has no model 'no_such_net'" in res.stderr and 'Nothing was trained' in res.stderr
    assert rows(tmp_path/'out') == []


def kill_in_the_middle(start, out, n_rows):
    "Start a grid and kill it with -9 while the run after the first `n_rows` is under way"
    proc, deadline = start(), time.time() + 300
    while time.time() < deadline:
        under_way = len([p for p in Path(out).iterdir() if p.is_dir()]) if Path(out).exists() else 0
        if len(rows(out)) == n_rows and under_way > n_rows: break
        assert proc.poll() is None, 'the grid ended before it could be killed'
        time.sleep(.02)
    os.kill(proc.pid, signal.SIGKILL)
    proc.wait()
    assert len(rows(out)) == n_rows


@pytest.mark.parametrize('after', [[1], pytest.param([0, 1], marks=pytest.mark.long)], ids=['once', 'twice'])
def test_killed_gives_the_same_rows(foprokd_run, grid, whole, tmp_path, after):
    out = tmp_path/'killed'
    args = ('--grid', grid, '--quiet', '--out', out)
    for n in after: kill_in_the_middle(lambda: foprokd_run.start(*args), out, n)
    res = foprokd_run(*args)
    assert '1 of 4 runs are done.' in res.stdout
    assert finished(out) == finished(whole[1]) and len(rows(out)) == 4
    before = rows(out)
    res = foprokd_run(*args)
    assert '3 of 4 runs are done.' in res.stdout and rows(out)[:4] == before  # only the failure was tried again


# A job as a fork of the grid's process, which has done the imports, in place of a Python of its own.
FORKED = '''
import os, subprocess, sys, traceback
from types import SimpleNamespace
import foprokd.study.jobs as jobs

class Fork:
    def __init__(self, argv, stdout, stderr, env, **kwargs):
        self.returncode, self.pid = None, os.fork()
        if self.pid: return
        status = 1
        try:
            os.environ.update(env)
            for file, fd in ((stdout, 1), (stderr, 2)): os.dup2(file.fileno(), fd)
            sys.argv = argv[-2:]
            exec(argv[-2])
            status = 0
        except Exception: traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid: self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode
    def terminate(self): os.kill(self.pid, 15)

jobs.subprocess = SimpleNamespace(Popen=Fork, DEVNULL=subprocess.DEVNULL)
'''


def launcher(folder, before):
    "A file that is `foprokd_run`, after some other code"
    file = folder/'launch.py'
    file.write_text(before + LAUNCHER.format('study.commands', 'foprokd_run', 'foprokd_run'), encoding='utf-8')
    return file


def env(folder): return environment(PYTHONPATH=paths(), FOPROKD_CACHE=str(folder/'facts'))


@pytest.mark.parametrize('before, methods', [(FORKED, ['bsm']), pytest.param('', ['bsm', 'ce', 'focal'], marks=pytest.mark.long)], ids=['forks', 'own'])
def test_side_by_side_gives_the_same_rows(grid, whole, tmp_path, before, methods):
    "Jobs that are forks, one run that works and the one that fails; or a Python of their own each, and all runs"
    out, some = tmp_path/'beside', tmp_path/'some.yaml'
    some.write_text(grid.read_text().replace('[bsm, ce, focal]', f"[{', '.join(methods)}]"))
    res = run_file(launcher(tmp_path, before), ['--grid', some, '--jobs', 2, '--quiet', '--out', out], tmp_path, env(tmp_path), fresh=False)
    assert res.returncode == 2, res.stderr[-2000:]
    assert finished(out) == {k: v for k, v in finished(whole[1]).items() if k[0] in methods} and len(rows(out)) == len(methods) + 1


def children(pid):
    "Process ids of the children of a process"
    res = subprocess.run(['ps', '--ppid', str(pid), '-o', 'pid='], capture_output=True, text=True)
    return [int(p) for p in res.stdout.split()]


def alive(pid):
    "Whether a process runs (one that has ended and was not waited for does not)"
    state = subprocess.run(['ps', '-p', str(pid), '-o', 'stat='], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith('Z')


@pytest.mark.skipif(which('ps') is None or not hasattr(os, 'fork'), reason='needs ps and fork')
@pytest.mark.parametrize('before', [FORKED, pytest.param('', marks=pytest.mark.long)], ids=['forks', 'own'])
def test_jobs_end_with_a_killed_grid(grid, tmp_path, before):
    "Jobs that are forks, or a Python of their own each"
    out = tmp_path/'orphans'
    args = ['--grid', grid, '--jobs', 2, '--quiet', '--distill', 20000, '--out', out]
    proc = start_file(launcher(tmp_path, before), args, tmp_path, env(tmp_path))
    deadline = time.time() + 120
    while time.time() < deadline and len(children(proc.pid)) < 2: time.sleep(.2)
    jobs = children(proc.pid)
    while time.time() < deadline and len([p for p in out.glob('*') if p.is_dir()]) < 2: time.sleep(.2)
    time.sleep(1)  # imports are over, training is not: it would take many minutes
    assert len(jobs) == 2 and all(map(alive, jobs))
    os.kill(proc.pid, signal.SIGKILL)
    proc.wait()
    deadline = time.time() + 120  # a job looks for its parent when its imports are over, which a busy machine makes long
    while time.time() < deadline and any(map(alive, jobs)): time.sleep(.2)
    assert not any(map(alive, jobs)) and rows(out) == []
