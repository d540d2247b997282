"""Kinds of faults in learner, phases and callbacks: each test holds one kind, with several examples. The numbers are those of the list of faults."""
import copy
import csv
import inspect
import io
import warnings

import numpy as np
import pytest
import torch
from fastai.callback.data import WeightedDL
from fastai.vision.all import (Callback, CancelEpochException, CategoryBlock, CrossEntropyLossFlat, CSVLogger, DataBlock,
                               DataLoaders, ImageBlock, Learner, Normalize, PILImageBW, RandomErasing, SaveModelCallback,
                               ShortEpochCallback, TerminateOnNaNCallback, get_image_files, imagenet_stats, set_seed)
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from foprokd import explore
from foprokd.data.longtail import class_counts
from foprokd.data.synth import demo_dls, synth_images
from foprokd.distill import DistillCallback
from foprokd.explore import explore_learner, fpg_objective
from foprokd.learner import FoProLearner, fopro_learner, student_groups
from foprokd.losses import BalancedSoftmaxLoss, LogitAdjustedLoss, balanced_softmax_loss, cosine_distance, soft_target_loss
from foprokd.pixels import PixelSpace
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt
from foprokd.student import Student
from foprokd.study.baseline_losses import ClassBalancedLoss, LDAMLoss, NormedLinear
from foprokd.teacher import FrozenTeacher
from foprokd.train.resume import rng_state

TEACHER = FrozenTeacher()
MEAN, STD = (torch.tensor(o).view(1, 3, 1, 1) for o in imagenet_stats)
Y = torch.arange(24) % 3
PX = torch.from_numpy(synth_images(Y.numpy(), 32)).permute(0, 3, 1, 2) / 255


def loaders(x=PX, y=Y, bs=8, **kwargs):
    "torch's loaders of tensors"
    ds = TensorDataset(x, y)
    train = dict(drop_last=True) | ({} if 'sampler' in kwargs or 'batch_sampler' in kwargs else dict(shuffle=True)) | kwargs
    if 'batch_sampler' in train: train.pop('drop_last')
    else: train['batch_size'] = bs
    return DataLoaders(DataLoader(ds, **train), DataLoader(ds, bs), device='cpu')


def demo(size=32, bs=8, n_max=12, ratio=4, **kwargs): return demo_dls(size=size, bs=bs, n_max=n_max, ratio=ratio, n_valid=2, n_test=1, **kwargs)
def learner(dls=None, *args, **kwargs): return fopro_learner(loaders() if dls is None else dls, 'test_resnet', *args, **{'teacher': TEACHER} | kwargs)


