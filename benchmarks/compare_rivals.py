"""foprokd beside fasterai, timm, torchdistill and the paper's code: each cell of the table is decided by a probe.

    python benchmarks/compare_rivals.py              # all packages: writes results/rivals_checked.json
    python benchmarks/compare_rivals.py --only timm  # one of them; the other columns stay as they are
    python benchmarks/compare_rivals.py --table      # the Markdown table of the front page, from that file

Every rival is installed from PyPI, newest version, without its dependencies, into a virtual environment of its own,
which sees the packages of the environment that runs this script (torch is several GB); what it still lacks is
installed, too. The environment is deleted afterwards. Each probe is a process of its own in that environment (a fork
after the imports; CPU, one thread, five minutes at most, a temporary folder) and does the same to each package:
`Package` is what the probes need, its subclasses say how a package does that by its own documentation: fasterai's
tutorial of its callback, the docstrings of timm's tasks and its train.py, torchdistill's sample configurations and its
example for image classification. The networks are timm's test models with random weights, 32 or 64 pixels a side;
nothing is downloaded but packages.

A cell is `yes`, `partly`, `no` or a number, with one sentence of what happened. The rule of a row stands in its probe's
docstring. Where a package has nothing to run, its sources are searched for functions, classes and arguments of such a
name; the same search must find ours, or the probe fails. A probe that dies is written down as `error`, never as `no`.
Paper code cannot be installed (the authors' repository has no code, their Fed-MAS is no package): its column was read,
in Fed-MAS at commit b656e7d, not run, and says so.
"""
import argparse
import ast
import hashlib
import importlib
import io
import json
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import venv
import warnings
from contextlib import contextmanager, redirect_stdout
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT/'results'/'rivals_checked.json'
ROWS = dict(
    teacher='The teacher stays as it is (weights, BatchNorm, no gradients)',
    features='Features of any teacher: other width, ViT, no class head',
    validation='Validation loss without the distillation term, teacher not run',
    eyes='The teacher gets its own normalisation and image size',
    learner='Works in a fastai `Learner` (`lr_find`, `export` without teacher)',
    longtail='Losses from class counts, recall per head, medium and tail',
    frequency='Frequency prompt, frequency sensitivity of a model',
    resume='A killed run goes on with the same numbers',
    onnx='ONNX export that compares the file with the model',
    errors='Of four wrong inputs, said in one line',
    clean='Ctrl-C leaves no hook behind',
    losses='Distillation losses to choose from',
    prune='Pruning and sparsity',
    dense='Segmentation (one class per pixel)')
LABELS = dict(foprokd='foprokd', fasterai='fasterai', timm='timm tasks', torchdistill='torchdistill',
              paper='paper code')
INSTALLED = 'fasterai', 'timm', 'torchdistill'
URL = 'https://github.com/foprokd/foprokd/blob/main'
BEGIN, END = '<!-- rivals: begin -->', '<!-- rivals: end -->'
CLASSES, SIDE, COUNTS = 4, 32, (16, 9, 5, 2)


def cell(verdict, evidence, note=''):
    "What stands in a cell: verdict, what happened, and for `partly` what is missing in a few words"
    return dict(verdict=str(verdict), evidence=evidence, note=note)


# What the probes use

def net(name, classes=CLASSES, **kwargs):
    "One of timm's test models with random weights, as `create_model` gives it: in training mode"
    import timm
    import torch
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=classes, **kwargs)


STUDENT, CNN, VIT = 'test_resnet', 'test_efficientnet', 'test_vit' # 96, 256 and 64 features


def images(stats=.5):
    "(32,3,SIDE,SIDE) normalised noise, (32,) classes with the counts of the tail"
    import torch
    gen = torch.Generator().manual_seed(0)
    y = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(COUNTS))
    return (torch.rand(len(y), 3, SIDE, SIDE, generator=gen) - stats) / stats, y


def digest(module, buffers=True):
    "The weights of a network in sixteen digits"
    import torch
    tensors = module.state_dict() if buffers else dict(module.named_parameters())
    return hashlib.sha256(b''.join(v.detach().contiguous().numpy().tobytes() for v in tensors.values()
                                   if isinstance(v, torch.Tensor))).hexdigest()[:16]


def hooks(*modules):
    "How many hooks hang on these networks"
    return sum(len(h) for m in modules for k in m.modules()
               for h in (k._forward_hooks, k._forward_pre_hooks, k._backward_hooks, k._backward_pre_hooks))


def named(package, pattern, skip=('models', 'layers', 'data')):
    "Functions, classes and arguments of a package whose names match, without the zoo of models"
    root, found = Path(importlib.util.find_spec(package).origin).parent, set()
    for file in sorted(root.rglob('*.py')):
        if file.relative_to(root).parts[0] in skip: continue
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)): names = [node.name]
            elif isinstance(node, ast.arg): names = [node.arg]
            else: continue
            found.update(n for n in names if re.search(pattern, n, re.IGNORECASE))
    return sorted(found)


def absent(pk, pattern, what):
    "A cell for what a package has no name for; the same search must find ours"
    assert pk.name == 'foprokd' or not (ROOT/'foprokd').exists() or search_ours(pattern), pattern
    found = named(pk.name, pattern)
    return None if found else cell('no', f"No function, class or argument of the package is named like {what}.")


def search_ours(pattern):
    "The control of a search: it finds what we have"
    sys.path.insert(0, str(ROOT))
    try: return named('foprokd', pattern, skip=())
    finally: sys.path.remove(str(ROOT))


def sentence(e):
    "An exception in one short line"
    return ' '.join(str(e).split())[:110]


class Stop(KeyboardInterrupt):
    "Ctrl-C from inside a probe"


# How each package distils, by its own documentation

class Package:
    "What the probes ask of a package; `fit` trains and returns what holds the run"
    name = ''
    documented = 'logits' # what its introduction shows first
    def teacher(self, name=CNN, classes=CLASSES, **kwargs): return net(name, classes, **kwargs)
    def fit(self, student, teacher, kind='logits', epochs=1, on_batch=None, folder=None, resume=False):
        raise NotImplementedError
    def seen(self, run, teacher): return teacher
    def student(self, run, student): return student
    def tidy(self, run): return False


def loader(dataset=None, batch=8):
    "Shuffled batches of the noise"
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    return DataLoader(TensorDataset(*images()) if dataset is None else dataset, batch_size=batch, shuffle=True)


