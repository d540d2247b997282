"A grid of runs that is killed, restarted, run side by side, and given a run that must fail."
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RUNS = '''
seeds: [0]
shared: {{data: {data}, student: test_resnet, size: 32, bs: 8, distill: 2}}
runs:
  - method: [bsm, ce, focal]
  - {{method: bsm, name: wrong, student: no_such_net}}
'''


@pytest.fixture(scope='module')
def grid(tmp_path_factory):
    "A grid file of three runs that work and one that cannot, on 60 small images"
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
    assert 'no_such_net' in done[-1]['failed'] and 'balanced_accuracy' in res.stdout


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


def test_killed_twice_gives_the_same_rows(foprokd_run, grid, whole, tmp_path):
    out = tmp_path/'killed'
    args = ('--grid', grid, '--quiet', '--out', out)
    for n in (0, 1): kill_in_the_middle(lambda: foprokd_run.start(*args), out, n)
    res = foprokd_run(*args)
    assert '1 of 4 runs are done.' in res.stdout
    assert finished(out) == finished(whole[1]) and len(rows(out)) == 4
    before = rows(out)
    res = foprokd_run(*args)
    assert '3 of 4 runs are done.' in res.stdout and rows(out)[:4] == before  # only the failure was tried again


def test_side_by_side_gives_the_same_rows_and_leaves_nothing_behind(foprokd_run, grid, whole, tmp_path):
    out = tmp_path/'beside'
    args = ('--grid', grid, '--jobs', 2, '--quiet', '--out', out)
    kill_in_the_middle(lambda: foprokd_run.start(*args), out, 0)
    time.sleep(4)  # the jobs notice within a second that their parent is gone
    left = rows(out)
    time.sleep(4)
    assert rows(out) == left
    res = foprokd_run(*args)
    assert res.returncode == 2, res.stderr[-2000:]
    assert finished(out) == finished(whole[1])
    assert [r['machine']['threads'] for r in rows(out) if 'failed' not in r] == [1] * 3