def fit(learn, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(): return learn.fit_fopro(*args, **kwargs)


def quiet(f, *args, **kwargs):
    "Nothing may be said"
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        return f(*args, **kwargs)


# A2

@pytest.mark.parametrize('x, said', [((PX - MEAN) / STD, 'normalised'), (PX * 2 - 1, 'normalised'), ((PX - PX.mean()) / PX.std(), 'normalised'),
                                     (PX * 255, 'by 255'), ((PX * 255).byte(), 'uint8')])
def test_a2_images_that_are_no_pixels_are_refused(x, said):
    for make in (learner, lambda dls: explore_learner(dls, TEACHER),
                 lambda dls: Learner(dls, Student('test_resnet', 3, 96), BalancedSoftmaxLoss([8, 8, 8]), cbs=DistillCallback(TEACHER))):
        with pytest.raises(ValueError, match=said if make is learner or said != 'uint8' else 'uint8'): make(loaders(x))


def test_a2_a_normalisation_that_is_said_or_seen_is_undone():
    dls = loaders((PX - MEAN) / STD)
    dls.pixels = PixelSpace(*imagenet_stats)
    assert torch.allclose(quiet(learner, dls).distill.learn and PixelSpace.from_dls(dls)(dls.train.dataset.tensors[0]), PX, atol=1e-5)
    class Normalize: # as torchvision's, which need not be installed
        mean, std = imagenet_stats
    Normalize.__module__ = 'torchvision.transforms.transforms'
    class Photos(Dataset):
        transform, targets, classes = type('Compose', (), dict(transforms=[Normalize()])), Y, list('abc')
        def __len__(self): return 24
        def __getitem__(self, i): return ((PX - MEAN) / STD)[i], int(Y[i])
    part = torch.utils.data.Subset(Photos(), range(24))
    dls = DataLoaders(DataLoader(part, 8, shuffle=True), DataLoader(part, 8), device='cpu')
    assert torch.allclose(PixelSpace.from_dls(dls).mean, MEAN)
    quiet(learner, dls)


def test_a2_legitimate_images_pass_without_a_word():
    quiet(learner)
    quiet(learner, demo())
    erasing = demo(batch_tfms=[Normalize.from_stats(*imagenet_stats), RandomErasing(p=1., max_count=1)])
    quiet(learner, erasing)
    quiet(learner, demo(batch_tfms=[]))
    with pytest.warns(UserWarning, match='normalised'): learner(loaders((PX - MEAN) / STD), teacher=None)  # trains all the same
    with pytest.warns(UserWarning, match='twice'): learner(loaders(PX / 255))


def test_a2_hub_weights_get_their_statistics(monkeypatch):
    monkeypatch.setattr('foprokd.backbone.timm.create_model', lambda name, pretrained=False, **k: create(name, pretrained=False, **k))
    dls = demo(batch_tfms=[])
    fopro_learner(dls, 'test_resnet.r160_in1k', pretrained=True)
    assert PixelSpace.from_dls(dls).mean.flatten().tolist() == pytest.approx(create('test_resnet').pretrained_cfg['mean'])
    own = demo()
    fopro_learner(own, 'test_resnet.r160_in1k', pretrained=True)
    assert sum(isinstance(t, Normalize) for t in own.train.after_batch.fs) == 1
    with pytest.warns(UserWarning, match='hub weights expect'): fopro_learner(loaders(), 'test_resnet.r160_in1k', pretrained=True)


def create(*args, **kwargs):
    import timm
    return timm.models.create_model(*args, **kwargs)


# A3

TAIL = torch.arange(3).repeat_interleave(torch.tensor([14, 7, 3]))
W = (1 / torch.bincount(TAIL))[TAIL]


class Imbalanced(Sampler):
    "As ImbalancedDatasetSampler"
    def __init__(self, y): self.indices, self.num_samples, self.weights = list(range(len(y))), len(y), W.double()
    def __len__(self): return self.num_samples
    def __iter__(self): return (self.indices[i] for i in torch.multinomial(self.weights, self.num_samples, replacement=True))


class PerClass(Sampler):
    "As MPerClassSampler, whose state is NumPy's and its own"
    def __init__(self, y): self.own, self.turn = [np.flatnonzero(y.numpy() == c) for c in range(3)], 0
    def __len__(self): return 24
    def __iter__(self):
        for _ in range(24):
            self.turn += 1
            np.random.shuffle(self.own[self.turn % 3])
            yield int(self.own[self.turn % 3][0])


class Batches(PerClass):
    def __len__(self): return 3
    def __iter__(self):
        idxs = list(super().__iter__())
        yield from (idxs[i:i + 8] for i in (0, 8, 16))


def fastai_weighted(): return DataLoaders(WeightedDL(list(zip(PX, TAIL)), bs=8, wgts=W.numpy(), shuffle=True), DataLoader(TensorDataset(PX, TAIL), 8))


SAMPLED = dict(weighted=lambda: loaders(y=TAIL, sampler=WeightedRandomSampler(W, 24)), imbalanced=lambda: loaders(y=TAIL, sampler=Imbalanced(TAIL)),
               per_class=lambda: loaders(y=TAIL, sampler=PerClass(TAIL)), batches=lambda: loaders(y=TAIL, batch_sampler=Batches(TAIL)),
               fastai=fastai_weighted)


@pytest.mark.parametrize('kind', SAMPLED)
def test_a3_a_balanced_draw_and_a_loss_with_a_prior_are_refused(kind):
    dls = SAMPLED[kind]()
    with pytest.raises(ValueError, match='corrected twice.*CrossEntropyLossFlat'): learner(dls, teacher=None)
    with pytest.raises(ValueError, match='corrected twice'): explore_learner(dls, TEACHER)
    for loss in (LogitAdjustedLoss([14, 7, 3]), ClassBalancedLoss([14, 7, 3]), nn.CrossEntropyLoss(weight=1 / torch.tensor([14., 7, 3]))):
        with pytest.raises(ValueError, match='corrected twice'): learner(dls, teacher=None, loss_func=loss)
    with pytest.raises(ValueError, match='corrected twice'):
        Learner(dls, Student('test_resnet', 3, 96), BalancedSoftmaxLoss([14, 7, 3]), cbs=DistillCallback(TEACHER))


def test_a3_margins_too():
    student = Student('test_resnet', 3)
    student.classifier = NormedLinear(student.num_features, 3)
    with pytest.raises(ValueError, match='corrected twice'): FoProLearner(SAMPLED['weighted'](), student, loss_func=LDAMLoss([14, 7, 3]))
    quiet(FoProLearner, loaders(y=TAIL), student, loss_func=LDAMLoss([14, 7, 3]))


@pytest.mark.parametrize('kind', SAMPLED)
def test_a3_the_ways_out_and_what_is_legitimate(kind):
    dls = SAMPLED[kind]()
    quiet(learner, dls, teacher=None, loss_func=CrossEntropyLossFlat())
    quiet(learner, dls, teacher=None, counts=[8, 8, 8])
    ekd = quiet(learner, dls, prompt=IdentityPrompt(), loss_func=CrossEntropyLossFlat())
    assert ekd.counts.tolist() == [14, 7, 3]
    with pytest.raises(ValueError, match='corrected twice'): fit(learner(dls, loss_func=CrossEntropyLossFlat()), 1, 1)  # the probe's loss has a prior


def test_a3_image_dls(tmp_path):
    from foprokd.data.synth import demo_set
    import pandas as pd
    from foprokd.data.loaders import image_dls
    folder = demo_set(tmp_path/'demo', size=32, n_max=16, ratio=8, n_valid=1, n_test=1)
    df = pd.read_csv(folder/'labels.csv')
    df['image'] = [str(folder/f) for f in df.image]
    for scheme in ('class', 'sqrt'):
        dls = image_dls(df, 32, 8, 0, sampling=scheme)
        with pytest.raises(ValueError, match='corrected twice'): learner(dls, teacher=None)
        quiet(learner, dls, teacher=None, loss_func=CrossEntropyLossFlat())
    quiet(learner, image_dls(df, 32, 8, 0), teacher=None)


def test_a3_a_part_of_a_set_and_counts_by_hand():
    with pytest.raises(ValueError, match='loader draws'): learner(loaders(y=TAIL, sampler=SubsetRandomSampler(range(7, 24))), teacher=None)
    with pytest.warns(UserWarning, match='are counts= those'): learner(loaders(y=TAIL), teacher=None, counts=[8, 8, 8])
    quiet(learner, loaders(y=TAIL), teacher=None, counts=[140, 70, 30])


# A4

def test_a4_other_data_bring_their_counts_prior_and_pixels():
    learn = learner(demo())
    fit(learn, 1, 1)
    new = demo(n_max=6, ratio=1, batch_tfms=[Normalize.from_stats([.5] * 3, [.5] * 3)])
    learn.dls = new
    assert learn.counts.tolist() == class_counts(new).tolist() == [6] * 8
    for loss in (learn.loss_func, learn.explorer.loss_func): assert torch.allclose(loss.prior, torch.full((8,), 1 / 8).double())
    assert learn.explorer.model.pixels.mean.flatten().tolist() == [.5] * 3
    fit(learn, 1, 1, 1)
    assert learn.distill.space.mean.flatten().tolist() == [.5] * 3


def test_a4_other_classes_and_worse_data_are_refused_and_the_old_ones_stay():
    learn = learner(demo())
    old, counts = learn.dls, learn.counts
    more = DataLoaders(*demo().loaders)
    more.vocab = [*old.vocab, 'ninth']
    other = DataLoaders(*demo().loaders)
    other.vocab = [*old.vocab[1:], old.vocab[0]]
    pixels = demo(batch_tfms=[])
    pixels.loaders = loaders((PX - MEAN) / STD, torch.arange(24) % 8).loaders
    for bad, said in ((more, '9 classes'), (other, 'make a new learner'), (pixels, 'Pixels lie in')):
        with pytest.raises(ValueError, match=said): learn.dls = bad
        assert learn.dls is old and learn.counts is counts


def test_a4_torch_loaders_with_more_classes_and_datasets_exchanged_inside():
    learn = learner(teacher=None)
    with pytest.raises(ValueError, match='outside the 3 classes'): learn.dls = loaders(y=torch.arange(24) % 4)
    learn.dls = loaders(y=TAIL)
    assert learn.counts.tolist() == [14, 7, 3]
    learn.dls.loaders[0] = loaders().train
    fit(learn, 0, 1)
    assert learn.counts.tolist() == [8, 8, 8]


def test_a4_counts_and_loss_given_by_hand_are_compared():
    learn = learner(loaders(y=TAIL), teacher=None, counts=[14, 7, 3])
    with pytest.warns(UserWarning, match='are counts= those'): learn.dls = loaders()
    learn = learner(loaders(y=TAIL), teacher=None, loss_func=BalancedSoftmaxLoss([14, 7, 3]))
    with pytest.warns(UserWarning, match='are counts= those'): learn.dls = loaders()


def test_a4_two_learners_with_one_teacher_keep_their_own_statistics():
    torch.manual_seed(0)
    teacher = FrozenTeacher(nn.Sequential(nn.Conv2d(3, 6, 5), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size='image')
    def two(x): return fopro_learner(loaders(x), 'test_resnet', teacher)
    a, b = two(PX), two(PX * .2)
    fit(a, 1, 0)
    own = teacher.reference[0].clone()
    fit(b, 1, 0)
    assert not torch.allclose(own, teacher.reference[0], atol=1e-3)
    for kw in (dict(explore=0, distill=0, adversarial=1), dict(explore=1, distill=0)):
        fit(a, **kw)
        assert torch.allclose(own, teacher.reference[0], atol=1e-5)
        fit(b, **kw)
        assert not torch.allclose(own, teacher.reference[0], atol=1e-3)


# A6

def lines(file): return list(csv.DictReader(open(file)))


@pytest.mark.parametrize('where', ['call', 'learner', 'class'])
def test_a6_one_log_over_all_phases(tmp_path, where):
    cbs = [CSVLogger() if where != 'class' else CSVLogger, SaveModelCallback(fname='ep', every_epoch=True)]
    learn = learner(path=tmp_path, cbs=cbs if where == 'learner' else None)
    for _ in range(1 + (where == 'call')): fit(learn, explore=2, distill=3, rounds=2, adversarial=1, cbs=None if where == 'learner' else cbs)
    rows = lines(tmp_path/'history.csv')
    assert [r['epoch'] for r in rows] == list('012345') and [r['phase'] for r in rows] == ['explore', 'distill', 'distill', 'explore', 'distill', 'adversarial']
    assert [r['round'] for r in rows] == list('111222') and rows[0]['prior'] and not rows[0]['valid_loss'] and rows[5]['valid_loss']
    kept = learn.phase_history[-5:]
    assert [float(r['train_loss']) for r in rows] == [v[0] for h in kept for v in h['values']]
    assert sorted(f.name for f in (tmp_path/'models').glob('ep*.pth')) == [f'ep_{i}.pth' for i in (1, 2, 4, 5)]
    assert len(learn._grab_cbs(CSVLogger)) == (where == 'learner')


def test_a6_the_best_of_all_phases_is_kept_and_a_single_phase_is_fastai(tmp_path):
    learn, saver = learner(path=tmp_path), SaveModelCallback(fname="best")
    fit(learn, explore=0, distill=2, rounds=2, lr=1e-2, cbs=saver)
    assert saver.best == min(v[1] for h in learn.phase_history for v in h['values']) and saver.reset_on_fit
    fit(learn, explore=0, distill=2, cbs=CSVLogger())
    assert 'phase' not in lines(tmp_path/'history.csv')[0] and len(lines(tmp_path/'history.csv')) == 2


def test_a6_a_killed_run_has_each_epoch_once(tmp_path):
    class Leave(Callback):
        order = 95
        def after_batch(self):
            if self.training and self.train_iter == 5: raise KeyboardInterrupt
    def run(*cbs, **kwargs):
        set_seed(0, reproducible=True)
        learn = learner(path=tmp_path)
        fit(learn, 1, 2, cbs=[CSVLogger(), *cbs], checkpoint=tmp_path/'kept', minutes=0, **kwargs)
    with pytest.raises(KeyboardInterrupt): run(Leave())
    run(resume=True)
    assert [(r['epoch'], r['phase']) for r in lines(tmp_path/'history.csv')] == [('0', 'explore'), ('1', 'distill'), ('2', 'distill')]


# A7

class Spoil(Callback):
    order = -20
    def __init__(self, at): self.at = at
    def before_batch(self):
        if self.training and self.train_iter in self.at: self.learn.xb = (self.xb[0] * float('nan'),)


@pytest.mark.parametrize('teacher', [None, TEACHER])
def test_a7_an_epoch_without_a_trained_batch_is_an_error(teacher, tmp_path):
    learn = learner(teacher=teacher, path=tmp_path)
    for at in (range(3), range(3, 6)):
        with pytest.warns(UserWarning, match='not finite'), pytest.raises(FloatingPointError, match='nothing was trained'):
            fit(learn, 0, 2, cbs=Spoil(at))


def test_a7_bad_batches_at_the_start_are_nan_and_no_part_of_the_mean(tmp_path):
    learn = learner(path=tmp_path)
    with pytest.warns(UserWarning, match='not finite'): [h] = fit(learn, 0, 1, cbs=Spoil([0]))
    assert np.isnan(h['losses'][0]) and h['skipped'] == 1
    total, _, cls, aux, feat = (h['values'][0][h['columns'].index(k)] for k in ('train_loss', 'valid_loss', 'cls', 'aux', 'feat'))
    assert abs(cls + aux + 3 * feat - total) < .05 * total


# B2

@pytest.mark.parametrize('make, said', [
    (lambda: fopro_learner(demo(size=64), 'vit_tiny_patch16_224', TEACHER), 'cannot take images of shape .3, 64, 64.*img_size'),
    (lambda: learner(loaders(bs=23, drop_last=False)), 'one image'),
    (lambda: learner(loaders(bs=1)), 'one image'),
    (lambda: learner(loaders(PX[:, :1])), 'RGB'),
    (lambda: learner(loaders(PX[:, :1]), teacher=None), 'cannot take images of shape .1, 32, 32'),
    (lambda: learner(loaders(torch.cat([PX, PX[:, :1]], 1))), 'RGB'),
    (lambda: learner(loaders(PX.permute(0, 2, 3, 1))), 'RGB'),
    (lambda: FoProLearner(loaders(), Student('test_resnet', 5, 96), TEACHER), 'outputs of shape .5,. for 3 classes'),
    (lambda: FoProLearner(loaders(), Student('test_resnet', 5), loss_func=CrossEntropyLossFlat()), 'outputs of shape .5,. for 3 classes'),
    (lambda: FoProLearner(loaders(), Student('test_resnet', 3), TEACHER), 'teacher_dim'),
    (lambda: FoProLearner(loaders(), Student('test_resnet', 3, 50), TEACHER), 'width 50, the teacher 96'),
    (lambda: FoProLearner(loaders(), Student('test_resnet', 3, 96, aux_classifier=nn.Linear(96, 4)), TEACHER), 'aux_classifier= gives'),
    (lambda: learner(loaders(y=Y + 1), counts=[8, 8, 8], teacher=None), 'index 3 is outside'),
    (lambda: learner(DataLoaders(DataLoader(list(zip(PX, Y, Y)), 8), DataLoader(list(zip(PX, Y, Y)), 8)), counts=[8, 8, 8]), 'two parts'),
])
def test_b2_what_cannot_train_is_said_when_the_learner_is_made(make, said):
    with pytest.raises(ValueError, match=said): make()


def test_b2_images_of_different_shapes_and_gray_ones():
    pairs = [(PX[i, :, : 32 - 8 * (i == 23)], int(Y[i])) for i in range(24)]
    with pytest.raises(ValueError, match='different shapes'): learner(DataLoaders(DataLoader(pairs, 8), DataLoader(pairs, 8)))


def test_b2_gray(tmp_path):
    for i in range(12): Image.fromarray((PX[i, 0] * 255).byte().numpy()).save(tmp_path/f'{"abc"[i % 3]}_{i}.png')
    def gray(*tfms): return DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=get_image_files, get_y=lambda f: f.name[0],
                                      batch_tfms=list(tfms)).dataloaders(tmp_path, bs=4, num_workers=0)
    with pytest.raises(ValueError, match='RGB'): learner(gray())
    with pytest.warns(UserWarning, match='three channels'): learner(gray(Normalize.from_stats(*imagenet_stats)))
    learn = quiet(learner, gray(), teacher=None, student_kwargs=dict(in_chans=1))
    fit(learn, 0, 1)


def test_b2_legitimate_data_pass():
    maps = Student(nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4)), 3)  # BatchNorm over a map has enough values
    fit(quiet(FoProLearner, loaders(bs=1), maps), 0, 1)
    quiet(learner, loaders(bs=23))
    class Stream(IterableDataset):
        def __iter__(self): return zip(PX, Y)
    stream = DataLoaders(DataLoader(Stream(), 8), DataLoader(Stream(), 8), device='cpu')
    quiet(learner, stream, counts=[8, 8, 8], teacher=None)
    class Fickle(Dataset):
        def __init__(self): self.targets = Y
        def __len__(self): return 24
        def __getitem__(self, i): raise OSError('elsewhere')
    quiet(learner, DataLoaders(DataLoader(Fickle(), 8), DataLoader(Fickle(), 8)), teacher=None)
    one = DataLoaders(loaders().train)
    quiet(learner, one, teacher=None)