class Timm(Package):
    "A task, in the loop of timm's train.py"
    name = 'timm'
    def fit(self, student, teacher, kind='logits', epochs=1, on_batch=None, folder=None, resume=False):
        import torch
        from timm.task import FeatureDistillationTask, LogitDistillationTask, resume_task_checkpoint
        from timm.utils import CheckpointSaver
        cls = FeatureDistillationTask if kind == 'features' else LogitDistillationTask
        task = cls(student, teacher, criterion=torch.nn.CrossEntropyLoss(), distill_loss_weight=1., verbose=False)
        opt = torch.optim.SGD(task.get_trainable_module().parameters(), lr=.01, momentum=.9)
        last = None if folder is None else folder/'last.pth.tar'
        start = (resume_task_checkpoint(task, str(last), opt, log_info=False) or 0) if resume and last.exists() else 0
        saver = folder and CheckpointSaver(student, opt, task=task, checkpoint_dir=str(folder))
        for epoch in range(start, epochs):
            task.train()
            for i, (x, y) in enumerate(loader()):
                opt.zero_grad()
                task(x, y)['loss'].backward()
                opt.step()
                if on_batch: on_batch(epoch, i)
            if saver: saver.save_checkpoint(epoch)
        return task

    def validate(self, student, teacher, calls):
        task = self.fit(student, teacher)
        x, y = images()
        calls.clear()
        judge, model = task.create_evaluator(), task.get_eval_model().eval()
        judge.update(model(x).detach(), y)
        return judge.compute()['loss'], model(x).detach(), y

    def export(self, student, folder):
        from timm.utils import onnx
        x, right, said = images()[0][:2], onnx.onnx_forward, ''
        def write(): onnx.onnx_export(student, str(folder/'s.onnx'), x, check_forward=True)
        write()
        onnx.onnx_forward = lambda *a: right(*a) + .01
        try: write()
        except AssertionError as e: said = sentence(e)
        finally: onnx.onnx_forward = right
        assert said
        return cell('yes', "onnx_export(check_forward=True) compared the file with the model to three decimals, and "
                           "raised when the file's answers were moved by .01.")

    def longtail(self):
        import timm.loss as losses
        import torch
        kind, w = losses.compute_class_weights(COUNTS, sum(COUNTS), 'effective_num')
        loss = losses.create_classification_loss('bce', **{kind: w})(torch.zeros(4, CLASSES), torch.arange(4))
        assert loss.isfinite()
        return "weights from class counts for binary cross-entropy (compute_class_weights)"

    def losses(self):
        import timm.task as task
        return sorted(n for n in task.__all__ if n.endswith('DistillationTask')), 'tasks'


class Torchdistill(Package):
    "A DistillationBox with a dictionary as in the sample configurations, in the loop of the example"
    name = 'torchdistill'
    def config(self, kind, epochs, width=None):
        from torch.utils.data import RandomSampler
        self.registered()
        def side(**kwargs):
            return dict(forward_proc='forward_batch_only', sequential=[], wrapper=None, frozen_modules=[], **kwargs)
        load = dict(dataset_id='train', sampler=dict(class_or_func=RandomSampler, kwargs=None),
                    kwargs=dict(batch_size=8, num_workers=0, drop_last=False))
        def pair(key, source, **target):
            source = dict(is_from_teacher=False, module_path=source, io='output')
            return dict(criterion=dict(key=key, kwargs=dict(reduction='mean')), weight=1., criterion_wrapper=dict(
                key='SimpleLossWrapper', kwargs=dict(input=source, target=target)))
        teacher, student = side(requires_grad=False), side(requires_grad=True)
        if kind == 'logits':
            terms = dict(kd=dict(weight=1., criterion=dict(key='KDLoss', kwargs=dict(
                student_module_path='.', student_module_io='output', teacher_module_path='.',
                teacher_module_io='output', temperature=4., alpha=.5, reduction='batchmean'))))
        else: # the linear layer after the student as in the sample configuration of CCKD
            student |= dict(auxiliary_model_wrapper=dict(key='Linear4CCKD', kwargs=dict(
                input_module=dict(path='model.global_pool', io='output'),
                linear_kwargs=dict(in_features=96, out_features=width))),
                forward_hook=dict(input=[], output=['model.global_pool', 'linear']))
            terms = dict(ce=pair('CrossEntropyLoss', '.', uses_label=True),
                         hint=pair('MSELoss', 'linear', is_from_teacher=True, module_path='.', io='output'))
        return dict(num_epochs=epochs, train_data_loader=load, teacher=teacher, student=student,
                    optimizer=dict(key='SGD', kwargs=dict(lr=.01, momentum=.9)),
                    criterion=dict(key='WeightedSumLoss', kwargs=dict(sub_terms=terms),
                                   func2extract_model_loss='extract_model_loss_dict'))

    def registered(self):
        for m in ('losses.high_level', 'losses.mid_level', 'losses.util', 'models.wrapper', 'models.adaptation',
                  'core.interfaces.forward_proc', 'core.interfaces.pre_epoch_proc'):
            importlib.import_module(f'torchdistill.{m}')

    def box(self, student, teacher, config, dataset=None):
        import torch
        from torch.utils.data import TensorDataset
        from torchdistill.core.distillation import get_distillation_box
        dataset = TensorDataset(*images()) if dataset is None else dataset
        return get_distillation_box(teacher, student, dict(train=dataset), config, torch.device('cpu'), [], False, 1)

    def fit(self, student, teacher, kind='logits', epochs=1, on_batch=None, folder=None, resume=False, config=None,
            dataset=None):
        from torchdistill.common.main_util import load_ckpt, save_ckpt
        config = config or self.config(kind, epochs, getattr(teacher, 'num_features', None))
        box = self.run = self.box(student, teacher, config, dataset)
        file, start = None if folder is None else str(folder/'last.pt'), 0
        if resume and os.path.exists(file):
            _, args = load_ckpt(file, student, box.optimizer, box.lr_scheduler)
            start = args['epoch'] + 1
        for epoch in range(start, epochs):
            box.pre_epoch_process(epoch=epoch)
            for i, (x, y, supp) in enumerate(box.train_data_loader):
                loss = box.forward_process(x, y, supp)
                box.post_forward_process(loss=loss)
                if on_batch: on_batch(epoch, i)
            box.post_epoch_process()
            if file: save_ckpt(student, box.optimizer, box.lr_scheduler, 0., dict(epoch=epoch), file)
        if on_batch is None: box.clean_modules()
        return box

    def validate(self, student, teacher, calls):
        import torch
        self.fit(student, teacher)
        x, y = images()
        calls.clear()
        with torch.no_grad(): out = student.eval()(x)
        return float(torch.nn.functional.cross_entropy(out, y)), out, y

    def tidy(self, run):
        self.run.clean_modules()
        return 'clean_modules()'

    def longtail(self): return ''

    def losses(self):
        self.registered()
        from torchdistill.losses.registry import MIDDLE_LEVEL_LOSS_DICT as known
        return sorted(known), 'registered losses'


