"""Faults of a machine with GPUs, on CPUs: torch's device `meta` stands for another device, a list of operations for what a GPU would be asked.

The tests named `pretend` run on a pretend CUDA device (`benchmarks/pretend_cuda`), in one process for all of them, in a stage of
`.ci/run` of their own (`tools/pretend_gpu.sh`)."""
import json
import os
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT, environment, paths
from fastai.vision.all import Callback, CancelFitException, Learner, MixedPrecision, OptimWrapper, TensorCategory, set_seed
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from foprokd.data.longtail import check_counts
from foprokd.data.synth import demo_dls
from foprokd.distill import DistillCallback
from foprokd.explore import PromptExplorer
from foprokd.frequency.bands import band_response
from foprokd.frequency.controls import BandPrompt, RandomPrompt
from foprokd.learner import fopro_learner
from foprokd.losses import BalancedSoftmaxLoss
from foprokd.pixels import PixelSpace
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt
from foprokd.spectrum import band_mask, half_weights, radial_frequency
from foprokd.student import Student, load_student
from foprokd.study.settings import RunConfig
from foprokd.study.wiring import learner_from_config
from foprokd.teacher import FrozenTeacher, gaussian_kl
from foprokd.train.guards import FiniteGuard, PhaseWatch, diagnose_features
from foprokd.train.moments import channel_moments, watch_moments
from foprokd.train.ranks import GlobalBatchNorm1d

META = torch.device('meta')


@pytest.fixture(scope='module')
def teacher(): return FrozenTeacher('embedded', size=32)


def quiet(learn, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn.fit_fopro(*args, **kwargs) if hasattr(learn, 'fit_fopro') else learn.fit(*args, **kwargs)
    return learn


def loaders(**kwargs): return demo_dls(**{**dict(size=32, bs=16, n_max=8, ratio=2, n_valid=1, n_test=1), **kwargs})


class Ops(TorchDispatchMode):
    "Names of the operations in order"
    def __init__(self): super().__init__(); self.names = []
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func).removeprefix('aten.').split('.')[0])
        return func(*args, **(kwargs or {}))


# ---- D1: BatchNorm over several processes
@pytest.mark.parametrize('arch', ['mobilenetv3_small_050', 'test_efficientnet', 'test_byobnet', 'test_resnet', 'regnetx_002'])
def test_d1_synchronised_norms_keep_the_function_and_are_given_back(arch):
    pytest.importorskip('accelerate')
    from foprokd.train.distributed import give_back_norms, sync_norms
    set_seed(0)
    net = Student(arch, 8, 96).eval()
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats: m.running_mean.normal_(std=.1)
    x, kinds, state = torch.rand(2, 3, 64, 64), list(map(type, net.modules())), {k: v.clone() for k, v in net.state_dict().items()}
    said = net(x, True)
    swapped = sync_norms(net)
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in net.modules()) == len(swapped) > 0
    assert all(a.equal(b) for a, b in zip(net(x, True), said)) and list(net.state_dict()) == list(state)
    with torch.no_grad(): net.classifier.weight.add_(1), next(m for m in net.modules() if isinstance(m, nn.SyncBatchNorm)).weight.add_(1)
    moved = net(x)
    give_back_norms(swapped)
    assert list(map(type, net.modules())) == kinds and net(x).equal(moved) and not moved.equal(said[0])


def test_d1_exported_file_is_the_learner(tmp_path, teacher):
    from foprokd.train.distributed import give_back_norms, sync_norms
    learn = fopro_learner(loaders(), 'mobilenetv3_small_050', teacher, path=tmp_path)
    give_back_norms(sync_norms(learn.model))
    with learn.no_bar(): probs = learn.get_preds()[0]
    learn.export_student(tmp_path/'s.safetensors')
    net, _ = load_student(tmp_path/'s.safetensors')
    with torch.no_grad(): again = torch.cat([net.eval()(x).softmax(1) for x, _ in learn.dls.valid])
    torch.testing.assert_close(again, probs, atol=1e-5, rtol=1e-4)