def test_b2_the_look_moves_nothing():
    set_seed(0)
    for dls in (demo(), loaders(num_workers=1)):
        student = Student('test_resnet', 8 if hasattr(dls, 'vocab') else 3, 96, drop_rate=.5)
        prompt, rng = FourierPromptGenerator(), getattr(dls.train, 'rng', None)
        before = copy.deepcopy([student.state_dict(), prompt.state_dict(), TEACHER.state_dict()])
        modes = [m.training for m in student.modules()]
        states = rng_state(), rng and rng.getstate()
        learn = FoProLearner(dls, student, TEACHER, prompt)
        after = rng_state(), rng and dls.train.rng.getstate()
        assert str(states) == str(after) and torch.equal(states[0]['torch'], after[0]['torch'])
        for a, m in zip(before, (student, prompt, TEACHER)): assert all(torch.equal(v, m.state_dict()[k]) for k, v in a.items())
        assert modes == [m.training for m in student.modules()]
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules()) and learn.opt is None


# B3

def test_b3_a_learner_can_be_copied_after_a_fit_and_after_an_interrupt():
    class Stop(Callback):
        order = 30
        def before_backward(self): raise KeyboardInterrupt
    for made in (learner(), learner(teacher=None), Learner(loaders(), Student('test_resnet', 3, 96), BalancedSoftmaxLoss([8, 8, 8]), cbs=DistillCallback(TEACHER))):
        copy.deepcopy(made)
        with made.no_bar(), made.no_logging():
            made.fit(1)
            twin = copy.deepcopy(made)
            twin.fit(1)
            if isinstance(made, FoProLearner):
                with pytest.raises(KeyboardInterrupt): made.fit(1, cbs=Stop())
                copy.deepcopy(made)
    explored = learner()
    fit(explored, 1, 1, 1)
    twin = copy.deepcopy(explored)
    assert twin.explorer.model.prompt is twin.prompt and twin.teacher is twin.explorer.model.teacher is twin.distill.teacher
    fit(twin, 1, 1)


