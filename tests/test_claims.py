"""Several processes work on one folder of results: nothing is run twice at a time, nothing is lost, nothing is written twice, also when they are killed."""
import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from conftest import environment

# Training is replaced by a moment's sleep; all else is the package's: queue, claims, rows. Children are forked, so that a kill costs no import.
PROGRAM = '''
import os, random, signal, sys, time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from foprokd.measure.rows import append_row
from foprokd.study import jobs
from foprokd.study.claims import in_turn
from foprokd.study.settings import RunConfig, settings_hash

out, kills, n = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(0)

def run(cfg, seed, df=None, bar=False):
    inside = out/f'inside-{seed}'
    try: inside.touch(exist_ok=False)
    except FileExistsError: # left by one that was killed, or another is at work
        if time.time() - inside.stat().st_mtime < .05 and alive(int(inside.read_text() or 0)): print('two at once', seed, flush=True)
    inside.write_text(str(os.getpid()))
    time.sleep(.05)
    row = dict(name=cfg.name, method=cfg.method, seed=seed, fold=None, settings_hash=settings_hash(cfg), settings=asdict(cfg), pid=os.getpid(),
               finished=datetime.now(timezone.utc).isoformat())
    with in_turn(out/'claims'/'rows'): append_row(row, out/'results.jsonl')
    inside.unlink(missing_ok=True)

def alive(pid):
    try: os.kill(pid, 0)
    except (ProcessLookupError, ValueError): return False
    return pid > 0

jobs._run_one, jobs.try_runs, jobs._say_data, jobs.SplitTables, jobs._say = run, lambda *a: None, lambda *a: None, lambda bar: lambda cfg: None, lambda text: None
jobs._fingerprints = lambda cfg: {}
grid = [(RunConfig(method='bsm', data='none', out=str(out)), list(range(n)))]

def start():
    if pid := os.fork(): return pid
    code = 1
    try:
        jobs.run_grid(grid, bar=False, patience=30.)
        code = 0
    finally: os._exit(code)

running = {start(), start()}
while running:
    if kills:
        time.sleep(rng.uniform(.02, .25))
        pid = rng.choice(sorted(running))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        running = running - {pid} | {start()}
        kills -= 1
        continue
    pid, code = os.wait()
    running.discard(pid)
    print('exit', code, flush=True)
'''


@pytest.mark.parametrize('kills', [0, 20])
def test_two_processes_share_a_grid(tmp_path, kills):
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', PROGRAM, str(tmp_path), str(kills), '60'], env=environment(), capture_output=True, text=True, timeout=300)
    assert res.stdout == 'exit 0\nexit 0\n', res.stdout + res.stderr[-2000:]
    rows = [json.loads(o) for o in (tmp_path/'results.jsonl').read_text().splitlines() if o.strip()]
    assert Counter(r['seed'] for r in rows) == Counter(range(60)) # none lost, none twice
    assert len({r['pid'] for r in rows}) >= 2 and not any('failed' in r for r in rows)
    assert kills or not (tmp_path/'claims').exists() # one that was killed may leave its file


def test_the_same_command_twice_runs_each_once(tmp_path):
    "Two real commands, started together"
    command = [sys.executable, '-W', 'ignore', '-c', 'import sys; sys.argv[0] = "foprokd_run"; from foprokd.study.entry import foprokd_run; foprokd_run()', '--method', 'bsm,ce',
               '--distill', '1', '--size', '32', '--quiet', '--out', str(tmp_path/'out')]
    both = [subprocess.Popen(command, env=environment(OMP_NUM_THREADS='1'), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=300) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    rows = [json.loads(o) for o in (tmp_path/'out'/'results.jsonl').read_text().splitlines()]
    assert Counter(r['method'] for r in rows) == dict(bsm=1, ce=1)
    assert all(re.search(r'balanced_accuracy', o) for o, _ in said) # each shows the whole table
    assert not (tmp_path/'out'/'claims').exists()


def test_a_process_that_waits_for_others_says_so_once(tmp_path, capsys):
    from foprokd.study.claims import claim
    from foprokd.study.jobs import _Queue, run_folder
    from foprokd.study.settings import RunConfig
    cfg = RunConfig(out=str(tmp_path))
    queue = _Queue([(cfg, 0)], {}, 300)
    with claim(tmp_path/'claims'/run_folder(cfg, 0).name, 300) as held:
        assert held is not None
        for _ in range(3):
            assert queue.take() is None
            queue.next = 0
    assert capsys.readouterr().out == 'Other processes hold what is left, 1 run: waiting for them.\n'
    assert queue.take()[1:3] == (cfg, 0)
