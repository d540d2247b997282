"""What one training step costs, beside the student and the teacher that it cannot do without.

All variants live in one process and take turns, one step each, on the same batch; medians over `--steps` are printed, and
ratios to `student + teacher` of the same run. Data loading is not part of it.

    student        forward, losses of both heads, backward and Adam of the `Student` alone, in a fastai Learner
    teacher        one bare forward pass without gradients
    prompt         the Fourier prompt generator alone, without gradients
    prompt_one     the same with one latent for the batch (z_per='batch')
    ekd            our step with the identity prompt
    ekd_adam       the same with torch's Adam in place of fastai's, as timm and the plain loop have it
    ekd_alone      the same without the guards, which they do not have
    fopro          our step with a Fourier prompt
    akd            our adversarial step: the prompt moves, then the student
    akd_part       the same, the ascent looks at a quarter of the batch (part=.25)
    akd_seldom     four adversarial steps, one of them with an ascent (every=4), divided by four
    explore        one step of exploration (two prompted views, gradients through the teacher to the prompt)
    explore_anew   the same, with activations computed anew in the backward pass (grad_checkpointing)
    explore_small  the same, at three quarters of the resolution (size)
    plain          a plain PyTorch loop as the authors' public code has it: the teacher runs with gradients on
    timm           timm's FeatureDistillationTask (teacher under no_grad, one linear projection, no auxiliary head)
    timm_aux       the same with the heads of ours: our projector, an auxiliary classifier on it and its loss
    fasterai       fasterai's KnowledgeDistillationCallback with its Attention loss, where fasterai is installed

`--memory` runs each variant in a process of its own, makes it and takes three steps, and prints the peak of what torch
allocated on top of batch and teacher: weights, gradients and optimizer of the student, activations, whatever else the
step holds. On a CPU that is read off torch's profiler, allocation by allocation; the growth of the resident set is beside
it, which also counts the scratch space of the kernels and what the allocator keeps. The last column is the ratio of the
first, with the teacher's weights, to the student's alone with the teacher's weights.

`--epochs` measures whole epochs over `--batches` batches that lie in memory, one epoch of each variant in turn: the student
alone, EKD, the plain loop, timm's task and fasterai, which ask the teacher about every batch; an epoch with `views` in which answers are
asked for and kept (`asked`), one that shows a kept view again (`replayed`), and one whose pictures are kept, too (`images`).
From these it computes trainings of 40 and 100 epochs with K views. Pictures cost nothing here, neither reading nor transforms.
`--turns` names those that run: a large teacher that has its turn in between leaves caches colder than they are in a training
that replays. Each time is that of the second epoch of a fit: what a fit pays once (the watch's look at a batch) has a column
of its own.

`--bank` runs an epoch of EKD, one that writes a view and one that replays it, with features and with images, each in a process of
its own: the room that was foretold, what lies on the disk, and the most memory during the epoch, anonymous and of mapped files
(which Linux takes back when it needs them), beyond what the process had before.

    python benchmarks/step_speed.py --student resnet18 --teacher resnet50 --size 224 --batch 16 --steps 9
    python benchmarks/step_speed.py --student resnet18 --teacher resnet50 --size 224 --batch 16 --epochs 5
    python benchmarks/step_speed.py --student test_resnet --teacher mobilenetv1_025 --size 64 --batch 64 --steps 60
"""
import argparse
import gc
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import OptimWrapper

from foprokd.adversarial import AdversarialCallback
from foprokd.distill import DistillCallback
from foprokd.explore import SkipValidation, explore_learner
from foprokd.train.guards import FiniteGuard, PhaseWatch
from foprokd.losses import BalancedSoftmaxLoss
from foprokd.pixels import PixelSpace
from foprokd.prompt import FourierPromptGenerator
from foprokd.study.settings import parse_kwargs
from foprokd.student import Student
from foprokd.data.synth import demo_dls
from foprokd.teacher import FrozenTeacher

TURNS = 'student', 'ekd', 'asked', 'replayed', 'images', 'plain', 'timm', 'fasterai' # of `--epochs`
VARIANTS = ('student', 'teacher', 'prompt', 'prompt_one', 'ekd', 'ekd_adam', 'ekd_alone', 'fopro', 'akd', 'akd_part', 'akd_seldom', 'explore', 'explore_anew',
            'explore_small', 'plain', 'timm', 'timm_aux', 'fasterai')