def test_b3_rates_and_epochs():
    learn = learner()
    fit(learn, 1., np.int64(1), lr=slice(1e-4, 1e-3), explore_lr=slice(1e-2))
    assert learn.phase_history[1]['lr'] == [1e-4, 1e-3] and learn.phase_history[0]['epochs'] == 1
    for bad in (dict(lr=[1e-3, 1e-2]), dict(lr=float('nan')), dict(lr='fast'), dict(lr=slice(-1, 1.)), dict(explore_lr=0), dict(adversarial_lr=float('inf'))):
        with pytest.raises(ValueError, match='needs a learning rate > 0'): fit(learn, 1, 1, 1, **bad)
    for bad in (dict(distill=1.5), dict(explore=-1), dict(explore='2'), dict(adversarial=float('nan')), dict(rounds=1.5), dict(explore=2.5, rounds=2)):
        with pytest.raises(ValueError, match='whole number'): fit(learn, **{'explore': 0, 'distill': 1} | bad)


def test_b3_freezing_says_when_it_freezes_nothing():
    learn = learner()
    with pytest.warns(UserWarning, match='Nothing is frozen.*student_groups'): learn.freeze()
    split = learner(splitter=student_groups)
    quiet(split.freeze)
    weight = next(split.student.backbone.parameters())
    before = weight.detach().clone()
    fit(split, 0, 1, lr=1e-2)
    assert torch.equal(before, weight) and not weight.requires_grad
    quiet(split.unfreeze)
    assert weight.requires_grad


