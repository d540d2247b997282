"""Runs that are killed go on, with the same result to the last bit.

Each trial trains the demo set through all three phases in a process of its own, kills it (SIGKILL) at a random moment, once or
twice, and lets another process go on under another random seed. Student, prompt, probe and curves must be those of a run that
was never disturbed. The test makes 3 trials, one for each rhythm of checkpoints; the whole thing is

    python tests/test_resume.py --trials 50
"""
import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from conftest import ROOT, python

BUDGET = dict(explore=2, distill=4, adversarial=2)
SHORT = dict(explore=1, distill=2, adversarial=1)
NOTHING = 'nothing written' # killed before the first checkpoint: the next begins, with the seed that the first had


def learner(seed):
    "A small learner whose random numbers begin at `seed`"
    from fastai.torch_core import set_seed

    from foprokd.learner import fopro_learner
    from foprokd.data.synth import demo_dls
    set_seed(seed, reproducible=True)
    return fopro_learner(demo_dls(size=32, bs=16, n_max=16, ratio=4, n_valid=2, n_test=1), 'test_resnet', distill_kwargs=dict(soft=.5))


def result(learn):
    "Digests of student, prompt with probe, curves, and the next random numbers"
    def digest(tensors): return hashlib.sha256(b''.join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest()[:16]
    curves = [(h['name'], h['losses'], h['values']) for h in learn.phase_history]
    return dict(student=digest(learn.student.state_dict().values()), explorer=digest(learn.explorer.model.state_dict().values()),
                curves=hashlib.sha256(repr(curves).encode()).hexdigest()[:16], draws=digest([torch.rand(4)]))


def train(folder, minutes, seed, budget):
    "Train or go on, and write the result"
    learn = learner(seed)
    (folder/'begun').touch()
    with learn.no_bar(), learn.no_logging(): learn.fit_fopro(**budget, checkpoint=folder/'kept', resume=True, minutes=minutes)
    (folder/'result.json').write_text(json.dumps(result(learn)))


def start(folder, minutes, seed, budget):
    "A process that trains; a fork, so that it need not import anything"
    pid = os.fork()
    if pid: return pid
    status = 1
    try:
        sys.stdout, sys.stderr = (open(folder/f'{n}.txt', 'a') for n in ('out', 'err'))
        train(folder, minutes, seed, budget)
        status = 0
    except BaseException as e: (folder/'error.txt').write_text(repr(e))
    finally: os._exit(status)


def wait_for(file, pid):
    "Wait until a process has written a file"
    while not file.exists():
        time.sleep(.005)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), 'the process ended before it began to train'


def where(folder):
    "Phase, epoch and batch of the newest checkpoint"
    from foprokd.train.checkpoint import CheckpointFolder
    state = CheckpointFolder(folder/'kept').latest()
    if state is None: return NOTHING
    names = 'explore', 'distill', 'adversarial', 'end'
    fit = state['fit'] or dict(epoch=0, batch=0)
    return f"{names[state['phase']]} {fit['epoch']}.{fit['batch']}"


def trials(n, seed=0, budget=BUDGET):
    "Places of the kills, and what the runs came to; the first result is that of the undisturbed run"
    draw, places, results = random.Random(seed), [], []
    with tempfile.TemporaryDirectory() as tmp:
        whole = Path(tmp)/'whole'
        whole.mkdir()
        learner(0) # imports what the processes need
        wait_for(whole/'begun', pid := start(whole, .005, 0, budget))
        begun = time.monotonic()
        os.waitpid(pid, 0)
        seconds = time.monotonic() - begun
        results.append(json.loads((whole/'result.json').read_text()))
        for i in range(n):
            folder, minutes = Path(tmp)/f'{i}', (0, .005, 10)[i % 3]
            folder.mkdir()
            for k in range(1 + i % 2):
                (folder/'begun').unlink(missing_ok=True)
                pid = start(folder, minutes, 1000*k if where(folder) != NOTHING else 0, budget)
                wait_for(folder/'begun', pid)
                time.sleep(draw.uniform(0, .85*seconds / (1 + k)))
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                places.append(where(folder))
            status = os.waitpid(start(folder, minutes, 77 + i if where(folder) != NOTHING else 0, budget), 0)[1]
            assert status == 0, (folder/'error.txt').read_text() if (folder/'error.txt').exists() else status
            results.append(json.loads((folder/'result.json').read_text()))
    return places, results


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.parametrize('n, budget', [(3, SHORT), pytest.param(12, BUDGET, marks=pytest.mark.long)], ids=['3', '12'])
def test_killed_runs_end_as_undisturbed_ones(tmp_path, n, budget):
    "Every second one is killed twice"
    out = python(f'import sys, json; sys.path[:0] = [{str(ROOT/"tests")!r}]; import test_resume as t; print(json.dumps(t.trials({n}, 0, {budget})))', tmp_path)
    assert out.returncode == 0, out.stderr[-2000:]
    places, results = json.loads(out.stdout.splitlines()[-1])
    assert len(places) == n + n // 2 and len(results) == n + 1
    assert all(r == results[0] for r in results), (places, results)


SIGTERM = """
import sys, time, threading, os, signal
sys.path[:0] = [{tests!r}]
from pathlib import Path
import test_resume as t
from fastai.callback.core import Callback
class Ask(Callback):
    def after_batch(self):
        if self.training and (self.epoch, self.iter) == (1, 2): os.kill(os.getpid(), signal.SIGTERM)
learn = t.learner(0)
with learn.no_bar(), learn.no_logging():
    learn.fit_fopro(1, 2, 0, checkpoint='kept', resume=True, cbs=Ask() if {ask} else None)
Path('result.txt').write_text(str(t.result(learn)))
"""


@pytest.mark.parametrize('fresh', [False, pytest.param(True, marks=pytest.mark.long)], ids=['fork', 'own'])
def test_sigterm_saves_and_leaves_with_exit_code_0(tmp_path, fresh):
    folders = [tmp_path/n for n in ('asked', 'whole')]
    for f in folders: f.mkdir()
    first = python(SIGTERM.format(tests=str(ROOT/'tests'), ask=True), folders[0], fresh=fresh)
    assert first.returncode == 0 and not (folders[0]/'result.txt').exists(), first.stderr[-1000:]
    for f in folders:
        out = python(SIGTERM.format(tests=str(ROOT/'tests'), ask=False), f)
        assert out.returncode == 0, out.stderr[-1000:]
    assert (folders[0]/'result.txt').read_text() == (folders[1]/'result.txt').read_text()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=50, help='runs that are killed')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args()
    places, results = trials(args.trials, args.seed)
    same = sum(r == results[0] for r in results[1:])
    print(f'killed {len(places)} times, newest checkpoint then: {", ".join(places)}')
    print(f'{same} of {args.trials} runs ended with student, prompt, probe, curves and random numbers of the undisturbed run')
    sys.exit(same != args.trials)


if __name__ == '__main__': main()
