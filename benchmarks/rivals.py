"""The rivals' numbers for the table of a study: distillation by timm's own tasks and by fasterai's callback.

    python benchmarks/rivals.py --rival timm_feature|timm_logit|fasterai --grid GRID.yaml [--only NAME] [--seeds 0,1,2]
                                [--out DIR] [--method-kwargs 'weight=5'] [--name LABEL]

Data, split, augmentation, student, teacher, budget and precision are those of one run of the grid (`--only`, its name
or method; default `ekd`). As in `foprokd_run`, the student starts from the same weights for the same seed, sees the
same loaders, and is trained by fastai's Adam and one-cycle schedule in a fastai Learner with balanced softmax as the
classification loss (both rivals take any loss); the last epoch counts, and the deployed student is measured by the same
functions. Rows go to OUT/results.jsonl, what has a row is skipped, and `foprokd_table OUT/results.jsonl` pairs them
with ours. `method` is the rival's name, and the settings, of which it is a part, are hashed like ours; what has no
meaning for a rival (`lam` is spelled out as its weight) stands at its default.

What differs from EKD is the objective, which is the rival's own code. Read in timm 1.0.31 and fasterai 0.4.1:

timm_feature: `timm.task.FeatureDistillationTask` (weight: that of the grid, `lam`). Mean squared error between pooled
    features, in the teacher's own scale; one linear layer from student to teacher if their widths differ, else none.
timm_logit: `timm.task.LogitDistillationTask` (weight 1, temperature 4). KL of softened logits times T^2.
    Both: the teacher runs in eval mode under `no_grad`; its images are re-normalised, not resized, and both statistics
    are taken from `pretrained_cfg`, whatever the loader did, so they are written there. In bf16, autocast is around the
    task, as in timm's train.py. Validation is the classification loss alone.
    The wrapper is `TimmModel` (task as the Learner's model) and `TimmLoss` (its loss as the Learner's).
fasterai: `KnowledgeDistillationCallback(teacher, loss, ...)` beside the Learner's own loss, and nothing else.
    loss=Attention (weight .9, what its guide recommends across architectures), Similarity (.5), FitNet (.5),
    ActivationBoundaries (.5) compare maps of the layers that its `match_feature_layers` pairs by resolution;
    loss=SoftTarget, DecoupledKD, Logits, Mutual (.5 each) compare logits. weight w makes (1-w) classification + w
    distillation. It does not freeze the teacher, and runs it with gradients (ours is frozen, so none are kept); it does
    not move it to the student's device (done here); it shows the teacher the student's batch, neither re-normalised
    nor resized (own_input=True wraps the teacher so that it gets what it expects, which is the caller's work, not
    fasterai's); its loss is added in validation, too, so valid_loss is no classification loss (nothing is selected by
    it); pairs of maps are zipped in the order in which the layers ran, not by name. In bf16, autocast is around model
    and loss as in fastai's MixedPrecision, which knows only CUDA.

Not expressible, and not imitated: EKD's cosine on the projected features (timm: MSE only; fasterai: no projection, so
FitNet and ActivationBoundaries fail for unequal widths, which is written down as a failed run), EKD's auxiliary
classifier on the projection, a prompt, several teachers or stages (refused), a teacher that sees another size than the
student (timm_feature and fasterai's maps: it gets the student's size, and the row says so). Neither can take logits
from a teacher that does not know the classes: timm_logit and fasterai's logit losses get the linear probe of our method
`kd`, trained for the grid's `explore` epochs. timm's own loader (`teacher_pretrained_path`) wants a whole checkpoint
with a classifier of the student's classes; a trunk is loaded by us and handed over as a module, which it takes.
"""
import argparse
import importlib
import json
import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import timm
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.torch_core import params
from torch import nn

from foprokd.data.loaders import test_dl
from foprokd.study import experiment, settings
from foprokd.study.experiment import about_teacher, run_folder
from foprokd.study.grid import parse_seeds, read_grid
from foprokd.study.run_files import save_run
from foprokd.study.jobs import failure_row, pending_runs
from foprokd.study.methods import METHODS, Method
from foprokd.pixels import PixelSpace
from foprokd.train.loss_parts import LossPartsCallback
from foprokd.study.rivals import SoftTargetCallback, probe_learner
from foprokd.measure.rows import append_row, provenance
from foprokd.study.settings import RunConfig, parse_kwargs, settings_hash
from foprokd.study.sources import data_summary, describe_data, load_data
from foprokd.study.wiring import learner_from_config, teacher_from_config
from foprokd.teacher import FrozenTeacher

