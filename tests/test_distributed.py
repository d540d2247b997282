"""Many processes: equal weights after every phase, the gradients of one process, one row of results.

On gloo and CPUs, or on NCCL where each process finds a GPU of its own; GPUs that are too few for that are hidden from all."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import LAUNCHER, ROOT, environment, run_file, warm
from foprokd.data.synth import demo_set

pytest.importorskip('accelerate')

GPUS = torch.cuda.device_count()
HIDDEN = {} if GPUS > 1 else {'CUDA_VISIBLE_DEVICES': ''}

WORK = '''
import os, sys, torch
from contextlib import nullcontext
from torch import nn
from torch.utils.data import TensorDataset
from fastai.vision.all import (Callback, CrossEntropyLossFlat, DataLoader, DataLoaders, SGD, accuracy, set_seed)
from foprokd.adversarial import AdversarialCallback
from foprokd.explore import SkipValidation, explore_learner
from foprokd.learner import FoProLearner, fopro_learner
from foprokd.measure.metrics import GroupRecall
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt
from foprokd.train.ranks import on_main, process_group, share_ranks
from foprokd.student import Student, load_student
from foprokd.data.synth import demo_dls
from foprokd.teacher import FrozenTeacher

torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
out, rank, n = sys.argv[1], int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))


class Fixed(Callback):
    "A latent that follows from the image, and the gradients of the first step"
    order = -5
    def __init__(self, prompt):
        self.prompt, self.zs = prompt, []
        g = torch.Generator().manual_seed(1)
        self.mix = torch.randn(2, 3*32*32, prompt.z_dim, generator=g) / 32
    def before_fit(self): self.prompt.sample_z = lambda n, device=None, generator=None: self.zs.pop(0)
    def before_batch(self): self.zs[:] = [self.xb[0].flatten(1) @ m.to(self.xb[0].device) for m in self.mix] * 2
    def before_step(self): self.learn.first = [p.grad.clone() for p in self.learn.model.parameters()]


def gradients(phase, vit=False):
    "Gradients of one step on a batch of 16"
    set_seed(0)
    x, y = torch.rand(16, 3, 32, 32), torch.arange(16) % 4
    dl = DataLoader(TensorDataset(x, y), bs=16 // n, drop_last=True)
    dls, counts = DataLoaders(dl, dl), torch.tensor([8, 4, 3, 1])
    teacher, prompt = FrozenTeacher(), FourierPromptGenerator(init_std=.5)
    if vit: # no BatchNorm: the prior looks at the features
        teacher = FrozenTeacher(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()))
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    student = Student(body, 4, teacher.num_features, projector_layers=1)
    outer = FoProLearner(dls, student, teacher, prompt, counts=counts, opt_func=SGD, cbs=Fixed(prompt))
    inner = explore_learner(dls, teacher, prompt, counts=counts, w_div=1., opt_func=SGD)
    inner.add_cb(Fixed(prompt))
    ascent = []
    with outer.distrib_ctx(), outer.no_bar(), outer.no_logging(), inner.no_bar(), inner.no_logging():
        if phase == 'explore':
            with share_ranks(outer, inner): inner.fit(1, 1e-3)
            return inner.first + [inner.model.probe[0].running_mean.clone(), inner.model.probe[0].running_var.clone()]
        if phase == 'distill': outer.fit(1, 1e-3); return outer.first
        class Spy(AdversarialCallback):
            def before_fit(self):
                super().before_fit()
                step = self.ascent.step
                def spy(): ascent.extend(p.grad.clone() for p in self.teacher_prompt.parameters()); step()
                self.ascent.step = spy
        outer.remove_cbs(outer.cbs.filter(lambda o: type(o).__name__ == 'DistillCallback'))
        outer.fit(1, 1e-3, cbs=Spy(teacher, prompt))
    return ascent + outer.first + [p.detach().clone() for p in prompt.parameters()]


def phases():
    "Weights after each phase of a learner that starts differently on each rank, and what is gathered"
    set_seed(rank) # other weights, other order, other latents on each rank
    dls = demo_dls(size=32, bs=8, n_max=12, ratio=4, n_valid=5, n_test=1)
    learn = fopro_learner(dls, 'test_resnet', metrics=[accuracy, GroupRecall([6, 7])], distill_kwargs=dict(soft=.5))
    res = dict(counts=learn.counts, batches=[])
    class Seen(Callback):
        order = 12
        def before_batch(self):
            if self.training: res['batches'].append(self.xb[0].mean((1, 2, 3)))
    with learn.distrib_ctx(), learn.no_bar(), learn.no_logging():
        for name in ('explore', 'distill', 'adversarial'):
            cbs = [Seen(), SkipValidation()] if name == 'distill' else Seen() # validation makes statistics equal, too
            learn.fit_fopro(**{**dict(explore=0, distill=0, adversarial=0), name: 1}, cbs=cbs)
            mods = dict(prompt=learn.prompt, probe=learn.explorer.model.probe, student=learn.student)
            res[name] = {f'{k}.{p}': v.clone() for k, m in mods.items() for p, v in m.state_dict().items()}
            res[f'{name}_curves'] = [learn.phase_history[-1][k] for k in ('values', 'losses')]
        some = learn.dls.test_dl(learn.dls.valid.items[:37], with_labels=True)
        res['probs'], res['targs'] = learn.get_preds(dl=some)
        res['recall'] = float(learn.validate(dl=some)[2])
    net = learn.student.eval()
    with torch.no_grad(): res['plain'] = torch.cat([net(b[0]).softmax(1) for b in some])
    res['truth'] = torch.cat([b[1] for b in some])
    res['wrapped'] = [type(m).__name__ for m in (learn.model, learn.explorer.model, learn.dls.train)]
    return res


def exported():
    "What a student whose norms hold activations says, and what its file says; where it was trained, and by how many norms of all processes"
    set_seed(rank)
    learn = fopro_learner(demo_dls(size=32, bs=8, n_max=12, ratio=2, n_valid=3, n_test=1), 'mobilenetv3_small_050')
    res = {}
    class Where(Callback):
        def before_batch(self):
            norms = sum(isinstance(m, nn.SyncBatchNorm) for m in self.model.modules())
            if self.training: res['where'] = (torch.distributed.get_backend(), str(self.xb[0].device), str(next(self.model.parameters()).device), norms)
    with learn.distrib_ctx(), learn.no_bar(), learn.no_logging():
        learn.fit_fopro(0, 1, lr=3e-2, cbs=Where())
        res['said'] = learn.get_preds()[0]
        learn.export_student(f'{out}.safetensors')
    @torch.no_grad()
    def file(): return torch.cat([load_student(f'{out}.safetensors')[0].eval()(b[0].cpu()).softmax(1) for b in learn.dls.valid])
    res['file'] = on_main(file)
    return res


def replayed():
    "What is shown and told, by epoch, view and batch, in two fits of four epochs with two views and one bank; images asked about; weights"
    runs = []
    for _ in range(2):
        set_seed(0)
        dls = demo_dls(size=32, bs=8, n_max=12, ratio=4, n_valid=2, n_test=1)
        teacher, told, asked = FrozenTeacher(size=32), {}, []
        set_seed(rank)
        learn = fopro_learner(dls, 'test_resnet', teacher, prompt=IdentityPrompt(), distill_kwargs=dict(views=2, bank=f'{out}.bank'))
        class Shown(Callback):
            order, run_valid = 50, False
            def before_batch(self):
                told[self.epoch, self.learn.views.k, self.learn.dl.order[self.iter]] = self.xb[0].clone(), self.learn.distill.feats.clone()
        with learn.distrib_ctx(), learn.no_bar(), learn.no_logging():
            teacher.register_forward_hook(lambda m, x, y: asked.append(len(x[0])) if told else None) # after the looks that a fit begins with
            learn.fit(4, cbs=[Shown(), SkipValidation()])
        runs.append(dict(told=told, asked=sum(asked), weights=[p.detach().clone() for p in learn.student.parameters()]))
    return runs


with process_group():
    todo = ['explore', 'adversarial'] if n == 4 else ['explore', 'explore+vit', 'distill', 'adversarial', 'adversarial+vit']
    parts = os.environ.get('PARTS', 'gradients phases exported replayed').split() # a pretend GPU takes its time
    res = {k: gradients(*k.split('+')) for k in todo if 'gradients' in parts}
    if n > 1 and 'phases' in parts: res['phases'] = phases()
    if n == 2: res.update({f.__name__: f() for f in (exported, replayed) if f.__name__ in parts})
torch.save(res, f'{out}.{rank}')
'''


INSTEAD = """
import sys
sys.path.insert(0, {!r})
from warm import instead
sys.argv.pop(0)
instead({!r})
"""
ON_THE_WAY = pytest.mark.parametrize('fresh', [False, pytest.param(True, marks=pytest.mark.long)], ids=['forks', 'own'])


def launch(n, args, cwd, launcher=('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node'), fresh=True, timeout=600):
    "Run a file in `n` processes, as a user's launcher does; not fresh: what it starts is replaced by forks of a process that has done the imports"
    if not fresh and warm():
        (cwd/'instead.py').write_text(INSTEAD.format(str(ROOT/'tests'), warm().address), encoding='utf-8')
        args = ['instead.py', *args]
    start = [sys.executable, *launcher, str(n)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    env = environment(PYTHONPATH=path, FOPROKD_CACHE=str(cwd/'facts'), PYTHONWARNINGS='ignore', **HIDDEN)
    return subprocess.run([*start, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)


FORKS = """
import os, runpy, socket, sys
n, sys.argv = int(sys.argv[1]), sys.argv[2:]
with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
pids = []
for rank in range(n):
    pids.append(os.fork())
    if not pids[-1]:
        status = 1
        try:
            if n > 1: os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n), LOCAL_WORLD_SIZE=str(n), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
            runpy.run_path(sys.argv[0], run_name='__main__')
            status = 0
        except SystemExit as e: status = e.code or 0
        except BaseException: import traceback; traceback.print_exc()
        finally: os._exit(status)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) != 0 for p in pids))