class Fasterai(Package):
    "The callback beside a Learner's own loss, as in the tutorial"
    name = 'fasterai'
    def dls(self):
        from fastai.vision.all import ImageDataLoaders, Normalize, PILImage
        folder, (x, y) = Path(tempfile.mkdtemp(prefix='compare_')), images()
        files = [folder/f'{i}.png' for i in range(len(y))]
        for f, im in zip(files, x): PILImage.create(((im * .5 + .5) * 255).byte().permute(1, 2, 0).numpy()).save(f)
        return ImageDataLoaders.from_lists(folder, files, [f'class {int(k)}' for k in y], valid_pct=.25, seed=1, bs=8,
                                           num_workers=0, batch_tfms=Normalize.from_stats([.5]*3, [.5]*3, cuda=False))

    def learner(self, student, dls=None, **kwargs):
        from fastai.vision.all import CrossEntropyLossFlat, Learner
        learn = Learner(dls or self.dls(), student, **{'loss_func': CrossEntropyLossFlat(), **kwargs})
        learn.remove_cb(learn.progress)
        learn.logger = lambda *a: None
        return learn

    def callback(self, student, teacher, kind, **kwargs):
        import torch
        from fasterai.distill import all as kd
        if kind == 'logits': return kd.KnowledgeDistillationCallback(teacher, kd.SoftTarget)
        training = student.training, teacher.training
        layers = kd.match_feature_layers(student.eval(), teacher.eval(), torch.zeros(1, 3, SIDE, SIDE))
        student.train(training[0]), teacher.train(training[1])
        loss = kd.FitNet if kind == 'FitNet' else kd.Attention # what its guide recommends across architectures
        return kd.KnowledgeDistillationCallback(teacher, loss, layers['student'], layers['teacher'], weight=.9)

    def fit(self, student, teacher, kind='logits', epochs=1, on_batch=None, folder=None, resume=False):
        from fastai.vision.all import Callback, SaveModelCallback
        learn, start = self.learner(student), 0
        self.cb = self.callback(student, teacher, kind)
        cbs = [self.cb]
        if folder is not None:
            learn.path, learn.model_dir = folder, '.'
            cbs.append(SaveModelCallback(every_epoch=True, with_opt=True))
            done = sorted(folder.glob('model_*.pth')) if resume else []
            if done:
                learn.load(done[-1].stem, with_opt=True)
                start = int(done[-1].stem.split('_')[1]) + 1
        if on_batch: cbs.append(each_batch(on_batch))
        with redirect_stdout(io.StringIO()): learn.fit_one_cycle(epochs, 1e-3, cbs=cbs, start_epoch=start)
        return learn

    def validate(self, student, teacher, calls):
        learn = self.learner(student)
        learn.add_cb(self.callback(student, teacher, 'logits'))
        learn.fit(1)
        calls.clear()
        said = learn.validate()[0]
        with learn.removed_cbs(learn.cbs[-1]): preds, targs = learn.get_preds(act=lambda z: z)
        return said, preds, targs

    def tidy(self, run):
        self.cb.after_fit()
        return "the callback's after_fit()"

    def in_learner(self, student, teacher, folder):
        from fastai.vision.all import load_learner
        import torch
        learn = self.learner(student)
        learn.path, learn.model_dir = folder, '.'
        cb = self.callback(student, teacher, 'logits')
        learn.add_cb(cb)
        with redirect_stdout(io.StringIO()): learn.fit(1), learn.lr_find(show_plot=False, num_it=8)
        with learn.removed_cbs(cb): learn.export('s.pkl')
        return learn, load_learner(folder/'s.pkl'), 'with the callback removed first'

    def export(self, student, folder):
        from fasterai.export.all import export_onnx, verify_onnx
        x = images()[0][:2]
        file = export_onnx(student, x, folder/'s.onnx')
        assert verify_onnx(student, file, x)
        other = net(STUDENT)
        for p in other.parameters(): p.data.add_(.01)
        assert not verify_onnx(other, file, x)
        return cell('yes', "export_onnx wrote the file and verify_onnx called it equal to its model and unequal to "
                           "another one.")

    def longtail(self): return ''

    def losses(self):
        from fasterai.distill import losses
        return list(losses.__all__), 'functions'

    def prune(self):
        import torch
        from fasterai.core.all import large_final
        from fasterai.prune.all import Pruner
        from fasterai.sparse.all import Sparsifier
        sparse, pruned = net(STUDENT), net(STUDENT)
        with redirect_stdout(io.StringIO()):
            Sparsifier(sparse, 'weight', 'local', large_final, layer_type=torch.nn.Conv2d).sparsify_model(.5)
            before = sum(p.numel() for p in pruned.parameters())
            Pruner(pruned, .4, 'local', large_final, example_inputs=torch.zeros(1, 3, SIDE, SIDE)).prune_model()
        convs = [m.weight for m in sparse.modules() if isinstance(m, torch.nn.Conv2d)]
        zeros = sum(float((w == 0).sum()) for w in convs) / sum(w.numel() for w in convs)
        after = sum(p.numel() for p in pruned.parameters())
        assert zeros > .45 and after < .8*before and pruned.eval()(images()[0][:2]).shape == (2, CLASSES)
        return cell('yes', f"Sparsifier set {zeros:.0%} of the convolutions' weights to 0, Pruner left "
                           f"{after/before:.0%} of the parameters, and the network still ran.")