RIVALS = dict(timm_feature="timm's FeatureDistillationTask", timm_logit="timm's LogitDistillationTask",
              fasterai="fasterai's KnowledgeDistillationCallback")
MAP_LOSSES = dict(Attention=.9, Similarity=.5, FitNet=.5, ActivationBoundaries=.5) # weights of fasterai's guide
LOGIT_LOSSES = dict(SoftTarget=.5, DecoupledKD=.5, Logits=.5, Mutual=.5)
OPTIONS = dict(timm_feature=('weight',), timm_logit=('weight', 'temperature'), fasterai=('loss', 'weight', 'own_input'))
IDLE = 'lam', 'projector_layers', 'prompt', 'prompt_kwargs', 'explore_kwargs', 'rounds', 'log'

# a rival becomes a name that RunConfig knows, in this process only; its options are checked in `rival_config`
for _name, _about in RIVALS.items():
    METHODS[_name] = Method(_about, teacher=True, wakes=dict(weight=('explore', 'explore_lr')))
_of_ours = settings._check_method
settings._check_method = lambda cfg: None if cfg.method in RIVALS else _of_ours(cfg)


def needs_probe(rival, k):
    "Whether a rival compares logits"
    return rival == 'timm_logit' or k.get('loss') in LOGIT_LOSSES


def rival_config(base, rival, text='', name='', out=None):
    "The settings of a rival's run: those of `base` that have a meaning for it, its own options spelled out"
    if base.teacher_stages or base.teacher_scale or '+' in base.teacher:
        raise ValueError(f"{rival} takes one teacher and its last features: use a run without teacher_stages, "
                         "teacher_scale and +.")
    if base.prompt not in (None, 'identity'): raise ValueError(f'{rival} has no prompt: use a run without prompt.')
    usual = dict(timm_feature=dict(weight=base.lam), timm_logit=dict(weight=1., temperature=4.),
                 fasterai=dict(loss='Attention'))[rival]
    given = parse_kwargs(text)
    if odd := set(given) - {*OPTIONS[rival]}:
        raise ValueError(f"{rival} has no option {min(odd)!r}, only {', '.join(OPTIONS[rival])}.")
    k, label = usual | given, rival
    if rival == 'fasterai':
        weights = MAP_LOSSES | LOGIT_LOSSES
        if k['loss'] not in weights: raise ValueError(f"loss={k['loss']!r} is none of {', '.join(weights)}.")
        if needs_probe(rival, k) and 'own_input' in k:
            raise ValueError("own_input is for losses on maps: a probe sees what it expects anyway.")
        k = dict(weight=weights[k['loss']]) | k
        label = f"fasterai {k['loss']}"
    k['weight'] = float(k['weight'])
    name = name or ', '.join([label, *(f'{a}={b}' for a, b in given.items() if a != 'loss')])
    idle = IDLE + (() if needs_probe(rival, k) else ('explore', 'explore_lr'))
    fresh = {n: RunConfig.__dataclass_fields__[n].default for n in idle}
    return replace(base, method=rival, method_kwargs=' '.join(f'{a}={b}' for a, b in sorted(k.items())),
                   name=name, **fresh, **({} if out is None else dict(out=out)))


class Autocast(Callback):
    "Model and loss of training batches in bf16, as fastai's MixedPrecision does it, on any device"
    order, run_valid = MixedPrecision.order, False

    def before_batch(self):
        self.context = torch.autocast(self.dls.device.type, torch.bfloat16)
        self.context.__enter__()

    def after_loss(self): self.context.__exit__(None, None, None)


class TimmModel(nn.Module):
    "A timm task as the model of a Learner: with targets its dictionary, without the student's logits"
    def __init__(self, task):
        super().__init__()
        self.task = task

    def forward(self, x, y=None):
        x = x.as_subclass(torch.Tensor)
        return self.task.get_eval_model()(x) if y is None else self.task(x, y.as_subclass(torch.Tensor))


class TimmLoss(LossPartsCallback):
    "Train on the loss of a timm task"
    part_names = 'task', 'kd'

    def before_batch(self): self.learn.xb = (*self.xb, *self.yb)

    def after_pred(self):
        self.result = self.pred
        self.learn.pred = self.result['output'].float()

    def after_loss(self):
        self.set_loss(self.result['loss'], dict(task=self.result['task_loss'], kd=self.result['kd_loss']))


class Pixels(nn.Module):
    "What a teacher expects, from batches of the student"
    def __init__(self, space, teacher):
        super().__init__()
        self.space, self.eyes = space, (teacher,)

    def forward(self, x): return self.eyes[0].prepare(self.space(x))