TORCH_ADAM = partial(OptimWrapper, opt=torch.optim.Adam)


class BothHeads(Callback):
    "The classification losses of a student's two heads, without a teacher"
    run_valid = False

    def before_batch(self): self.learn.xb = (*self.xb, True)

    def after_pred(self): self.learn.pred, self.projected, self.aux = self.pred

    def after_loss(self):
        self.learn.loss_grad = self.loss_grad + self.loss_func(self.aux, *self.yb)
        self.learn.loss = self.loss_grad.clone()


def stepper(learn, batch):
    "A function that makes a Learner take one training step after the other on one batch"
    learn.remove_cb(ProgressCallback)
    learn.create_opt()
    learn.opt.set_hypers(lr=1e-4)
    learn.n_epoch, learn.epoch, learn.n_iter, learn.dl = 1, 0, 10**6, learn.dls.train
    learn.model.to(batch[0].device)
    for event in ('before_fit', 'before_epoch', 'before_train'): learn(event)
    return lambda: learn.one_batch(0, batch)


def guards():
    "What every FoProLearner carries"
    return FiniteGuard(), PhaseWatch()


class Bench:
    "Makes the step of each variant"
    def __init__(self, args):
        torch.manual_seed(0)
        self.args, self.device = args, torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self.dls = demo_dls(size=64, bs=8, n_max=16, ratio=1, n_valid=4).to(self.device)
        x = torch.randn(args.batch, 3, args.size, args.size, device=self.device)
        self.batch = x.contiguous(memory_format=torch.channels_last), torch.arange(args.batch, device=self.device) % 8
        self.teacher = FrozenTeacher(args.teacher, size='image', **parse_kwargs(args.teacher_kwargs)).to(self.device)
        self.px = PixelSpace.from_dls(self.dls).to(self.device)(self.batch[0])
        self.loss = BalancedSoftmaxLoss(torch.full((8,), 10.)).to(self.device)

    def student(self):
        "A fresh student, channels last"
        s = Student(self.args.student, 8, self.teacher.num_features)
        return s.to(self.device, memory_format=torch.channels_last)

    def loaders(self):
        "Batches that lie in memory"
        n, size = self.args.batches * self.args.batch, self.args.size
        x = PixelSpace.from_dls(self.dls).to('cpu').normalize(torch.rand(n, 3, size, size))
        loader = DataLoader(TensorDataset(x, torch.arange(n) % 8), self.args.batch, shuffle=True, drop_last=True, device=self.device)
        return DataLoaders(loader, loader)

    def learner(self, *cbs, **kwargs): return Learner(self.dls, self.student(), loss_func=self.loss, cbs=cbs, **kwargs)

    def step(self, name):
        "A function that takes one step of a variant; None where it cannot be had"
        return getattr(self, f'make_{name}')()

    def make_student(self): return stepper(self.learner(BothHeads()), self.batch)

    def make_teacher(self):
        @torch.no_grad()
        def step(): self.teacher(self.px)
        return step

    def make_prompt_one(self): return self.make_prompt(z_per='batch')

    def make_prompt(self, **kwargs):
        prompt = FourierPromptGenerator(**kwargs).to(self.device)

        @torch.no_grad()
        def step(): prompt(self.px)
        return step

    def make_ekd(self): return stepper(self.learner(DistillCallback(self.teacher), *guards()), self.batch)

    def make_ekd_adam(self): return stepper(self.learner(DistillCallback(self.teacher), *guards(), opt_func=TORCH_ADAM), self.batch)

    def make_ekd_alone(self): return stepper(self.learner(DistillCallback(self.teacher), opt_func=TORCH_ADAM), self.batch)

    def make_fopro(self): return stepper(self.learner(DistillCallback(self.teacher, FourierPromptGenerator()), *guards()), self.batch)

    def make_akd(self, **kwargs):
        return stepper(self.learner(AdversarialCallback(self.teacher, FourierPromptGenerator(), **kwargs), *guards()), self.batch)

    def make_akd_part(self): return self.make_akd(part=.25)

    def make_akd_seldom(self):
        step = self.make_akd(every=4)
        return lambda: [step() for _ in range(4)]

    def make_explore(self, teacher=None, **kwargs):
        teacher = self.teacher if teacher is None else teacher
        return stepper(explore_learner(self.dls, teacher, counts=[10] * 8, cbs=guards(), **kwargs), self.batch)

    def make_explore_anew(self):
        teacher = FrozenTeacher(self.teacher.model, size='image', grad_checkpointing=True).to(self.device)
        return self.make_explore(teacher)

    def make_explore_small(self): return self.make_explore(size=self.args.size * 3 // 4)

    def make_plain(self):
        s, (x, y) = self.student().train(), self.batch
        opt, net = torch.optim.Adam(s.parameters(), lr=1e-4), self.teacher.model
        parameters = list(net.parameters())

        def step():
            for p in parameters: p.requires_grad_(True) # public code freezes nothing and has no no_grad
            logits, projected, aux = s(x, True)
            target = net(self.teacher.prepare(self.px))
            feat = 2 - 2 * F.cosine_similarity(projected, target.flatten(1), dim=1).mean()
            loss = self.loss(logits, y) + self.loss(aux, y) + 3 * feat
            opt.zero_grad()
            loss.backward()
            opt.step()
            for p in parameters: p.requires_grad_(False); p.grad = None # the other variants share this teacher
        return step

    def make_timm(self, heads=None):
        from timm.task import FeatureDistillationTask
        net = self.student().deploy()
        for m, o in ((net, PixelSpace.from_dls(self.dls)), (self.teacher.model, self.teacher)):
            mean, std = (tuple(b.flatten().tolist()) for b in (o.mean, o.std))
            m.pretrained_cfg = {**(getattr(m, 'pretrained_cfg', None) or {}), 'mean': mean, 'std': std}
        task = FeatureDistillationTask(net, self.teacher.model, teacher_feature_dim=self.teacher.num_features,
                                       criterion=self.loss, distill_loss_weight=3., task_loss_weight=1.,
                                       device=self.device, verbose=False).to(self.device).train()
        module, said = task.get_trainable_module(), []
        if heads is not None:
            module.projection, module.aux = heads.projector, heads.aux_classifier
            module.projection.register_forward_hook(lambda m, x, out: said.append(out))
        opt, (x, y) = torch.optim.Adam(module.parameters(), lr=1e-4), self.batch

        def step():
            loss = task(x, y)['loss']
            if heads is not None: loss = loss + self.loss(module.aux(said.pop()), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        return step

    def make_timm_aux(self): return self.make_timm(self.student())

    def make_fasterai(self):
        if importlib.util.find_spec('fasterai') is None: return None
        distill = importlib.import_module('fasterai.distill.all')
        net, s = self.teacher.model, self.student().deploy()
        layers = distill.match_feature_layers(s.eval(), net, torch.zeros(1, 3, self.args.size, self.args.size).to(self.device))
        cb = distill.KnowledgeDistillationCallback(net, distill.Attention, layers['student'], layers['teacher'], weight=.9)
        return stepper(Learner(self.dls, s, loss_func=CrossEntropyLossFlat(), cbs=cb), self.batch)


def timed(step, device):
    "Seconds of a call"
    start = time.perf_counter()
    step()
    if device.type == 'cuda': torch.cuda.synchronize()
    return time.perf_counter() - start


def resident(key):
    "MiB that Linux reports of this process: VmRSS now, or VmHWM, the most since `/proc/self/clear_refs` was written"
    return next(int(o.split()[1]) for o in Path('/proc/self/status').read_text().splitlines() if o.startswith(key)) / 1024


def three_steps(bench, name):
    "Make a variant and take three steps"
    step = bench.step(name)
    for _ in range(3 if step else 0): step()


def peaks(bench, name):
    "MiB: the most that torch allocated for a variant, and by how much the process grew (nan on a GPU)"
    if bench.device.type == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        three_steps(bench, name)
        return (torch.cuda.max_memory_allocated() - before) / 2**20, float('nan')
    before = resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')
    three_steps(bench, name)
    grown = resident('VmHWM') - before
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as prof:
        three_steps(bench, name)
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == '[memory]']
    events.sort(key=lambda e: e.start_ns())
    return max(accumulate((e.nbytes() for e in events), initial=0)) / 2**20, grown


STEPS = {'akd_seldom': 4} # of a call


def speed(bench):
    "Print medians and ratios"
    steps = {n: s for n in bench.args.variants if (s := bench.step(n)) is not None}
    seconds = {n: [] for n in steps}
    for i in range(bench.args.steps + 2):
        for n, s in steps.items():
            t = timed(s, bench.device)
            if i > 1: seconds[n].append(t / STEPS.get(n, 1))
    both = [a + b for a, b in zip(seconds['student'], seconds['teacher'])]
    middle = statistics.median(both)
    print(f'| {"variant":14} | ms | of student + teacher |\n|---|---|---|')
    for n, t in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(t, both))
        print(f'| {n:14} | {1000 * statistics.median(t):.1f} | {ratio:.2f} |')
    print(f'student + teacher {1000 * middle:.1f} ms')
    for n in {'prompt', 'prompt_one'} & set(seconds):
        ratio = statistics.median(a / b for a, b in zip(seconds[n], seconds['teacher']))
        print(f'{n} / teacher {ratio:.3f}')
    if {'explore', 'fopro'} <= set(seconds):
        share = statistics.median(5 * a / (5 * a + 40 * b) for a, b in zip(seconds['explore'], seconds['fopro']))
        print(f'exploration, 5 of 45 epochs: {share:.1%} of the steps\' time')