def test_d1_layers_with_a_forward_of_their_own_hooks_and_shared_ones():
    pytest.importorskip('accelerate')
    from foprokd.train.distributed import give_back_norms, sync_norms
    class Own(nn.BatchNorm2d):
        def forward(self, x): return super().forward(x).relu()
    shared, seen = nn.BatchNorm1d(3, momentum=None), []
    net = nn.Sequential(shared, shared, GlobalBatchNorm1d(3), nn.Sequential(Own(3)), nn.SyncBatchNorm(3), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    shared.register_forward_hook(lambda *_: seen.append(1))
    swapped = sync_norms(net)
    assert [type(m).__name__ for m in net] == ['SyncBatchNorm', 'SyncBatchNorm', 'GlobalBatchNorm1d', 'Sequential', 'SyncBatchNorm', 'SyncBatchNorm']
    assert type(net[3][0]) is Own and net[0] is net[1]
    net[0](torch.rand(2, 3))
    assert seen == [1]
    net[0].train()
    give_back_norms(swapped)
    assert net[0] is net[1] is shared and shared.training and type(net[5]) is nn.BatchNorm2d


def test_d1_a_plain_learner_in_fastais_own_trainer_is_told(teacher):
    student = Student('mobilenetv3_small_050', 8, teacher.num_features)
    class Theirs(Callback):
        order = 11 # as fastai's `DistributedTrainer`
        def before_fit(self): nn.SyncBatchNorm.convert_sync_batchnorm(self.learn.model)
    learn = Learner(loaders(), student, loss_func=BalancedSoftmaxLoss([4] * 8), cbs=[DistillCallback(teacher), Theirs()])
    with pytest.raises(ValueError, match=r'taken the activation of \d\d norms.*sync_bn=False'): quiet(learn, 1)


# ---- D2, D5: what is on another device
def test_d2_d5_pixels_teacher_explorer_and_prompts_follow_the_device(teacher):
    px = torch.empty(2, 3, 32, 32, device=META)
    space = PixelSpace([.5, .4, .3], .2)
    assert space(px).is_meta and space.normalize(px).is_meta
    follower, moved = FrozenTeacher('embedded', size=32), []
    with pytest.raises(ValueError, match='on cpu and the images are on meta'): follower(px) # there it would lose its weights
    mean, follower.mean = follower.mean, follower.mean.to(META)
    follower.to = lambda device: moved.append(device) or setattr(follower, 'mean', mean)
    assert follower(torch.rand(2, 3, 32, 32)).isfinite().all() and moved == [torch.device('cpu')] # it goes where pixels are
    explorer = PromptExplorer(FrozenTeacher('embedded', size=32), FourierPromptGenerator(), 8).to(META)
    assert all(p.is_meta for p in (*explorer.teacher.parameters(), *explorer.teacher.buffers()))
    prompt = FourierPromptGenerator().to(META)
    assert RandomPrompt(prompt).directions.is_meta and not RandomPrompt(IdentityPrompt()).directions.is_meta
    assert check_counts(torch.tensor([3, 2], dtype=torch.int32)).tolist() == [3, 2]


def test_d9_the_teacher_of_a_half_explorer_keeps_its_precision(teacher):
    assert next(PromptExplorer(teacher, FourierPromptGenerator(), 8).half().teacher.parameters()).dtype == torch.float32


# ---- D6: memory in half precision
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('shape', [(4, 5), (3, 4, 6, 7)])
def test_d6_moments_keep_the_half_tensor_and_give_the_same_numbers(dtype, shape):
    x, kept = torch.randn(shape).to(dtype).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t): half = channel_moments(x)
    wide = channel_moments(x.float())
    assert [t.dtype for t in kept if t.shape == x.shape] == [dtype]
    for a, b in zip(half, wide): assert a.equal(b) and a.dtype == torch.float32
    g = [torch.autograd.grad(m.square().sum() + v.sum(), x)[0] for m, v in (half, wide)]
    assert g[0].equal(g[1]) and g[0].dtype == dtype