def statistics(net, space_or_teacher):
    "Write the statistics of a network's images to where timm looks for them"
    mean, std = (tuple(b.flatten().tolist()) for b in (space_or_teacher.mean, space_or_teacher.std))
    net.pretrained_cfg = {**(getattr(net, 'pretrained_cfg', None) or {}), 'mean': mean, 'std': std}
    return net


def timm_task(learn, cfg, teacher, judge):
    "The task, around a timm model with the weights that our student starts from"
    from timm.task import FeatureDistillationTask, LogitDistillationTask
    k, space, device = parse_kwargs(cfg.method_kwargs), PixelSpace.from_dls(learn.dls), learn.dls.device
    net = learn.student.deploy()
    if not hasattr(net, 'forward_head'): raise ValueError(f"timm's tasks need a timm student, not {cfg.student}.")
    shared = dict(criterion=learn.loss_func, distill_loss_weight=float(k['weight']), task_loss_weight=1.,
                  device=device, verbose=False)
    statistics(net, space)
    if judge is not None: # a probe normalises for itself, so it is said to expect what the student does
        return LogitDistillationTask(net, statistics(judge, space), temperature=float(k['temperature']), **shared)
    return FeatureDistillationTask(net, statistics(teacher.model, teacher), teacher_feature_dim=teacher.num_features,
                                   **shared)


def train_timm(learn, cfg, teacher, judge, cbs):
    "Train the task in the Learner in place of its model, then give the weights back; says what the task built"
    student, task = learn.model, timm_task(learn, cfg, teacher, judge).to(learn.dls.device)
    learn.model, learn.splitter = TimmModel(task), lambda m: params(m.task.get_trainable_module())
    learn.fit_fopro(explore=0, distill=cfg.distill + cfg.adversarial, lr=cfg.lr, cbs=[TimmLoss(), *cbs])
    net, learn.model, learn.splitter = task.get_eval_model(), student, params
    student.backbone.load_state_dict({k: v for k, v in net.state_dict().items() if k in student.backbone.state_dict()})
    student.classifier.load_state_dict(net.get_classifier().state_dict())
    x = learn.dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    with torch.no_grad(): torch.testing.assert_close(student.to(x.device).eval()(x), net.eval()(x))
    projection = getattr(task.get_trainable_module(), 'projection', None)
    return dict(code=f'timm.task.{type(task).__name__}', projection=projection and str(projection))


def train_fasterai(learn, cfg, teacher, judge, cbs):
    "Train our Learner with fasterai's callback; says which maps it compared"
    distill = importlib.import_module('fasterai.distill.all')
    k, net, device = parse_kwargs(cfg.method_kwargs), judge, learn.dls.device
    layers = dict(student=None, teacher=None)
    if net is None:
        net = teacher.model
        if k.get('own_input'):
            net = nn.Sequential(OrderedDict(pixels=Pixels(PixelSpace.from_dls(learn.dls), teacher.to(device)), net=net))
        if k['loss'] == 'Similarity': # its `view` refuses maps that lie channels last
            learn.remove_cb(ChannelsLast)
            net = net.to(memory_format=torch.contiguous_format)
        net, student = net.to(device).eval(), learn.model.to(device).eval()
        layers = distill.match_feature_layers(student, net, torch.zeros(1, 3, cfg.size, cfg.size))
        if not layers['student']: raise ValueError("fasterai finds no maps of equal size in student and teacher.")
    cb = distill.KnowledgeDistillationCallback(net, getattr(distill, k['loss']), layers['student'], layers['teacher'],
                                               weight=float(k['weight']))
    learn.fit_fopro(explore=0, distill=cfg.distill + cfg.adversarial, lr=cfg.lr, cbs=[cb, *cbs])
    return dict(code=f'fasterai KnowledgeDistillationCallback, {k["loss"]}', layers=layers)