"""


def forked(n, args, cwd):
    "Run a file in `n` processes with what torchrun sets in their environment, forks of one that has done the imports"
    (cwd/'forks.py').write_text(FORKS, encoding='utf-8')
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    return run_file(cwd/'forks.py', [n, *args], cwd, environment(PYTHONPATH=path, FOPROKD_CACHE=str(cwd/'facts'), **HIDDEN), False)


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
    "What the processes of runs with 1, 2 and 4 of them saved"
    cwd = tmp_path_factory.mktemp('ranks')
    (cwd/'work.py').write_text(WORK, encoding='utf-8')

    class Runs(dict):
        "A run is made when a test asks for it"
        def __missing__(self, n):
            done = forked(n, ['work.py', f'out{n}'], cwd)
            assert done.returncode == 0, done.stderr[-3000:]
            self[n] = [torch.load(cwd/f'out{n}.{i}', 'cpu', weights_only=False) for i in range(n)]
            return self[n]
    return Runs()


FEW = pytest.mark.skipif(1 < GPUS < 4, reason=f'four processes need four GPUs or none, here are {GPUS}')
FOUR = pytest.param(4, marks=[pytest.mark.long, FEW])


@pytest.mark.parametrize('n, phase', [(2, 'explore'), (2, 'explore+vit'), (2, 'distill'), (2, 'adversarial'), (2, 'adversarial+vit'),
                                      *(pytest.param(4, o, marks=[pytest.mark.long, FEW]) for o in ('explore', 'adversarial'))])
def test_gradients_are_those_of_one_process(ran, n, phase):
    # float32; a student without BatchNorm, a teacher with and one without it; a fixed latent per image
    [one] = ran[1]
    for many in ran[n]:
        assert len(many[phase]) == len(one[phase])
        for a, b in zip(many[phase], one[phase]):
            assert b.abs().max() > 0
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max().clamp(min=1)))


@pytest.mark.parametrize('n', [2, FOUR])
@pytest.mark.parametrize('phase', ['explore', 'distill', 'adversarial'])
def test_same_weights_and_statistics_after_each_phase(ran, n, phase):
    first, *rest = (o['phases'] for o in ran[n])
    assert any(k.endswith('running_var') for k in first[phase])
    for other in rest:
        assert first[phase].keys() == other[phase].keys()
        for k, v in first[phase].items(): assert v.equal(other[phase][k]), k
        np.testing.assert_equal(first[f'{phase}_curves'], other[f'{phase}_curves'])


def test_each_phase_moves_what_it_should(ran):
    states = [ran[2][0]['phases'][p] for p in ('explore', 'distill', 'adversarial')]
    def moved(a, b): return {k.split('.')[0] for k in a if not a[k].equal(b[k])}
    assert moved(*states[:2]) == {'student'} and moved(*states[1:]) == {'student', 'prompt'}


@pytest.mark.parametrize('n', [2, FOUR])
def test_ranks_draw_their_own(ran, n):
    first, *rest = (o['phases'] for o in ran[n])
    for other in rest:
        assert first['counts'].equal(other['counts'])
        assert len(first['batches']) == len(other['batches']) > 0
        for a, b in zip(first['batches'], other['batches']): assert len(a) == len(b) and not a.equal(b)


@pytest.mark.parametrize('n', [2, FOUR])
def test_predictions_are_whole_and_in_order(ran, n):
    for o in (o['phases'] for o in ran[n]):
        assert o['targs'].equal(o['truth']) and len(o['probs']) == 37
        torch.testing.assert_close(o['probs'], o['plain'])
        tail = [float((o['probs'].argmax(1) == o['targs'])[o['targs'] == k].float().mean()) for k in (6, 7) if (o['targs'] == k).any()]
        assert o['recall'] == pytest.approx(np.mean(tail))  # GroupRecall of all ranks' images
        assert o['wrapped'] == ['Student', 'PromptExplorer', 'TfmdDL']


def test_the_exported_file_is_the_learner_and_each_process_has_a_device(ran):
    for rank, o in enumerate(o['exported'] for o in ran[2]):
        assert o['said'].shape == (24, 8) and int((o['said'].argmax(1) != o['file'].argmax(1)).sum()) == 0
        torch.testing.assert_close(o['said'], o['file'], atol=1e-5, rtol=1e-4)
        *where, norms = o['where']
        assert where == (['nccl', *[f'cuda:{rank}'] * 2] if GPUS > 1 else ['gloo', 'cpu', 'cpu'])
        assert (norms > 30) is (GPUS > 1)  # CPUs keep the statistics of each process


def test_each_process_keeps_its_own_part_of_a_bank(ran):
    ranks = [o['replayed'] for o in ran[2]]
    for first, again in ranks:
        kept = {key[1:]: v for key, v in first['told'].items() if key[0] < 2}
        assert first['asked'] > 0 == again['asked'] and {k for _, k, _ in first['told']} == {0, 1}
        for told in (first['told'], again['told']):
            assert len(told) == 2 * len(kept)
            for key, v in told.items(): assert all(a.equal(b) for a, b in zip(v, kept[key[1:]]))
        for a, b in zip(first['weights'], again['weights']): assert a.equal(b)
    for a, b in zip(*(r[0]['weights'] for r in ranks)): assert a.equal(b)
    one, other = (r[0]['told'] for r in ranks)
    assert not any(one[k][0].equal(other[k][0]) for k in one.keys() & other.keys())


ACCELERATE = ('-m', 'accelerate.commands.launch', '--multi_gpu', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no', '--num_processes')


def command(tmp_path):
    "A file that runs `foprokd_run`"
    (tmp_path/'launch.py').write_text(LAUNCHER.format('study.commands', 'foprokd_run', 'foprokd_run'), encoding='utf-8')
    return 'launch.py'


@ON_THE_WAY
def test_command_gives_one_row(tmp_path, fresh):
    "By accelerate, which takes `--multi_gpu` to mean many processes, on CPUs as well"
    out = tmp_path/'out'
    demo_set(tmp_path/'images', n_max=40, ratio=10, n_valid=3, n_test=6, size=32)
    res = launch(2, [command(tmp_path), '--data', 'images', '--method', 'fopro', '--student', 'test_resnet', '--size', 32,
                     '--bs', 32, '--prompt', 'learned', '--explore', 1, '--distill', 1, '--log', 'csv', '--out', out], tmp_path, ACCELERATE, fresh)
    assert res.returncode == 0, res.stderr[-3000:]
    [row] = [json.loads(o) for o in (out/'results.jsonl').read_text().splitlines()]
    assert row['processes'] == 2 and row['settings']['bs'] == 32 and 'failed' not in row
    assert res.stdout.count('Rows: ') == res.stdout.count('Test, value') == 1, res.stdout
    [folder] = [p for p in out.iterdir() if p.is_dir()]
    names = sorted(p.name for p in folder.iterdir())
    assert names == ['epochs.csv', 'history.json', 'losses.png', 'prompt.safetensors', 'prompts.png', 'recall.png', 'student.safetensors', 'test_predictions.npz']
    assert len((folder/'epochs.csv').read_text().splitlines()) == 3  # a header, an epoch of exploration and one of distillation
    saved = np.load(folder/'test_predictions.npz')
    assert len(saved['images']) == len(set(saved['images'])) == len(saved['probs']) == row['n_test'] > 0
    n = sum(row['class_counts']['train']) // 32  # batches of an epoch in one process
    assert [len(h['losses']) for h in json.loads((folder/'history.json').read_text())] == [n, n]


@ON_THE_WAY
def test_a_prompt_is_chosen_by_one_and_used_by_all(tmp_path, fresh):
    "The method's own prompt, and a table of soft targets, which each process makes for itself"
    demo_set(tmp_path/'images', n_max=30, ratio=3, n_valid=3, n_test=3, size=32)
    res = launch(2, [command(tmp_path), '--data', 'images', '--method', 'fopro', '--method-kwargs', 'soft=1 views_teacher=2', '--student', 'test_resnet',
                     '--size', 32, '--bs', 32, '--distill', 2, '--out', tmp_path/'out'], tmp_path, ACCELERATE, fresh)
    assert res.returncode == 0, res.stderr[-3000:]
    [row] = [json.loads(o) for o in (tmp_path/'out'/'results.jsonl').read_text().splitlines()]
    assert row['processes'] == 2 and 'failed' not in row and row['prompt_choice']['images'] > 100
    assert [h['name'] for h in row['phase_history']] == ['distill']
    soft = [v[h['columns'].index('soft')] for h in row['phase_history'] for v in h['values']]
    assert soft[1] < soft[0]


def test_an_error_is_said_once_and_ends_all(tmp_path):
    "Each process by itself: no launcher ends the other"
    res = forked(2, [command(tmp_path), '--data', 'nowhere/at/all', '--method', 'bsm', '--out', tmp_path/'out'], tmp_path)
    assert res.returncode != 0 and not (tmp_path/'out'/'results.jsonl').exists()
    said = [o for o in res.stderr.splitlines() if o.startswith('foprokd_run: ')]
    assert len(said) == 1 and 'nowhere/at/all' in said[0], res.stderr[-3000:]


RESUMED = """
import os, signal, sys, torch
from fastai.vision.all import Callback, set_seed
from foprokd.learner import fopro_learner
from foprokd.train.ranks import process_group
from foprokd.data.synth import demo_dls
out, ask, seed, around, rank = sys.argv[1], *map(int, sys.argv[2:5]), int(os.environ['RANK'])