@pytest.mark.parametrize('kwargs', [dict(lam=-1), dict(lam=float('nan')), dict(distill_kwargs=dict(temperature=0)), dict(distill_kwargs=dict(lam_end=-2)),
                                    dict(distill_kwargs=dict(soft=float('nan'))), dict(explore_kwargs=dict(w_prior=-1)), dict(explore_kwargs=dict(size=1)),
                                    dict(adversarial_kwargs=dict(prompt_lr=0)), dict(adversarial_kwargs=dict(w_pen=float('inf')))])
def test_b3_numbers_are_refused_at_construction(kwargs):
    with pytest.raises(ValueError, match='must be a number|at least 2 pixels'): learner(**kwargs)


def test_b3_unknown_settings_and_a_second_callback_are_refused_at_construction():
    for kwargs in (dict(explore_kwargs=dict(w_clss=1)), dict(adversarial_kwargs=dict(rate=1))):
        with pytest.raises(TypeError): learner(**kwargs)
    with pytest.raises(ValueError, match='both make the training loss'): learner(cbs=DistillCallback(TEACHER))
    with pytest.raises(ValueError, match='both make the training loss'):
        Learner(loaders(), Student('test_resnet', 3, 96), BalancedSoftmaxLoss([8, 8, 8]), cbs=[DistillCallback(TEACHER), DistillCallback(TEACHER)])
    learn = learner()
    n = len(learn.cbs)
    with pytest.raises(ValueError, match='both make the training loss'), learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=DistillCallback(TEACHER))
    assert len(learn.cbs) == n