class Clock(Callback):
    "Seconds of each epoch's training, without the beginning of the fit"
    order, run_valid = 10**4, False
    def __init__(self): self.seconds = []
    def before_epoch(self): self.start = time.perf_counter()
    def after_train(self):
        if self.dls.device.type == 'cuda': torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)


def epochs(bench):
    "Print seconds of an epoch of each variant, and what trainings with K views would cost"
    args, folder = bench.args, tempfile.TemporaryDirectory()
    loaders, clock = bench.loaders(), Clock()

    def fitted(*cbs, model=None, loss=None):
        learn = Learner(loaders, model or bench.student(), loss_func=loss or bench.loss, cbs=[*cbs, SkipValidation()])
        def epoch():
            with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-4, cbs=clock)
            first, second = clock.seconds
            clock.seconds = []
            return second, first - second
        return epoch

    def distilled(**kwargs): return fitted(DistillCallback(bench.teacher, pixels=PixelSpace.from_dls(bench.dls), **kwargs), *guards())
    def steps(step): return lambda: (sum(timed(step, bench.device) for _ in range(args.batches)), 0.)
    runs = dict(student=fitted(BothHeads(), *guards()), ekd=distilled(), asked=distilled(views=2),
                replayed=distilled(views=1, bank=f'{folder.name}/features'),
                images=distilled(views=1, bank=f'{folder.name}/images', keep='images'),
                plain=steps(bench.make_plain()), timm=steps(bench.make_timm()))
    fasterai = bench.make_fasterai()
    if fasterai: runs['fasterai'] = steps(fasterai)
    runs = {k: v for k, v in runs.items() if k in ('student', *args.turns)}
    seconds, begin = {k: [] for k in runs}, {k: [] for k in runs}
    for i in range(args.epochs + 1):
        for k, run in runs.items():
            t, more = run()
            if i: seconds[k].append(t); begin[k].append(more)
    folder.cleanup()
    ratio = {k: statistics.median(a / b for a, b in zip(t, seconds['student'])) for k, t in seconds.items()}
    print(f'| {"epoch":10} | s | of student alone | more in the first of a fit, s |\n|---|---|---|---|')
    for k, t in seconds.items(): print(f'| {k:10} | {statistics.median(t):.2f} | {ratio[k]:.3f} | {statistics.median(begin[k]):.2f} |')
    if not {'asked', 'replayed', 'ekd'} <= set(runs): return
    print('\n| epochs in all | every batch asked | K=4 | K=8 | K=16 |\n|---|---|---|---|---|')
    for e in (40, 100):
        cost = [(k * ratio['asked'] + (e - k) * ratio['replayed']) / e for k in (4, 8, 16)]
        print(f'| {e} | {ratio["ekd"]:.2f} | ' + ' | '.join(f'{c:.2f}' for c in cost) + ' |')