class Foprokd(Package):
    "fopro_learner and fit_fopro, as on the front page"
    name = 'foprokd'
    documented = 'features'
    def dls(self):
        from fastai.vision.all import Normalize
        from foprokd.data.synth import demo_dls
        half = Normalize.from_stats([.5]*3, [.5]*3, cuda=False)
        return demo_dls(size=SIDE, bs=16, n_max=24, ratio=4, n_valid=2, n_test=1, batch_tfms=[half])

    def teacher(self, name=CNN, classes=0, **kwargs): return net(name, 0, **kwargs)

    def learner(self, student, teacher, size=None, **kwargs):
        from foprokd.learner import fopro_learner
        learn = fopro_learner(self.dls(), student, teacher, teacher_kwargs=dict(size=size or SIDE), **kwargs)
        learn.remove_cb(learn.progress)
        learn.logger = lambda *a: None
        return learn

    def fit(self, student, teacher, kind='features', epochs=1, on_batch=None, folder=None, resume=False, size=None,
            **kwargs):
        learn = self.run = self.learner(student, teacher, size, **kwargs)
        keep = {} if folder is None else dict(checkpoint=folder, resume=resume)
        explore = int(learn.prompt is not None and bool(list(learn.prompt.parameters())))
        learn.fit_fopro(explore, epochs, cbs=on_batch and each_batch(on_batch), **keep)
        return learn

    def seen(self, run, teacher): return run.teacher # a copy of what was given
    def student(self, run, student): return run.model

    def validate(self, student, teacher, calls):
        learn = self.fit(student, teacher)
        learn.teacher.model.register_forward_hook(lambda *a: calls.append(1))
        calls.clear()
        said = learn.validate()[0]
        preds, targs = learn.get_preds(act=lambda z: z)
        from foprokd.losses import balanced_softmax_loss
        return said, preds, targs, balanced_softmax_loss(preds, targs, learn.counts)

    def in_learner(self, student, teacher, folder):
        from fastai.vision.all import load_learner
        learn = self.learner(student, teacher)
        learn.path, learn.model_dir = folder, '.'
        with learn.no_bar(): learn.fit_fopro(0, 1), learn.lr_find(show_plot=False, num_it=8)
        learn.export('s.pkl')
        return learn, load_learner(folder/'s.pkl'), 'as it stands'

    def export(self, student, folder):
        from foprokd.deploy.parity import check_parity
        from foprokd.deploy.policy import image_sources
        from foprokd.deploy.onnx_student import OnnxStudent
        learn = self.fit(student, self.teacher())
        file, dl = learn.export_student(folder/'s.onnx'), learn.dls.valid
        probs = learn.get_preds(dl=dl, reorder=False)[0].numpy()
        right, wrong = (check_parity(OnnxStudent(file), image_sources(dl), p) for p in (probs, probs[:, ::-1]))
        assert right.max_difference < 1e-4 < wrong.max_difference and not right.flips and wrong.flips
        return cell('yes', "export_student compared the file with the learner on every validation image, from the "
                           "image's file on; check_parity noticed other answers.")

    def longtail(self):
        import torch
        from foprokd.losses import balanced_softmax_loss
        from foprokd.study.baseline_losses import LDAMLoss
        from foprokd.data.longtail import class_groups
        from foprokd.measure.metrics import evaluate
        x, y = torch.randn(32, CLASSES), images()[1]
        n = torch.tensor(COUNTS)
        want = torch.nn.functional.cross_entropy(x + (n / n.sum()).log(), y)
        assert torch.allclose(balanced_softmax_loss(x, y, n), want, atol=1e-5) and LDAMLoss(COUNTS)(x.tanh(), y).isfinite()
        scores = evaluate(x.softmax(1), y, counts=[900, 300, 90, 20], n_boot=0)
        assert all(f'recall_{g}' in scores for g in class_groups([900, 300, 90, 20])), sorted(scores)
        return 'all'

    def losses(self):
        from foprokd.study.methods import METHODS
        return [n for n, m in METHODS.items() if m.teacher and not m.reference], 'methods'


def each_batch(f):
    "A fastai callback that calls f(epoch, batch) after each step of training"
    from fastai.callback.core import Callback
    class EachBatch(Callback):
        run_valid = False
        def after_batch(self): f(self.epoch, self.iter)
    return EachBatch()


PACKAGES = dict(foprokd=Foprokd, fasterai=Fasterai, timm=Timm, torchdistill=Torchdistill)
# The probes: the same for all packages

def probe_teacher(pk):
    """yes: two epochs leave weights, BatchNorm statistics and gradients of a teacher alone that was handed over as
    `create_model` gives it; partly: only if the caller called eval() and requires_grad_(False) before."""
    for ready in (False, True):
        teacher = pk.teacher()
        if ready: teacher.eval().requires_grad_(False)
        weights, all_ = digest(teacher, False), digest(teacher)
        seen = pk.seen(pk.fit(net(STUDENT), teacher, pk.documented, epochs=2), teacher)
        seen = getattr(seen, 'model', seen) if pk.name == 'foprokd' else seen
        grads, n = sum(p.grad is not None for p in seen.parameters()), len(list(seen.parameters()))
        moved = [w for w, bad in (('weights', digest(seen, False) != weights),
                                  ('BatchNorm statistics', digest(seen) != all_ and digest(seen, False) == weights))
                 if bad]
        if not moved and not grads:
            if not ready: return cell('yes', "After two epochs weights and BatchNorm statistics were the same to the "
                                             f"bit, and none of {n} parameters had a gradient.")
            return cell('partly', f"As created, {first}; after teacher.eval() and requires_grad_(False) nothing did.",
                        f"only if you freeze it yourself: else {brief}")
        first = (f"{grads} of {n} parameters of the teacher got gradients" if grads else '') + \
                (' and ' if grads and moved else '') + (f"its {' and '.join(moved)} changed" if moved else '')
        brief = 'it collects gradients' if grads else f"its {' and '.join(moved)} change"
    return cell('no', f"{first.capitalize()}, even after teacher.eval() and requires_grad_(False).")


def probe_features(pk):
    """yes: a student with 96 features learns from a headless CNN with 256 and from a headless ViT with 64, and ends
    elsewhere if the teacher's last block is another; partly: from one of them; no: from none."""
    global SIDE # at 32 pixels the last maps are single points, which fasterai leaves out; a probe has its own process
    SIDE = 64
    import torch
    from fastai.torch_core import set_seed
    if pk.name == 'foprokd': from foprokd.prompt import IdentityPrompt
    def trained(name, moved, **options):
        teacher, student = pk.teacher(name, 0, **options), net(STUDENT)
        for p in teacher.blocks[-1].parameters(): p.data.add_(torch.randn_like(p), alpha=moved)
        set_seed(0)
        kwargs = dict(prompt=IdentityPrompt()) if pk.name == 'foprokd' else {}
        return digest(pk.student(pk.fit(student, teacher, 'features', **kwargs), student))
    worked, failed = [], []
    for name, what, kwargs in ((CNN, 'CNN', {}), (VIT, 'ViT', dict(img_size=SIDE))):
        try:
            if trained(name, 0., **kwargs) == trained(name, .5, **kwargs):
                failed.append(f"the {what}'s last block does not reach the student")
            else: worked.append(f'a headless {what}')
        except Exception as e: failed.append(f'{what}: {type(e).__name__}: {sentence(e)}')
    extra = ''
    if pk.name == 'fasterai':
        try: pk.fit(net(STUDENT), pk.teacher(CNN, 0), 'FitNet')
        except RuntimeError as e: extra = f" FitNet raises {type(e).__name__} for unequal widths."
    if pk.name == 'torchdistill': extra = " The linear layer between the widths is written into the configuration."
    text = f"{' and '.join(worked) or 'Neither'} taught the student{''.join('; ' + f for f in failed)}.{extra}"
    if len(worked) == 2: return cell('yes', text[0].upper() + text[1:])
    if not worked: return cell('no', text)
    return cell('partly', text[0].upper() + text[1:], 'maps of CNNs; FitNet needs equal widths')