def test_b3_torch_loaders_and_files(tmp_path):
    learn = learner(path=tmp_path)
    with pytest.raises(ValueError, match='export_student'): learn.export()
    with pytest.raises(ValueError, match='dls.vocab ='): learn.export_student(tmp_path/'s.safetensors')
    learn.dls.vocab = ['a', 'b', 'c']
    from foprokd.student import load_student
    assert load_student(learn.export_student(tmp_path/'s.safetensors'))[1]['vocab'] == ['a', 'b', 'c']


# D4

def test_d4_a_set_that_fills_no_batch_is_refused_with_the_numbers(monkeypatch):
    small = loaders(bs=32)
    for make in (lambda: learner(small), lambda: learner(small, teacher=None), lambda: explore_learner(small, TEACHER),
                 lambda: Learner(small, Student('test_resnet', 3, 96), BalancedSoftmaxLoss([8, 8, 8]), cbs=DistillCallback(TEACHER))):
        with pytest.raises(ValueError, match='24 images fills no batch of 32'): make()
    student = Learner(small, Student('test_resnet', 3, 96), BalancedSoftmaxLoss([8, 8, 8]))
    with pytest.raises(ValueError, match='fills no batch'), student.no_bar(), student.no_logging(): student.fit(1, cbs=DistillCallback(TEACHER))
    learn = learner(loaders(bs=16))
    monkeypatch.setattr('foprokd.train.first_batch.n_ranks', lambda: 2)
    with pytest.raises(ValueError, match='no batch of 16 in each of 2 processes.*at most 12'): learner(loaders(bs=16))
    with pytest.raises(ValueError, match='2 processes'): fit(learn, 0, 1)
    quiet(learner, loaders(bs=12))