def test_d6_the_prior_adds_no_float32_maps():
    net = FrozenTeacher(timm.create_model('test_resnet', num_classes=0), size='image')
    x, own = torch.rand(4, 3, 64, 64, requires_grad=True), {p.untyped_storage().data_ptr() for p in net.state_dict().values()}
    def held(f):
        wide = {}
        def keep(t):
            if t.dtype == torch.float32 and t.untyped_storage().data_ptr() not in own: wide[t.untyped_storage().data_ptr()] = t
            return t
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), torch.autocast('cpu', torch.bfloat16): f(x)
        return sum(t.untyped_storage().nbytes() for t in wide.values())
    assert held(net.with_prior) < held(net) + x.nbytes


# ---- D7: what makes the host wait, and how many operations there are
def test_d7_masks_are_made_once_and_handed_out_as_copies():
    for size in ((8, 9), (7, 1), (33, 64)):
        f = radial_frequency(size)
        for low, high, keep in ((0., None, True), (0., None, False), (.1, .3, True)):
            want = ((f >= low) & (f < (high or 9.))).float()
            if keep: want[0, 0] = 0
            band_mask(size, low, high, keep)[:] = 5.
            assert band_mask(size, low, high, keep).equal(want)
        want = torch.tensor([1. if k == 0 or 2 * k == size[1] else 2. for k in range(size[1] // 2 + 1)])
        assert half_weights(size[1]).equal(want)
    with torch.inference_mode(): band_mask((10, 12), .05)
    x, p = torch.rand(2, 3, 10, 12), FourierPromptGenerator(low=.05, init_std=.3)
    p(x).sum().backward()  # what was made in inference mode would be refused here
    with Ops() as seen: p.band((10, 12))
    assert seen.names.count('clone') == 1 and not {'fft_fftfreq', 'hypot', 'copy_'} & set(seen.names)
    assert BandPrompt(.1, .2).band((8, 8)).equal(band_mask((8, 8), .1, .2))


@pytest.mark.parametrize('arch', ['test_resnet', 'resnet18'])
def test_d7_the_prior_is_one_kl_equal_to_those_of_the_layers(arch):
    t = FrozenTeacher(timm.create_model(arch, num_classes=0), size='image')
    if arch == 'resnet18': t.prior_layers[3].eps = 1e-3  # not all alike
    for m in t.prior_layers: m.running_mean.normal_(), m.running_var.uniform_(.5, 2)
    x, seen = torch.rand(2, 3, 64, 64), []
    with watch_moments(t.prior_layers, seen): t(x)
    one = torch.stack([gaussian_kl(mean, var, m.running_mean, m.running_var, m.eps) for m, mean, var, _ in seen]).mean()
    assert t.with_prior(x)[1].equal(one)
    t, x = t.to(META), torch.empty(2, 3, 64, 64, device=META, requires_grad=True)
    with Ops() as plain: torch.autograd.grad(t(x).mean(), x)
    with Ops() as ours:
        feats, prior = t.with_prior(x)
        torch.autograd.grad(feats.mean() + prior, x)
    extra, n = len(ours.names) - len(plain.names), len(t.prior_layers)
    assert extra < 24 * n + 60, f'{extra} operations for {n} layers'


WAITS = {'bincount', 'nonzero', '_unique2', 'equal', 'masked_select', 'is_nonzero', '_local_scalar_dense'}


class Asked(Ops):
    "Those that a GPU would have to answer, where code of ours asks"
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        res, frame = super().__torch_dispatch__(func, types, args, kwargs), sys._getframe(1)
        while frame and not any(o in frame.f_code.co_filename for o in ('/foprokd/', '/fastai/')): frame = frame.f_back
        if self.names[-1] not in WAITS or not frame or '/fastai/' in frame.f_code.co_filename: self.names.pop()
        return res


def one_step(learn):
    "What a GPU would have to answer in one training step"
    class Look(Callback):
        order = -100
        def before_batch(self):
            if self.training and self.iter == 1: self.ops = Asked(); self.ops.__enter__()
    class Leave(Callback):
        order = 45  # before the recorder
        def after_batch(self):
            if self.training and self.iter == 1: look.ops.__exit__(None, None, None); raise CancelFitException
    look = Look()
    learn.add_cbs([look, Leave()])
    return look, learn


@pytest.mark.parametrize('phase', ['distill', 'adversarial', 'explore'])
def test_d7_a_step_asks_for_two_flags_in_one_message(phase, teacher):
    learn = fopro_learner(loaders(), 'test_resnet', teacher)
    look, inner = one_step(learn.exploration() if phase == 'explore' else learn)
    quiet(inner, 1) if phase == 'explore' else quiet(learn, **{**dict(explore=0, distill=0), phase: 1})
    # on CPUs alone the ascent asks whether it is finite, and torch's Adam reads its counters, which lie there
    ascent = 1 + len(list(learn.prompt.parameters())) if phase == 'adversarial' else 0
    assert set(look.ops.names) == {'_local_scalar_dense'} and 2 <= len(look.ops.names) <= 2 + ascent, look.ops.names


def test_d7_the_guard_hands_fastai_the_loss_and_leaves_out_as_before():
    "A bad loss, a bad gradient, both, with accumulation; an infinite loss with a finite gradient"
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    x, y = torch.randn(48, 4), torch.arange(48) % 2
    def fit(bad, what, *cbs):
        class Spoil(Callback):
            order = 0
            def after_loss(self):
                if self.training and self.iter in bad and what == 'loss': self.learn.loss_grad = self.loss_grad + float('inf')
                if self.training and self.iter in bad and what == 'nan': self.learn.loss_grad = self.loss_grad * float('nan')
                if self.training: self.learn.loss = self.loss_grad.clone()
            def before_step(self):
                if self.iter in bad and what == 'grad': next(self.model.parameters()).grad[0] = float('inf')
        set_seed(0)
        dl = DataLoader(list(zip(x, y)), bs=8)
        learn = Learner(DataLoaders(dl, dl), nn.Linear(4, 2), nn.CrossEntropyLoss(), cbs=[FiniteGuard(), Spoil(), *cbs], path=tempfile.gettempdir())
        quiet(learn, 1, 1e-2)
        return learn
    clean = fit((), '')
    assert clean.finite_guard.skipped == 0 and len(clean.recorder.losses) == 6
    for what in ('loss', 'nan', 'grad'):
        learn = fit((2, 4), what)
        assert learn.finite_guard.skipped == 2 and all(p.isfinite().all() for p in learn.model.parameters())
        assert np.isfinite([float(o) for o in learn.recorder.losses]).all()
        assert not all(a.equal(b) for a, b in zip(learn.model.parameters(), clean.model.parameters()))


# ---- D8: the optimizer's counter after a resume
@pytest.mark.parametrize('kind', ['torch', 'fastai'])
def test_d8_an_optimizer_gets_its_counters_on_the_cpu(kind, teacher):
    opt = dict(opt_func=partial(OptimWrapper, opt=torch.optim.Adam)) if kind == 'torch' else {}
    learn, kept = fopro_learner(loaders(), 'test_resnet', teacher, **opt), {}
    class Look(Callback):
        def after_batch(self):
            if self.training and self.iter == 1: kept.update(self.learn.fit_state(2)); raise CancelFitException
    learn.add_cb(Look())
    quiet(learn, 0, 1)
    seen = []
    with mock.patch.object(learn.opt if kind == 'fastai' else learn.opt.opt, 'load_state_dict', seen.append), mock.patch.object(type(learn), '_device', lambda self: META):
        learn.n_epoch, learn.resume_from = kept['n_epoch'], None
        learn.load_fit_state(kept)
    [state] = seen
    state = state['state']
    values = [v for s in (state.values() if isinstance(state, dict) else state) for v in s.values() if isinstance(v, torch.Tensor)]
    assert len(values) > 20 and all(v.is_meta == (v.ndim > 0) for v in values)


# ---- D9: smaller ones
def test_d9_a_compiled_teacher_is_compiled_once(teacher):
    graphs = []
    def count(graph, inputs): graphs.append(torch.is_grad_enabled()); return graph
    learn = fopro_learner(loaders(), 'test_resnet', FrozenTeacher('embedded', size=32))
    learn.teacher.model.compile(backend=count)
    try: quiet(learn, 0, 1)
    finally: torch._dynamo.reset()
    assert graphs == [False]
    assert not torch.is_inference_mode_enabled() and diagnose_features(teacher, torch.rand(4, 3, 32, 32)) is None
    assert PhaseWatch.run_valid is False


def test_d9_fp16_from_the_shell(tmp_path):
    from foprokd.data.labels import read_labels
    from foprokd.data.splits import split_data
    from foprokd.data.synth import demo_set
    df = split_data(read_labels(demo_set(tmp_path/'demo', n_max=16, ratio=2, n_valid=1, n_test=1, size=32)/'labels.csv'))
    cfg = RunConfig(data=str(tmp_path/'demo'), precision='fp16', student='test_resnet', size=32, bs=16)
    with pytest.raises(ValueError, match='not one of fp32, bf16, fp16'): RunConfig(precision='fp8')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="precision='fp16' is for CUDA GPUs"): learner_from_config(cfg, df, 0)
    with mock.patch('foprokd.study.wiring.runs_on_cpu', lambda: False):
        learn = learner_from_config(cfg, df, 0)
        [cb] = learn._grab_cbs(MixedPrecision)
        assert str(cb.amp_mode.value) == 'fp16' and not cb.run_valid and learn.student.dtype is None and learn.teacher.dtype == torch.float16
        assert not learner_from_config(RunConfig(**{**vars(cfg), 'precision': 'bf16'}), df, 0)._grab_cbs(MixedPrecision)


def test_d9_labels_may_be_tensors(teacher):
    x, y = torch.rand(20, 3, 16, 16), torch.arange(20) % 2
    a, b, c = (band_response(FrozenTeacher('embedded', size='image'), x, gains=(0.,), labels=o, group=g, folds=2) for o, g in
               ((y.numpy(), np.arange(20)), (TensorCategory(y), torch.arange(20)), (y.tolist(), list(range(20)))))
    assert a.frame(0).equals(b.frame(0)) and a.frame(0).equals(c.frame(0))


# ---- the same, and what CPUs cannot show, on the pretend device
PRETEND = '''
import json, tempfile, warnings
from pathlib import Path
warnings.simplefilter('ignore')
import fakecuda, numpy as np, timm, torch
from functools import partial
from fastai.vision.all import Callback, CancelFitException, Learner, OptimWrapper, set_seed
from torch.utils._python_dispatch import TorchDispatchMode
from foprokd.data.labels import read_labels
from foprokd.data.splits import split_data
from foprokd.data.synth import demo_dls, demo_set
from foprokd.explore import PromptExplorer, fpg_objective
from foprokd.frequency.bands import band_response, feature_shift
from foprokd.frequency.controls import RandomPrompt
from foprokd.frequency.sensitivity import sensitivity_map
from foprokd.learner import fopro_learner
from foprokd.losses import BalancedSoftmaxLoss
from foprokd.pixels import PixelSpace
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt
from foprokd.student import Student
from foprokd.study.settings import RunConfig
from foprokd.study.wiring import learner_from_config
from foprokd.teacher import FrozenTeacher

res, tmp = {}, Path(tempfile.mkdtemp())
def loaders(): return demo_dls(bs=16, n_max=12, ratio=2, n_valid=1, n_test=1, size=32)
teacher = FrozenTeacher('embedded', size=32)

class Both(Callback):
    "The classification losses of both heads, in plain fastai"
    run_valid = False
    def before_batch(self): self.learn.xb = (*self.xb, True)
    def after_pred(self): self.learn.pred, self.projected, self.aux = self.pred
    def after_loss(self): self.learn.loss_grad = self.loss_grad + self.loss_func(self.aux, *self.yb); self.learn.loss = self.loss_grad.clone()

class Count(Callback):
    order = -100
    def before_batch(self):
        if not self.training: return
        if self.iter == 1: fakecuda.events.clear(); fakecuda._on[0] = True
        if self.iter == 2: fakecuda._on[0] = False; self.seen = sum(n for (k, w), n in fakecuda.events.items() if not k.startswith('H2D')); self.copies = sum(n for (k, w), n in fakecuda.events.items() if k.startswith('H2D')); raise CancelFitException

def waits(phase, **kwargs):
    set_seed(0); learn, c = fopro_learner(loaders(), 'test_resnet', teacher, IdentityPrompt() if phase == 'ekd' else None, **kwargs), Count()
    l = learn
    if phase == 'plain': l = Learner(learn.dls, Student('test_resnet', 8, teacher.num_features), loss_func=BalancedSoftmaxLoss([9] * 8), cbs=Both(), **kwargs)
    if phase == 'explore': learn.model.cuda(); l = learn.exploration()
    with l.no_bar(), l.no_logging():
        if phase in ('ekd', 'distill'): learn.fit_fopro(0, 1, cbs=c)
        elif phase == 'adversarial': learn.fit_fopro(0, 0, 1, cbs=c)
        else: l.fit(1, cbs=c)
    return c.seen, c.copies

res['waits'] = {p: waits(p) for p in ('plain', 'ekd', 'distill', 'adversarial', 'explore')}
demo_set(tmp/'demo', n_max=20, ratio=2, n_valid=1, n_test=1, size=32); df = split_data(read_labels(tmp/'demo'/'labels.csv'))
for scale in ('standard', 'whiten'): # D2
    cfg = RunConfig(data=str(tmp/'demo'), method='ekd', student='test_resnet', teacher_size='32', size=32, bs=16, teacher_scale=scale)
    res[scale] = learner_from_config(cfg, df, 0).teacher.center.device.type
dls = loaders(); x = PixelSpace.from_dls(dls)(dls.train.one_batch()[0]) # D5
res['pixels'] = x.device.type, FrozenTeacher('embedded', size=32)(x).device.type
learn = fopro_learner(dls, 'test_resnet', teacher, opt_func=partial(OptimWrapper, opt=torch.optim.Adam))
class Leave(Callback):
    order = 200
    def after_batch(self):
        if self.training and self.iter == 1 and self.n_epoch == 2: raise KeyboardInterrupt
with learn.no_bar(), learn.no_logging():
    try: learn.fit_fopro(0, 2, cbs=Leave(), checkpoint=tmp/'kept', minutes=0)
    except KeyboardInterrupt: pass
    class Stop(Callback):
        def after_batch(self): self.steps = [s['step'].device.type for s in self.opt.opt.state.values()]; raise CancelFitException
    stop = Stop(); learn.fit_fopro(0, 2, cbs=stop, checkpoint=tmp/'kept', minutes=99, resume=True)
res['steps'] = sorted(set(stop.steps)) # D8
p = FourierPromptGenerator().cuda()
res['random'] = RandomPrompt(p)(x).device.type
fopro_learner(dls, 'test_resnet', teacher, RandomPrompt(p)) # a prompt that has buffers alone, on the device already
res['explorer'] = next(PromptExplorer(FrozenTeacher('embedded', size=32), FourierPromptGenerator(), 8).cuda().teacher.parameters()).device.type

class No64(TorchDispatchMode): # as on Apple's GPUs
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for o in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(o, torch.Tensor) and o.is_cuda and o.dtype == torch.float64: raise TypeError('float64 on a GPU')
        return out
y = torch.arange(20, device='cuda') % 2
with No64():
    r = band_response(FrozenTeacher('embedded', size='image'), torch.rand(20, 3, 16, 16, device='cuda'), gains=(0.,), labels=y, group=torch.arange(20, device='cuda'), folds=2)
    m = sensitivity_map(FrozenTeacher('embedded', size='image'), torch.rand(2, 3, 16, 16, device='cuda'), step=8, progress=False, group=y[:2])
    res['shift'] = feature_shift(torch.rand(2, 3, device='cuda'), torch.rand(2, 3, device='cuda')).device.type
    loss = BalancedSoftmaxLoss(torch.tensor([3, 2], device='cuda'))
res['labels'] = r.classes
done = fopro_learner(dls, 'test_resnet', teacher)
with done.no_bar(), done.no_logging(): done.fit_fopro(1, 0, 1) # the fused ascent
res['objective'] = bool(np.isfinite(fpg_objective(done.explorer.model, dls.valid, done.counts)['total']))
bad = [t.clone() for t in (*done.prompt.parameters(), )]
from foprokd.adversarial import AdversarialCallback
class Infinite(Callback):
    order = -20
    def before_batch(self): self.learn.xb = (self.xb[0] * float('nan'),)
adv = AdversarialCallback(teacher, done.prompt); done.remove_cbs([c for c in done.cbs if type(c).__name__ == 'DistillCallback'])
with done.no_bar(), done.no_logging():
    try: done.fit(1, cbs=[adv, Infinite()])
    except FloatingPointError as e: res['guard'] = str(e) # of an epoch in which no batch was finite
res['ascent'] = all(a.equal(b) for a, b in zip(done.prompt.parameters(), bad)), sorted({float(s['step']) for s in adv.ascent.state.values()})
print('RESULT', json.dumps(res))
'''


@pytest.fixture(scope='module')
def pretend(tmp_path_factory):
    "What a script says that ran on the pretend device"
    folder, here = tmp_path_factory.mktemp('pretend'), ROOT/'benchmarks'/'pretend_cuda'
    env = environment(PYTHON=sys.executable, PRETEND_CUDA=os.environ.get('PRETEND_CUDA', str(folder/'built')), FOPROKD_CACHE=str(folder/'facts'), PYTHONPATH=paths())
    env.pop('CUDA_VISIBLE_DEVICES', None)
    if os.environ.get('LD_PRELOAD'): pytest.skip('this process is deceived already')
    built = subprocess.run(['bash', here/'build.sh', env['PRETEND_CUDA']], env=env, capture_output=True, text=True)
    if built.returncode == 3: pytest.skip(built.stdout.strip())
    (folder/'script.py').write_text(PRETEND, encoding='utf-8')
    done = subprocess.run([here/'run.sh', folder/'script.py'], env=env, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(o for o in done.stdout.splitlines() if o.startswith('RESULT'))[7:])


@pytest.mark.long
def test_pretend_d7_no_phase_waits_oftener_than_plain_fastai(pretend):
    plain, *ours = pretend['waits'].values()
    assert all(o[0] <= plain[0] and o[1] <= plain[1] for o in ours), pretend['waits']


@pytest.mark.long
def test_pretend_d2_d5_d8_d9_everything_lies_where_it_should(pretend):
    assert [pretend[k] for k in ('standard', 'whiten', 'random', 'explorer', 'shift')] == ['cuda'] * 5
    assert pretend['pixels'] == ['cuda', 'cuda'] and pretend['steps'] == ['cpu']
    assert pretend['labels'] == [0, 1] and pretend['objective']


@pytest.mark.long
def test_pretend_d7_a_fused_ascent_leaves_out_what_is_not_finite(pretend):
    assert pretend['ascent'] == [True, [0.]] and 'of which nothing was trained' in pretend['guard']