def run_rival(cfg, seed, df, bar=False):
    "Train and measure once, as `foprokd.study.experiment.run_experiment` does it for our methods; the row is returned"
    start, k, folder = time.perf_counter(), parse_kwargs(cfg.method_kwargs), run_folder(cfg, seed)
    folder.mkdir(parents=True, exist_ok=True)
    teacher = teacher_from_config(cfg, df)
    learn = learner_from_config(replace(cfg, method='bsm', method_kwargs=''), df, seed)
    cbs = [Autocast()] if cfg.precision == 'bf16' else []
    with ExitStack() as stack:
        if not bar: stack.enter_context(learn.no_bar()); stack.enter_context(learn.no_logging())
        judge = None
        if needs_probe(cfg.method, k): # the teacher of our method `kd`
            soft = SoftTargetCallback(probe_learner(learn.dls, teacher))
            learn.phase_history.append(soft.fit_probe(cfg.explore, cfg.explore_lr))
            judge = soft.source.to(learn.dls.device).requires_grad_(False).eval()
            judge.teacher.to(learn.dls.device)
        train = train_fasterai if cfg.method == 'fasterai' else train_timm
        about = train(learn, cfg, teacher, judge, cbs)
    trained, test, data = time.perf_counter(), test_dl(learn.dls, df), describe_data(df)
    said = [experiment._predict(learn, dl) for dl in (test, learn.dls.valid)]
    metrics, preds = experiment._measure(learn, cfg, df, *said)
    seconds = {f"{h['name']}_{h['round']}": h['seconds'] for h in learn.phase_history}
    seconds |= dict(evaluate=time.perf_counter() - trained, total=time.perf_counter() - start)
    made, package = provenance(), cfg.method.split('_')[0]
    made['versions'][package] = importlib.import_module(package).__version__
    own = judge is not None or k.get('own_input')
    saw = about_teacher(SimpleNamespace(student=learn.student, teacher=teacher, cbs=[]), cfg)
    row = dict(name=cfg.name, method=cfg.method, seed=seed, fold=None if cfg.fold is None else int(cfg.fold),
               settings_hash=settings_hash(cfg), **{**metrics, **data}, settings=asdict(cfg),
               teacher=saw if own else {**saw, 'size': cfg.size}, rival=about,
               n_student=sum(p.numel() for p in learn.student.deploy().parameters()),
               phase_history=experiment._history(learn), **made, seconds={n: round(v, 2) for n, v in seconds.items()},
               finished=datetime.now(timezone.utc).isoformat(timespec='seconds'))
    row = json.loads(json.dumps(row, default=float))
    preds |= {k: data[k] for k in ('data_hash', 'split_hash')}
    for file, why in save_run(learn, cfg, row, preds, folder, test).items(): print(f'{file} could not be written: {why}')
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rival', required=True, choices=RIVALS)
    parser.add_argument('--grid', required=True, help='grid file of foprokd_run')
    parser.add_argument('--only', default='ekd', help='name or method of the run whose settings are taken')
    parser.add_argument('--seeds', help="e.g. 0,1,2; default: the grid's")
    parser.add_argument('--out', help="folder of the results; default: the grid's")
    parser.add_argument('--method-kwargs', default='', help="the rival's options, e.g. 'loss=Similarity weight=.5'")
    parser.add_argument('--name', default='', help='label in tables; default: the rival with its options')
    parser.add_argument('--again', action='store_true', help='also run what has a row')
    parser.add_argument('--bar', action='store_true', help='show epochs')
    args = parser.parse_args()
    package = args.rival.split('_')[0]
    try: importlib.import_module('timm.task' if package == 'timm' else package)
    except ImportError as e:
        raise SystemExit(f'{args.rival} needs {package}, or a newer one: pip install -U {package} ({e}).')
    try:
        runs = [o for o in read_grid(args.grid) if args.only in (o[0].name, o[0].method)]
        if len(runs) != 1: raise ValueError(f'--only {args.only} is the name of {len(runs)} runs of {args.grid}.')
        base, seeds = runs[0]
        cfg = rival_config(base, args.rival, args.method_kwargs, args.name, args.out)
        seeds = seeds if args.seeds is None else parse_seeds(args.seeds)
    except ValueError as e: raise SystemExit(f'rivals.py: {e}') from e
    shown, file = 'no fold yet', Path(cfg.out)/'results.jsonl'
    jobs = pending_runs([(cfg, seeds)], args.again)
    print(f'{RIVALS[args.rival]} ({cfg.method_kwargs}), settings of {args.only}: {len(jobs)} of {len(seeds)} seeds '
          f'x folds to run, {file}')
    for one, seed in jobs:
        if one.fold != shown:
            df, shown = load_data(one), one.fold
            print(data_summary(one, df))
        try: row = run_rival(one, seed, df, args.bar)
        except Exception as e:
            append_row(failure_row(one, seed, f'{type(e).__name__}: {" ".join(str(e).split())}'), file)
            raise
        append_row(row, file)
        print(f"seed {seed}: balanced accuracy {row['balanced_accuracy']:.3f}, macro F1 {row['macro_f1']:.3f}, "
              f"{row['seconds']['total']:.0f} s")


if __name__ == '__main__': main()