class Peak(Callback):
    "The most memory of a fit, and the room that its bank foretells"
    order, run_valid, foretold = 10**4, False, 0
    def before_fit(self): self.most = dict(RssAnon=0., RssFile=0.)
    def after_batch(self):
        for k in self.most: self.most[k] = max(self.most[k], resident(k))
        if getattr(self.learn, 'views', None): self.foretold = self.learn.views.bank.nbytes() / 2**20


BANKS = dict(ekd={}, writes=dict(views=1), replays=dict(views=1), writes_images=dict(views=1, keep='images'), replays_images=dict(views=1, keep='images'))


def bank_peaks(bench, name, folder):
    "MiB of an epoch: foretold, on disk, anonymous memory, mapped files"
    loaders, peak = bench.loaders(), Peak()
    kept = BANKS[name] and dict(bank=f'{folder}/{BANKS[name].get("keep", "features")}', **BANKS[name])
    ours = DistillCallback(bench.teacher, pixels=PixelSpace.from_dls(bench.dls), **kept), *guards()
    learn = Learner(loaders, bench.student(), loss_func=bench.loss, cbs=[*ours, SkipValidation()])
    before = {k: resident(k) for k in ('RssAnon', 'RssFile')}
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-4, cbs=peak)
    disk = sum(f.stat().st_size for f in Path(kept['bank']).rglob('*.npy')) / 2**20 if kept else 0.
    return peak.foretold, disk, *(v - before[k] for k, v in peak.most.items())