class Ask(Callback):
    "SIGTERM, for rank 1 alone, in the second epoch of distillation"
    def after_batch(self):
        if ask and rank and self.training and (self.n_epoch, self.epoch, self.iter) == (2, 1, 0): os.kill(os.getpid(), signal.SIGTERM)


with process_group():
    set_seed(seed + 100 * rank)
    learn = fopro_learner(demo_dls(size=32, bs=8, n_max=12, ratio=4, n_valid=2, n_test=1), 'test_resnet')
    with learn.distrib_ctx(), learn.no_bar(), learn.no_logging():
        learn.fit_fopro(around, 2, around, cbs=Ask(), checkpoint=out, resume=True)
    nets = [learn.student, *([learn.explorer.model] if around else [])]
    torch.save([*(v for m in nets for v in m.state_dict().values()), torch.rand(3)], f'{out}.{rank}')
"""


@ON_THE_WAY
def test_processes_leave_on_sigterm_and_go_on_together(tmp_path, fresh):
    "Asked by torchrun; in the short version there is no phase before and after"
    (tmp_path/'work.py').write_text(RESUMED, encoding='utf-8')
    for args in (('whole', 0, 0, int(fresh)), ('asked', 1, 0, int(fresh)), ('asked', 0, 7, int(fresh))): # the last goes on under another seed
        done = launch(2, ['work.py', *args], tmp_path, fresh=fresh) if args[1] else forked(2, ['work.py', *args], tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert (tmp_path/f'{args[0]}.1').exists() is not bool(args[1]), 'it left early, and only then'
    for rank in (0, 1):
        whole, resumed = (torch.load(tmp_path/f'{n}.{rank}', 'cpu', weights_only=True) for n in ('whole', 'asked'))
        assert len(whole) == len(resumed) and all(a.equal(b) for a, b in zip(whole, resumed))