def probe_validation(pk):
    "yes: the validation loss is the classification loss to 1e-4 and the teacher was not called; no: otherwise"
    import torch
    teacher, calls = pk.teacher(), []
    teacher.register_forward_hook(lambda *a: calls.append(1))
    said, preds, targs, *plain = pk.validate(net(STUDENT), teacher, calls)
    plain = float(plain[0] if plain else torch.nn.functional.cross_entropy(preds, targs))
    how = ' (the loop is yours)' if pk.name == 'torchdistill' else ''
    text = (f"Reported {said:.3f}, the classification loss is {plain:.3f}; the teacher was called {len(calls)} "
            f"times{how}.")
    return cell('yes' if abs(said - plain) < 1e-4 and not calls else 'no', text)


def probe_eyes(pk):
    """partly: the teacher's first layer got the pixels with the teacher's mean and deviation instead of the student's;
    yes: and a ViT made for 48 pixels took batches of 32."""
    import torch
    got, pixels = [], []
    teacher = pk.teacher()
    def look(m, x): got.append(x[0].detach().clone().as_subclass(torch.Tensor))
    mean, std = (torch.tensor(teacher.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ('mean', 'std'))
    teacher.conv_stem.register_forward_pre_hook(look)
    student = net(STUDENT)
    student.conv1[0].register_forward_pre_hook(lambda m, x: pixels.append(x[0].detach().as_subclass(torch.Tensor)))
    if pk.name == 'foprokd':
        from foprokd.prompt import IdentityPrompt
        run = pk.learner(student, teacher, prompt=IdentityPrompt())
        got.clear(), pixels.clear() # of the checks when it is built
        run.fit_fopro(0, 1)
    else: pk.fit(student, teacher)
    px = pixels[0] * .5 + .5
    own = torch.allclose(got[0], (px - mean) / std, atol=1e-4)
    same = torch.allclose(got[0], pixels[0], atol=1e-6)
    assert own != same
    size, kind = '', 'features' if pk.name != 'fasterai' else 'logits'
    strict = pk.teacher(VIT, 0 if kind == 'features' else CLASSES, img_size=48, dynamic_img_size=False)
    try: pk.fit(net(STUDENT), strict, kind, **(dict(size=48) if pk.name == 'foprokd' else {}))
    except Exception as e: size = f'{type(e).__name__}: {sentence(e)}'
    text = ("The teacher's first layer got its own normalisation" if own else "The teacher got the student's batch")
    text += f"; a ViT for 48 pixels {'failed on batches of 32 (' + size + ')' if size else 'took batches of 32'}."
    if own and not size: return cell('yes', text)
    return cell('partly', text, 'its normalisation, not its size' if own else 'its size only') if own or not size \
        else cell('no', text)


def probe_learner(pk):
    "yes: lr_find ran during distillation, and export and load_learner gave the same answers without the teacher"
    import torch
    if not hasattr(pk, 'in_learner'):
        from fastai.vision.all import Learner
        if pk.name == 'timm':
            from timm.task import LogitDistillationTask
            model = LogitDistillationTask(net(STUDENT), pk.teacher(), criterion=torch.nn.CrossEntropyLoss(),
                                          distill_loss_weight=1., verbose=False)
        else:
            model = pk.box(net(STUDENT), pk.teacher(), pk.config('logits', 1))
            assert not isinstance(model, torch.nn.Module)
            return cell('no', f"It has a training loop of its own; its {type(model).__name__} is no nn.Module, which a "
                              "Learner needs.")
        try: Fasterai().learner(model, loss_func=torch.nn.functional.cross_entropy).fit(1)
        except Exception as e:
            return cell('no', f"It has a training loop of its own; as model of a Learner its {type(model).__name__} "
                              f"raises {type(e).__name__}: {sentence(e)}.")
        raise AssertionError('it ran')
    with tempfile.TemporaryDirectory() as tmp:
        learn, back, how = pk.in_learner(net(STUDENT), pk.teacher(), Path(tmp))
        file = learn.dls.valid_ds.items[0] if pk.name == 'fasterai' else \
            learn.dls.path/learn.dls.valid_ds.items.iloc[0]['image']
        back.logger = lambda *a: None
        with back.no_bar(): answer = back.predict(file)[2]
        with learn.no_bar(): mine = learn.get_preds()[0][0]
        gone = not any(isinstance(v, torch.nn.Module) for cb in back.cbs for v in vars(cb).values()
                       if v is not back.model)
    assert gone and torch.allclose(answer, mine, atol=1e-4), (gone, answer, mine)
    return cell('yes', f"lr_find ran, and export, {how}, and load_learner gave the same answer, without teacher.")


TAIL = r'balanced_?softmax|ldam|logit_?adjust'
GROUPS = r'group_?recall|recall_?(tail|head|few|many)|many_?shot|few_?shot|class_?groups'

def probe_longtail(pk):
    "yes: balanced softmax or LDAM from counts and recall per group ran; partly: some of it; no: none"
    has = pk.longtail()
    if has == 'all':
        return cell('yes', "balanced_softmax_loss from counts equals cross-entropy on logits plus log share; LDAM ran; "
                           "evaluate gave recall of head, medium and tail.")
    assert search_ours(TAIL) and search_ours(GROUPS) and not named(pk.name, TAIL) and not named(pk.name, GROUPS)
    if has: return cell('partly', f"Has {has}; no balanced softmax, LDAM or recall per group is named in it.",
                        'class weights for binary cross-entropy')
    return cell('no', "It takes any loss you write; none from class counts and no recall per group is named in it.")


FREQUENCY = r'fourier|spectr(um|al)|frequenc(y|ies)_?|rfft|fft2'

def probe_frequency(pk):
    "yes: a Fourier prompt changed images, and a sensitivity map of a network was finite; no: nothing of such a name"
    import torch
    if pk.name != 'foprokd':
        found = absent(pk, FREQUENCY, 'Fourier, spectrum, frequency or FFT')
        if found is None: raise AssertionError(named(pk.name, FREQUENCY))
        return found
    from foprokd.prompt import FourierPromptGenerator
    from foprokd.frequency.sensitivity import sensitivity_map
    from foprokd.teacher import FrozenTeacher
    x, prompt = images()[0][:4] * .5 + .5, FourierPromptGenerator()
    for p in prompt.parameters(): p.data.add_(.1)
    heat = sensitivity_map(FrozenTeacher(pk.teacher(), size=SIDE), x, step=16, tol=1e9, progress=False)
    assert (prompt(x) - x).abs().max() > 1e-4 and torch.as_tensor(heat.cosine).isfinite().all()
    return cell('yes', "A moved Fourier prompt changed the images, and sensitivity_map of a network was finite.")


def probe_resume(pk):
    """A run of three epochs is killed (SIGKILL) in its second, and started again with what the package offers. yes: the
    student is that of an undisturbed run, to the bit; partly: it goes on from the last epoch with other numbers."""
    import torch
    def start(folder, resume, kill):
        pid = os.fork()
        if pid: return os.waitpid(pid, 0)[1]
        code, began = 1, []
        def each(epoch, i):
            began.append(epoch)
            if kill and (epoch, i) == (1, 1): os.kill(os.getpid(), signal.SIGKILL)
        try:
            torch.manual_seed(7 if resume else 0)
            if pk.name in ('foprokd', 'fasterai'):
                from fastai.torch_core import set_seed
                set_seed(7 if resume else 0)
            student = net(STUDENT)
            torch.manual_seed(7 if resume else 0)
            run = pk.fit(student, pk.teacher(), pk.documented, epochs=3, on_batch=each, folder=folder, resume=resume)
            out = dict(student=digest(pk.student(run, student)), first=began[0])
            (folder/'result.json').write_text(json.dumps(out))
            code = 0
        except BaseException: (folder/'error.txt').write_text(traceback.format_exc())
        finally: os._exit(code)
    with tempfile.TemporaryDirectory() as tmp:
        whole, killed = (Path(tmp)/n for n in ('whole', 'killed'))
        for f in (whole, killed): f.mkdir()
        status = [start(whole, False, False), start(killed, False, True), start(killed, True, False)]
        errors = [(f/'error.txt').read_text() for f in (whole, killed) if (f/'error.txt').exists()]
        assert [s if s != signal.SIGKILL else 'killed' for s in status] == [0, 'killed', 0], (status, errors)
        a, b = (json.loads((f/'result.json').read_text()) for f in (whole, killed))
    same = a['student'] == b['student']
    assert b['first'] >= 1
    if same: return cell('yes', "Killed in the second of three epochs and started again under another seed, it ended "
                                "with the student of an undisturbed run, to the bit.")
    how = dict(fasterai="fastai's SaveModelCallback and start_epoch", timm='CheckpointSaver and resume_task_checkpoint',
               torchdistill='save_ckpt and load_ckpt in your loop').get(pk.name, '')
    return cell('partly', f"With {how} it went on from the end of the first epoch, and ended with another student than "
                          "an undisturbed run.", 'from the last epoch, with other numbers')


def probe_onnx(pk):
    "yes: a file was written, compared with its model, and the comparison noticed a difference"
    if not hasattr(pk, 'export'):
        found = absent(pk, r'onnx', 'ONNX')
        if found is None: raise AssertionError(named(pk.name, 'onnx'))
        return found
    with tempfile.TemporaryDirectory() as tmp: return pk.export(net(STUDENT).eval(), Path(tmp))


def wrong_inputs(pk):
    "Four mistakes, each with the words that a helpful line has"
    import torch
    state = net(CNN).state_dict()
    yield 'a state dictionary as teacher', ('dict',), lambda: pk.fit(net(STUDENT), state)
    def unknown():
        if pk.name == 'foprokd': pk.fit(net(STUDENT), 'no_such_model')
        if pk.name == 'timm': pk.fit(net(STUDENT), 'no_such_model')
        if pk.name == 'fasterai':
            from fasterai.distill.all import Attention, KnowledgeDistillationCallback
            cb = KnowledgeDistillationCallback(pk.teacher(), Attention, ['no_such_layer'], ['blocks'])
            pk.learner(net(STUDENT)).fit(1, cbs=cb)
        if pk.name == 'torchdistill':
            config = pk.config('logits', 1)
            config['student']['forward_hook'] = dict(input=[], output=['no_such_layer'])
            pk.fit(net(STUDENT), pk.teacher(), config=config)
    yield 'an unknown name of a model or layer', ('no_such',), unknown
    def tiny(): # 48 is no multiple of what the ViT was made for
        kwargs = dict(size='image') if pk.name == 'foprokd' else {}
        pk.fit(net(STUDENT), pk.teacher(VIT, CLASSES, img_size=48, dynamic_img_size=False), **kwargs)
    yield 'images of a size the teacher cannot take', (str(SIDE), '48'), tiny
    def other_classes():
        if pk.name != 'foprokd': return pk.fit(net(STUDENT), pk.teacher(CNN, 10))
        from foprokd.study.rivals import SoftTargetCallback
        learn = pk.learner(net(STUDENT), None)
        learn.fit(1, cbs=SoftTargetCallback(net(CNN, 10)))
    yield 'a teacher with logits of other classes', ('class',), other_classes


def probe_errors(pk):
    """How many of four wrong inputs stop with a line that says so: raised on purpose (the traceback ends in a raise or
    an assert) with fewer than 500 letters, or logged just before, and naming the thing."""
    good, bad = [], []
    for what, words, run in wrong_inputs(pk):
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        logging.getLogger().addHandler(handler)
        try: run()
        except Exception as e:
            line = (traceback.extract_tb(e.__traceback__)[-1].line or '').strip()
            said = any(w in str(e).lower() for w in words) and len(str(e)) < 500
            said = said and line.startswith(('raise', 'assert'))
            logged = any(all(w in row for w in words) and len(row) < 300 for row in log.getvalue().splitlines())
            (good if said or logged else bad).append((what, f'{type(e).__name__}: {sentence(e)}'))
        else: bad.append((what, 'no error'))
        finally: logging.getLogger().removeHandler(handler)
    text = '; '.join(f'{w}: {m}' for w, m in bad)
    return cell(f'{len(good)} of 4', "All four are named." if not bad else f"Not named: {text}.")


def probe_clean(pk):
    """Ctrl-C in the second batch of a distillation of features. yes: no hook more than before on student and teacher;
    partly: one call of the package's removes them; no: they stay."""
    student, teacher = net(STUDENT), pk.teacher(CNN, 0)
    def each(epoch, i):
        if i == 1: raise Stop
    before, run = hooks(student, teacher), None
    try: pk.fit(student, teacher, 'features', on_batch=each)
    except Stop: pass
    else: raise AssertionError('not interrupted')
    nets = (pk.run.model, pk.run.teacher) if pk.name == 'foprokd' else (student, teacher)
    left = hooks(*nets) - before
    if not left: return cell('yes', "Interrupted in its second batch, it left no hook on student or teacher.")
    how = pk.tidy(run)
    if how and hooks(*nets) == before:
        return cell('partly', f"Hooks that stayed: {left}; {how} removed them.", f'after {how}')
    return cell('no', f"Hooks that stayed on student and teacher: {left}.")


def probe_losses(pk):
    "How many losses, tasks or methods of distillation the package lists itself"
    names, what = pk.losses()
    return cell(len(names), f"{len(names)} {what}: {', '.join(names)}.")


def probe_prune(pk):
    "yes: half of a network's weights set to zero, and a smaller network that runs; no: nothing of such a name"
    if hasattr(pk, 'prune'): return pk.prune()
    found = named(pk.name, r'prun(er|ing)|prune_|sparsi')
    assert not found, found
    return cell('no', "No function, class or argument of the package is named like pruning or sparsity.")


def probe_dense(pk):
    """yes: an epoch of soft targets between two networks with one class per pixel ran, and its loss stays if a constant
    is added to all classes of a pixel; no: it raises, or takes its softmax over another axis."""
    import torch
    from torch import nn
    def small():
        torch.manual_seed(0)
        m = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
        m.num_classes, m.in_chans, m.pretrained_cfg = CLASSES, 3, dict(mean=(.5,)*3, std=(.5,)*3)
        return m
    x = images()[0]
    y = torch.randint(0, CLASSES, (len(x), SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    dataset, shift = torch.utils.data.TensorDataset(x, y), torch.randn(8, 1, SIDE, SIDE)
    s, t = torch.randn(8, CLASSES, SIDE, SIDE), torch.randn(8, CLASSES, SIDE, SIDE)
    try:
        if pk.name == 'fasterai':
            from fastai.vision.all import CrossEntropyLossFlat, DataLoader, DataLoaders
            from fasterai.distill.all import KnowledgeDistillationCallback, SoftTarget
            dls = DataLoaders(*(DataLoader(dataset, bs=8) for _ in range(2)))
            learn = pk.learner(small(), dls, loss_func=CrossEntropyLossFlat(axis=1))
            learn.fit(1, cbs=KnowledgeDistillationCallback(small(), SoftTarget))
            loss = lambda z: SoftTarget(z, t)
        elif pk.name == 'torchdistill':
            pk.fit(small(), small(), dataset=dataset)
            from torchdistill.losses.registry import get_mid_level_loss
            kd = get_mid_level_loss(pk.config('logits', 1)['criterion']['kwargs']['sub_terms']['kd']['criterion'])
            io_ = lambda z: {'.': dict(output=z)}
            loss = lambda z: kd(io_(z), io_(t), y[:8]) - .5 * nn.functional.cross_entropy(z, y[:8])
        elif pk.name == 'timm':
            from timm.task import LogitDistillationTask
            class Given(nn.Module):
                def forward(self, _): return self.z
            a, b = Given(), Given()
            a.pretrained_cfg, a.num_classes, a.in_chans, b.z = small().pretrained_cfg, CLASSES, 3, t
            task = LogitDistillationTask(a, b, criterion=nn.CrossEntropyLoss(), distill_loss_weight=1., verbose=False)
            def loss(z):
                a.z = z
                return task(x[:8], y[:8])['kd_loss']
        else:
            from fastai.vision.all import DataLoader, DataLoaders
            from foprokd.learner import fopro_learner
            dls = DataLoaders(*(DataLoader(dataset, bs=8) for _ in range(2)))
            learn = fopro_learner(dls, small(), pk.teacher(), counts=COUNTS, teacher_kwargs=dict(size=SIDE))
            learn.remove_cb(learn.progress)
            learn.fit_fopro(0, 1)
            return cell('yes', 'An epoch ran.')
    except (ValueError, TypeError, RuntimeError, AssertionError) as e:
        return cell('no', f"{type(e).__name__}: {sentence(e)}.")
    if torch.allclose(loss(s), loss(s + shift), rtol=1e-3):
        return cell('yes', "An epoch ran, and the loss is a softmax over the classes of a pixel.")
    return cell('no', "The soft targets take their softmax over the last axis, which is a column of pixels here.")


PROBES = {n[6:]: f for n, f in list(globals().items()) if n.startswith('probe_')}
assert set(PROBES) == set(ROWS)

READ = dict( # what stands in Fed-MAS, and what is said of the authors' repository in its README and issues
    teacher=cell('yes', "methods/free.py detaches the parameters, calls eval, and optimises the student alone."),
    features=cell('yes', "methods/free.py: ResNet, EfficientNet-B0 and DINOv2 ViT-S/14 without heads; a projector."),
    validation=cell('yes', "methods/base.py: validation runs the student alone and reports balanced accuracy."),
    eyes=cell('no', "methods/free.py gives the teacher the student's batch."),
    learner=cell('no', "A training loop of its own."),
    longtail=cell('partly', "Balanced softmax, focal and LDAM from class counts; macro recall, none per group.",
                  'the losses, no recall per group'),
    frequency=cell('no', "Neither repository has the prompt; it will not be shared (issues 1 and 2)."),
    resume=cell('no', "main.py skips a run that has its result, and reads no checkpoint."),
    onnx=cell('no', "Not in main.py or the methods that were read."),
    errors=cell('?', "The command in the README stops at unknown arguments; nothing was run."),
    clean=cell('?', "Not run."),
    losses=cell(1, "One: the EKD of FoPro-KD."),
    prune=cell('no', "Not in main.py or the methods that were read."),
    dense=cell('no', "Networks and losses are for one class per image."))


# Environments, processes, the file, the table

def run_probe(name, row):
    "One cell, in this process"
    import torch
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory(prefix='compare_') as tmp:
        tempfile.tempdir, before = tmp, tempfile.tempdir
        try: return PROBES[row](PACKAGES[name]()) | dict(probe=f'probe_{row}')
        finally: tempfile.tempdir = before


def environment():
    "No download, one thread, nothing but what is installed"
    keep = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'FOPROKD_DATA')}
    return {**keep, 'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg', 'PYTHONWARNINGS': 'ignore'}


def begin(name, row, tmp, seconds=300):
    "Start a probe in a process of its own, a fork of this one, which leaves its cell in a folder; its id"
    pid = os.fork()
    if pid: return pid
    try:
        signal.alarm(seconds)
        (tmp/f'{row}.json').write_text(json.dumps(run_probe(name, row)), encoding='utf-8')
    except BaseException: (tmp/f'{row}.txt').write_text(traceback.format_exc(), encoding='utf-8')
    finally: os._exit(0)


def probed(name, rows, at_once=2):
    "The cells of a package, in its environment; a probe that dies is an error, not a no"
    with tempfile.TemporaryDirectory(prefix='compare_') as tmp:
        tmp, waiting, running = Path(tmp), list(rows), set()
        while waiting or running:
            while waiting and len(running) < at_once: running.add(begin(name, waiting.pop(0), tmp))
            running.discard(os.wait()[0])
        def of(row):
            if (tmp/f'{row}.json').exists(): return json.loads((tmp/f'{row}.json').read_text(encoding='utf-8'))
            text = (tmp/f'{row}.txt').read_text(encoding='utf-8') if (tmp/f'{row}.txt').exists() else 'Out of time.'
            print(text, file=sys.stderr)
            return cell('error', f'The probe died: {text.strip().splitlines()[-1][:200]}') | dict(probe=f'probe_{row}')
        return {row: of(row) for row in rows}


def column_of(python, name, cwd):
    "All cells of a package, by the Python of its environment"
    env = environment() | ({'PYTHONPATH': str(ROOT)} if name == 'foprokd' else {})
    out = subprocess.run([python, __file__, '--probe', name], cwd=cwd, env=env, stdout=subprocess.PIPE, text=True,
                         check=True)
    return json.loads(out.stdout.strip().splitlines()[-1])


@contextmanager
def installed(name):
    "A fresh environment with the newest version of a package over those of this environment; its Python, its version"
    folder = Path(tempfile.mkdtemp(prefix='compare_venv_'))
    try:
        venv.create(folder, with_pip=True)
        python = str(folder/'bin'/'python')
        site = subprocess.run([python, '-c', 'import site; print(site.getsitepackages()[0])'], text=True, check=True,
                              capture_output=True).stdout.strip()
        ours = [p for p in sys.path if p.endswith('site-packages')]
        (Path(site)/'over.pth').write_text('\n'.join(ours) + '\n', encoding='utf-8')
        pip = [python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
        subprocess.run([*pip, '--ignore-installed', '--no-deps', '--upgrade', name], check=True)
        subprocess.run([*pip, name], check=True) # what is still missing
        code = f'from importlib.metadata import version as v; import {name}; print(v({name!r}), {name}.__file__)'
        said = subprocess.run([python, '-c', code], text=True, check=True, capture_output=True, env=environment())
        found, file = said.stdout.split()
        assert file.startswith(str(folder)), file
        yield python, found
    finally: shutil.rmtree(folder, ignore_errors=True)


def releases(name):
    "How many versions PyPI has, by pip; 0 for a package that is not there"
    pip = [sys.executable, '-m', 'pip', 'index', 'versions', name]
    found = re.search(r'Available versions: (.*)', subprocess.run(pip, capture_output=True, text=True).stdout)
    return len(found[1].split(',')) if found else 0


def machine():
    "The machine in words"
    import torch
    gpu = 'with' if torch.cuda.is_available() else 'without'
    return f'{os.cpu_count()}-core {platform.machine().replace("_", "-")} machine {gpu} GPU, Python ' + \
        '.'.join(platform.python_version_tuple()[:2])


def check(names):
    "Probe packages and write the file"
    today = datetime.now(timezone.utc).strftime('%Y-%m-%d')
    for name in names:
        def probe(python):
            with tempfile.TemporaryDirectory() as cwd: return column_of(python, name, cwd)
        if name == 'paper':
            column = dict(version='Fed-MAS b656e7d', how='read, not run',
                          cells={r: c | dict(probe='read, not run') for r, c in READ.items()})
        elif name == 'foprokd':
            rev = subprocess.run(['git', 'rev-parse', '--short=7', 'HEAD'], cwd=ROOT, text=True, capture_output=True)
            column = dict(version=f'commit {rev.stdout.strip()}', how='run', releases=releases(name),
                          cells=probe(sys.executable))
        else:
            with installed(name) as (python, found):
                column = dict(version=found, how='installed from PyPI and run', releases=releases(name),
                              cells=probe(python))
        known = json.loads(FILE.read_text(encoding='utf-8')) if FILE.exists() else dict(columns={})
        known['columns'][name] = column | dict(date=today)
        known |= dict(date=today, machine=machine(), rows=ROWS, torch=version('torch').split('+')[0],
                      fastai=version('fastai'))
        known['columns'] = {k: known['columns'][k] for k in LABELS if k in known['columns']}
        FILE.write_text(json.dumps(known, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def table(known=None):
    "The Markdown table of the front page"
    known = known or json.loads(FILE.read_text(encoding='utf-8'))
    columns, notes = known['columns'], []
    lines = ['| | ' + ' | '.join(LABELS[c] for c in columns) + ' |', '|---|' + ':-:|' * len(columns)]
    for row, label in known['rows'].items():
        said = []
        for column in columns.values():
            c = column['cells'][row]
            text = c['verdict']
            if c['note']:
                if c['note'] not in notes: notes.append(c['note'])
                text += f" <sup>{notes.index(c['note']) + 1}</sup>"
            said.append(text)
        lines.append(f"| {label} | {' | '.join(said)} |")
    versions = ', '.join(f"{n} {columns[n]['version']} ({columns[n]['releases']} releases on PyPI)" for n in INSTALLED)
    mine = columns['foprokd']['releases']
    caption = (f"Checked {known['date']} by [compare_rivals.py]({URL}/benchmarks/compare_rivals.py), which runs the "
               f"same probe on each package: {versions}; foprokd {columns['foprokd']['version']} ({mine or 'no'} "
               f"releases); torch {known['torch']}, fastai {known['fastai']}, {known['machine']}. The paper's code "
               f"(the authors' {columns['paper']['version']}; their FoPro-KD repository has none) was read, not run. "
               f"What happened in each cell stands in [rivals_checked.json]({URL}/results/rivals_checked.json).")
    below = '; '.join(f'<sup>{i}</sup> {n}' for i, n in enumerate(notes, 1)) + '.'
    return '\n'.join([BEGIN, *lines, '', below, '', caption, END])


def main():
    "See the top of the file"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', choices=LABELS, help='one column; the others stay as they are')
    parser.add_argument('--table', action='store_true', help='print the table and leave')
    parser.add_argument('--probe', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table: return print(table())
    if args.probe:
        name, _, row = args.probe.partition(':')
        for m in ('torch', 'timm', 'fastai.vision.all', name): importlib.import_module(m)
        if name == 'foprokd': importlib.import_module('foprokd.deploy.export'), Foprokd().dls() # which writes the set once
        with redirect_stdout(sys.stderr):
            cells = probed(name, [row] if row else ROWS)
            for r, c in cells.items(): print(f"{name:13}{r:11}{c['verdict']:8}{c['evidence']}", flush=True)
        return print(json.dumps(cells))
    check([args.only] if args.only else list(LABELS))


if __name__ == '__main__': main()