def banks(args):
    "Print room and memory of a bank"
    print('| epoch | foretold, MiB | on disk, MiB | anonymous, MiB | of mapped files, MiB |\n|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for n in BANKS:
            res = subprocess.run([sys.executable, *sys.argv, '--only', n, '--folder', folder], capture_output=True, text=True)
            if res.returncode: raise SystemExit(res.stderr)
            print(f'| {n:14} | ' + ' | '.join(f'{float(v):.1f}' for v in res.stdout.split()[-4:]) + ' |', flush=True)


def memory(args, weights):
    "Print peaks of each variant in a process of its own"
    print('| variant | torch, MiB | grown, MiB | of student, with teacher weights |\n|---|---|---|---|')
    alone = None
    for n in args.variants:
        res = subprocess.run([sys.executable, *sys.argv, '--only', n], capture_output=True, text=True)
        if res.returncode: raise SystemExit(res.stderr)
        torch_peak, grown = map(float, res.stdout.split()[-2:])
        alone = torch_peak if alone is None else alone
        ratio = (torch_peak + weights) / (alone + weights)
        if torch_peak: print(f'| {n:14} | {torch_peak:.1f} | {grown:.0f} | {ratio:.2f} |', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--student', default='test_resnet', help='timm name')
    parser.add_argument('--teacher', default='mobilenetv1_025', help='timm name, embedded or checkpoint')
    parser.add_argument('--teacher-kwargs', default='pretrained=False', help='name=value ..., for FrozenTeacher and timm')
    parser.add_argument('--size', type=int, default=64, help='pixels')
    parser.add_argument('--batch', type=int, default=64, help='images')
    parser.add_argument('--steps', type=int, default=30, help='steps of each variant that count, after two that do not')
    parser.add_argument('--variants', nargs='+', default=VARIANTS, choices=VARIANTS, help='student and teacher are always there')
    parser.add_argument('--epochs', type=int, help='measure so many epochs of each variant')
    parser.add_argument('--turns', nargs='+', default=TURNS, choices=TURNS, help='with --epochs: who takes turns beside the student')
    parser.add_argument('--batches', type=int, default=8, help='of such an epoch')
    parser.add_argument('--memory', action='store_true', help='peak memory instead of time')
    parser.add_argument('--bank', action='store_true', help='room and memory of a bank of answers')
    parser.add_argument('--only', choices=[*VARIANTS, *BANKS], help='peak memory of one variant, in this process')
    parser.add_argument('--folder', help='of the bank, with --only')
    args = parser.parse_args()
    args.variants = list(dict.fromkeys(['student', 'teacher', *args.variants]))
    bench = Bench(args)
    if args.only: return print(*(bank_peaks(bench, args.only, args.folder) if args.folder else peaks(bench, args.only)))
    weights = sum(p.numel() * p.element_size() for p in bench.teacher.parameters()) / 2**20
    print(f'{args.student} with {bench.teacher.name} ({weights:.1f} MiB), {args.batch} images of {args.size} px, {bench.device}, '
          f'{torch.get_num_threads()} threads, torch {torch.__version__}')
    if args.epochs: epochs(bench)
    elif args.bank: banks(args)
    elif args.memory: memory(args, weights)
    else: speed(bench)


if __name__ == '__main__': main()