# E7

def test_e7_one_seed_makes_one_student_whatever_the_prompt():
    states = []
    for prompt in (None, IdentityPrompt(), FourierPromptGenerator()):
        set_seed(3)
        states.append(learner(prompt=prompt).student.state_dict())
    assert all(torch.equal(v, s[k]) for s in states[1:] for k, v in states[0].items())


# E8

def test_e8_save_and_load_an_open_file():
    learn, buffer = learner(), io.BytesIO()
    with pytest.warns(UserWarning, match='student alone'): learn.save(buffer)
    weight = learn.student.classifier.weight
    was = weight.detach().clone()
    with torch.no_grad(): weight.add_(1.)
    buffer.seek(0)
    learn.load(buffer, with_opt=False)
    assert torch.equal(weight, was)
    quiet(learner(prompt=IdentityPrompt()).save, io.BytesIO())
    with pytest.raises(ValueError, match='open file does not hold'): learn.load(io.BytesIO(b'nothing'))


@pytest.mark.parametrize('order', [-1, 0, 7, 60])
def test_e8_callbacks_find_images_in_xb_and_logits_in_pred(order):
    class Looks(Callback):
        def __init__(self, n): self.order, self.n, self.seen = order, n, 0
        def before_batch(self): self.learn.xb = tuple(x * 1. for x in self.xb)
        def after_pred(self): assert self.pred.shape == (len(self.xb[0]), self.n)
        def after_loss(self): assert all(x.ndim == 4 for x in self.xb)
        def after_batch(self): self.seen += len(self.xb)
    learn, looks = learner(), Looks(3)
    fit(learn, 0, 1, 1, cbs=looks)
    assert looks.seen == 12 and learn.student.asked is None
    ex, looks = explore_learner(loaders(), TEACHER, cbs=Looks(3)), None
    with ex.no_bar(), ex.no_logging(): ex.fit_one_cycle(1)


