"""Fit, interrupt, fit again, for many phases in one process: nothing may pile up.

    python tests/test_soak.py --phases 200

prints memory and its slope. Every round fits one phase until a `KeyboardInterrupt` is raised in it at a random batch, then
fits the same phase to its end; explore, distill and adversarial take turns."""
import argparse
import copy
import ctypes
import gc
import hashlib
import os
import random
import threading
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

PHASES = 6 # enough for each phase to be interrupted once; memory needs more, and looks at what is left, too
SOAK = int(os.environ.get('FOPROKD_SOAK', 40))
BATCH, STUDENT, N_MAX = 32, 'test_resnet', 24
BOUND = .3 # MiB per phase that memory may grow; the student's weights, or one batch of its activations, kept per phase are more (tested below)


def rss():
    "MiB of this process in memory that are its own: pages of libraries come and go with what else the machine does"
    try: ctypes.CDLL('libc.so.6').malloc_trim(0) # what is free goes back to the system, so that it is not counted
    except (OSError, AttributeError): pass
    resident, shared = map(int, Path('/proc/self/statm').read_text().split()[1:3])
    return (resident - shared) * os.sysconf('SC_PAGESIZE') / 2**20


def slope(values):
    "MiB per phase: the median of the slopes between all pairs (Theil-Sen), which single jumps do not move"
    v = np.asarray(values)
    i, j = np.triu_indices(len(v), k=max(1, len(v) // 4))
    return float(np.median((v[j] - v[i]) / (j - i)))


def make_learner(path):
    "A small learner of the whole method"
    from foprokd.learner import fopro_learner
    from foprokd.data.synth import demo_dls
    dls = demo_dls(path, size=32, bs=BATCH, n_max=N_MAX, ratio=3, n_valid=2, n_test=2)
    return fopro_learner(dls, STUDENT, 'embedded')


def left_behind(learn):
    "Everything that a phase could leave: hooks, threads, open files, callbacks, the loss, the teacher's weights"
    parts = dict(student=learn.model, teacher=learn.teacher, prompt=learn.prompt, probe=learn.explorer and learn.explorer.model)
    kinds = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks', '_state_dict_hooks', '_load_state_dict_pre_hooks')
    hooks = {n: sum(len(getattr(m, k)) for m in p.modules() for k in kinds) for n, p in parts.items() if p is not None}
    hooks['parameters'] = sum(len(p._backward_hooks or ()) for m in parts.values() if m is not None for p in m.parameters())
    digest = hashlib.sha256(b''.join(v.detach().cpu().numpy().tobytes() for v in learn.teacher.state_dict().values())).hexdigest()
    fds = Counter(os.readlink(f'/proc/self/fd/{f}') for f in os.listdir('/proc/self/fd') if os.path.islink(f'/proc/self/fd/{f}'))
    return dict(hooks=hooks, threads=len(threading.enumerate()), tasks=len(os.listdir('/proc/self/task')), files=sum(fds.values()), callbacks=[type(c).__name__ for c in learn.cbs],
                explorer_callbacks=[type(c).__name__ for c in learn.explorer.cbs] if learn.explorer else [], loss=id(learn.loss_func), teacher=digest,
                training=learn.teacher.training, grad=[n for n, p in learn.teacher.named_parameters() if p.requires_grad or p.grad is not None])


def soak(path, phases, leak=None, report=lambda i, mib: None):
    "Fit, interrupt, fit; what was there after the warm-up, what is there at the end, and the memory after each phase"
    from fastai.callback.core import Callback
    from fastai.torch_core import set_seed
    set_seed(0)
    where, learn = random.Random(0), make_learner(path)
    names, counts = ('explore', 'distill', 'adversarial'), Counter()
    n_batches = len(learn.dls.train)

    class Interrupt(Callback):
        "Ctrl-C in one batch, before, between and after its parts"
        def __init__(self, batch, event): self.batch, self.event = batch, event
        def __call__(self, event_name):
            super().__call__(event_name)
            if event_name == self.event and self.learn.training and self.learn.iter == self.batch: raise KeyboardInterrupt

    def phase(name, batch=None, event=None):
        learn.phase_history.clear() # the record of phases grows by design
        plan = {**dict.fromkeys(names, 0), name: 1}
        target = learn.explorer if name == 'explore' else learn
        stop = Interrupt(batch, event)
        with learn.no_bar(), learn.no_logging():
            if batch is None: return learn.fit_fopro(**plan)
            if name == 'explore': # it has a learner of its own
                with target.added_cbs(stop): interrupted(learn.fit_fopro, **plan)
            else: interrupted(learn.fit_fopro, **plan, cbs=stop)

    def interrupted(fit, **kwargs):
        try: fit(**kwargs)
        except KeyboardInterrupt: counts['interrupted'] += 1
        else: raise AssertionError(f'{kwargs} was not interrupted')

    memory, before = [], None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for name in names: phase(name) # the explorer is made by the first exploration
        gc.collect() # what earlier tests left, too
        before = left_behind(learn)
        while len(memory) < phases:
            name = names[len(memory) // 2 % 3]
            if len(memory) % 2 == 0: phase(name, where.randrange(n_batches), where.choice(['before_batch', 'after_pred', 'after_loss', 'before_step', 'after_step']))
            else: phase(name)
            if leak is not None: leak(learn)
            gc.collect()
            memory.append(rss())
            report(len(memory), memory[-1])
    return dict(before=before, after=left_behind(learn), memory=memory, interrupted=counts['interrupted'])


@pytest.fixture(scope='module')
def soaked(tmp_path_factory): return soak(tmp_path_factory.mktemp('soak')/'demo', PHASES)


def test_every_second_phase_was_interrupted(soaked): assert soaked['interrupted'] == (PHASES + 1) // 2


@pytest.mark.parametrize('what', ['hooks', 'threads', 'tasks', 'files', 'callbacks', 'explorer_callbacks', 'loss', 'teacher', 'training', 'grad'])
def test_nothing_is_left(soaked, what): assert soaked['after'][what] == soaked['before'][what]


def test_the_teacher_has_no_hooks_gradients_or_training_mode(soaked):
    after = soaked['after']
    assert not any(after['hooks'].values()) and not after['training'] and not after['grad']


def settled(memory):
    "After a quarter, in which allocators and caches fill"
    return memory[len(memory) // 4:]


@pytest.mark.long
def test_memory_is_flat(tmp_path):
    res = soak(tmp_path/'demo', SOAK)
    assert slope(settled(res['memory'])) < BOUND, [round(m) for m in res['memory']]
    assert res['after'] == res['before']


KEPT = []
LEAKS = dict(model=lambda learn: KEPT.append(copy.deepcopy(learn.model.state_dict())), activations=lambda learn: KEPT.append(learn.model(torch.rand(BATCH, 3, 32, 32)))) # with its graph


@pytest.mark.long
@pytest.mark.parametrize('name', LEAKS)
def test_a_leak_is_noticed(tmp_path, name):
    "A copy of the weights, or the activations of one batch, kept per phase breaks the bound"
    res = soak(tmp_path/'demo', 8, LEAKS[name])
    KEPT.clear()
    assert slope(settled(res['memory'])) > BOUND, res['memory']


def test_a_hook_a_file_and_a_callback_are_noticed(tmp_path):
    from fastai.callback.core import Callback
    kept = []
    def leave(learn):
        learn.teacher.model.register_forward_hook(lambda *a: None)
        kept.append(open(os.devnull))
        learn.add_cb(Callback())
        learn.loss_func = copy.copy(learn.loss_func)
    res = soak(tmp_path/'demo', 1, leave)
    for f in kept: f.close()
    assert {k for k in res['before'] if res['before'][k] != res['after'][k]} == {'hooks', 'files', 'callbacks', 'loss'}


if __name__ == '__main__':
    import tempfile
    parser = argparse.ArgumentParser()
    parser.add_argument('--phases', type=int, default=200)
    n = parser.parse_args().phases
    with tempfile.TemporaryDirectory() as d:
        res = soak(Path(d)/'demo', n, report=lambda i, mib: print(f'phase {i}: {mib:.1f} MiB', flush=True) if i % 25 == 0 or i == 1 else None)
    bad = [k for k in res['before'] if res['before'][k] != res['after'][k]]
    tail = res['memory'][min(50, n // 4):]
    least = np.polyfit(range(len(tail)), tail, 1)[0]
    print(f"{n} phases, {res['interrupted']} of them interrupted; slope over the last {len(tail)}: median {slope(tail):.4f}, least squares {least:.4f} MiB per phase; "
          f"left behind: {', '.join(bad) or 'nothing'}")
    raise SystemExit(bool(bad) or slope(tail) > BOUND)