def test_e8_terminate_on_nan_fires(tmp_path):
    learn = learner(path=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        h = fit(learn, 0, 2, cbs=[TerminateOnNaNCallback(), Spoil([2])])
    assert len(h[0]['losses']) == 2 and h[0]['values'] == []


def test_e8_an_epoch_that_a_callback_ends_early_is_no_trouble():
    y = torch.arange(24) // 8
    dls = loaders(y=y, shuffle=False)
    dls.vocab = list('abc')
    class EndsEpoch(Callback):
        def after_batch(self):
            if self.training: raise CancelEpochException
    quiet(fit, learner(dls, teacher=None), 0, 1, cbs=ShortEpochCallback(.3, short_valid=False))
    quiet(fit, learner(dls, teacher=None), 0, 1, cbs=EndsEpoch())
    with pytest.warns(UserWarning, match='No image of the class c'): fit(learner(dropped(y), teacher=None), 0, 1)


def dropped(y):
    "The last class lies in the incomplete batch, which is dropped"
    dls = loaders(y=y, bs=16, shuffle=False)
    dls.vocab = list('abc')
    return dls


@pytest.mark.parametrize('teacher', [TEACHER, None])
def test_e8_one_batch_outside_a_fit(teacher):
    fresh, fitted = learner(teacher=teacher), learner(teacher=teacher)
    fit(fitted, 0, 1)
    fresh.create_opt()
    for learn in (fitted, fresh):
        learn.n_iter, b = 1, next(iter(learn.dls.train))
        with learn.no_bar(), learn.no_logging():
            if learn is fresh: learn(['before_fit', 'before_epoch'])  # as `with learn:` does
            for training in (True, False)[:2 if learn is fitted else 1]:  # fastai's own metrics need a validation
                learn.training = training
                learn.one_batch(0, b)
        assert torch.isfinite(learn.loss)


# E11

def test_e11_an_empty_batch_is_refused():
    x = torch.zeros(0, 3)
    for f in (lambda: balanced_softmax_loss(x, x[:, 0].long(), [1, 1, 1]), lambda: cosine_distance(x, x), lambda: soft_target_loss(x, x),
              lambda: fpg_objective(explore_learner(loaders(), TEACHER).model, [], [8, 8, 8])):
        with pytest.raises(ValueError, match='empty|no images'): f()
    assert balanced_softmax_loss(x, x[:, 0].long(), [1, 1, 1], reduction='sum') == 0


def test_e11_double_precision_stays():
    a, b = (torch.randn(4, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda z: soft_target_loss(z, b.detach()), a)


def test_e11_an_explorer_can_be_fitted_as_it_comes():
    assert 'from fastai.callback.schedule import Learner' in inspect.getsource(explore)  # which gives it fit_one_cycle
