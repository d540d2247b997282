"""Replayed epochs: the same pictures and answers whatever the order, the workers, the processes and the kills; the teacher is asked once.

The pages `train/bank` and `train/views` hold the small tests, this file what needs a Learner or a second process."""
import copy
import json
import signal

import numpy as np
import pytest
import torch
from fastai.vision.all import Callback, Learner, MixUp, set_seed
from torch import nn

from conftest import python
from foprokd.data.synth import demo_dls
from foprokd.distill import DistillCallback
from foprokd.frequency.controls import LowPassPrompt
from foprokd.learner import fopro_learner
from foprokd.losses import BalancedSoftmaxLoss
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt
from foprokd.student import Student
from foprokd.teacher import FrozenTeacher
from foprokd.train.views import ViewLoader, ViewsCallback


@pytest.fixture(scope='module')
def teacher(): return FrozenTeacher('embedded', size=32)


def loaders(seed=0, workers=0, **kwargs):
    set_seed(seed, reproducible=True)
    dls = demo_dls(**(dict(size=32, bs=8, n_max=12, ratio=3, n_valid=2, n_test=1) | kwargs))
    for dl in dls.loaders: dl.fake_l.num_workers = workers
    return dls


class Asked:
    "Counts what a teacher is asked, image by image"
    def __init__(self, teacher): self.n, self.hook = 0, teacher.register_forward_hook(self.count)
    def count(self, module, args, out): self.n += len(args[0]) if module.training is False and len(args[0]) > 2 else 0
    def __enter__(self): return self
    def __exit__(self, *_): self.hook.remove()


class Seen(Callback):
    "What the student was shown, and what it was told, batch by batch"
    order, run_valid = 50, False
    def before_fit(self): self.shown, self.told = {}, {}
    def before_batch(self):
        key = self.epoch, self.learn.views.k, self.learn.dl.order[self.iter]
        self.shown[key], self.told[key] = self.xb[0].clone(), self.learn.distill.feats.clone()


def fit(teacher, epochs=5, seed=0, workers=0, prompt=None, cbs=None, dls=None, **kwargs):
    "A student after some epochs"
    dls = loaders(seed, workers) if dls is None else dls
    set_seed(seed, reproducible=True)
    learn = fopro_learner(dls, 'test_resnet', teacher, prompt or IdentityPrompt(), distill_kwargs=kwargs)
    with learn.no_bar(), learn.no_logging(), Asked(teacher) as asked: learn.fit(epochs, 1e-3, cbs=cbs)
    learn.asked = asked.n - 8 # the watch looks at the first batch of a fit
    return learn


def weights(learn): return torch.cat([v.flatten().double() for v in learn.student.state_dict().values()])


def test_the_teacher_is_asked_once_about_each_view(teacher, tmp_path):
    n = sum(len(b) for b in ViewLoader(loaders().train, (0,)).batches)
    assert fit(teacher, 3).asked == 3 * n
    assert fit(teacher, 3, views=2).asked == 2 * n
    first, again, other = (fit(teacher, 3, views=2, bank=tmp_path, seed=s) for s in (0, 0, 1))
    assert (first.asked, again.asked, other.asked) == (2 * n, 0, 0)
    assert weights(again).equal(weights(first)) and not weights(other).equal(weights(first))
    assert fit(teacher, 3, views=3, bank=tmp_path).asked == n # one more


@pytest.mark.parametrize('keep', ['features', 'images'])
def test_a_replayed_batch_is_the_one_that_it_replays(teacher, tmp_path, keep):
    runs = []
    for workers, bank in ((0, 'own'), (2, 'its own'), (2, 'own')): # two that write, and one that reads what the first wrote
        seen = Seen()
        learn = fit(teacher, 4, views=2, bank=tmp_path/bank, keep=keep, workers=workers, cbs=seen)
        runs.append((seen, weights(learn)))
    first, state = runs[0]
    assert len(first.shown) == 4 * len(loaders().train)
    recorded = {key[1:]: (first.shown[key], first.told[key]) for key in first.shown if key[0] < 2}
    for seen, end in runs:
        for key, x in seen.shown.items():
            assert x.equal(recorded[key[1:]][0]) and seen.told[key].equal(recorded[key[1:]][1])
        assert end.equal(state)
    epochs = [[k[2] for k in first.shown if k[0] == e] for e in range(4)]
    assert epochs[0] == epochs[1] == sorted(epochs[0]) and len({tuple(e) for e in epochs[1:]}) == 3


def test_images_as_bytes_are_within_half_a_step(teacher, tmp_path):
    shown = []
    for keep in ('features', 'images'):
        seen = Seen()
        fit(teacher, epochs=1, views=1, bank=tmp_path, keep=keep, cbs=seen)
        shown.append(torch.stack([*seen.shown.values()][:4]))
    std = loaders().train.after_batch.fs[-1].std.cpu()
    assert 0 < ((shown[0] - shown[1]) * std).abs().max() <= .5 / 255 + 1e-5


def test_few_bytes_wait_to_be_written():
    cb, written = ViewsCallback(1, 4, {}), []
    cb.flush = lambda: (written.append(len(cb.pending)), cb.pending.clear())
    for i in range(40): cb.note(i, images=torch.zeros(1, 2**20, dtype=torch.uint8))
    assert written == [17, 17]


def test_without_views_nothing_is_told_apart(teacher):
    learn = fit(teacher, epochs=1)
    assert not learn._grab_cbs(ViewsCallback) and learn.distill.passes is None


def test_a_plain_learner_soft_targets_and_mixed_precision(teacher, tmp_path):
    probe = nn.Linear(teacher.num_features, 8)
    for _ in range(2):
        dls = loaders()
        set_seed(0)
        learn = Learner(dls, Student('test_resnet', 8, teacher.num_features), loss_func=BalancedSoftmaxLoss([9] * 8),
                        cbs=DistillCallback(teacher, views=1, bank=tmp_path, soft=.5, probe=probe))
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(3)
        assert np.isfinite(learn.recorder.values[-1][:2]).all() and not learn._grab_cbs(ViewsCallback)
    before = sorted(tmp_path.iterdir())
    with learn.no_bar(), learn.no_logging(): learn.lr_find(num_it=8, show_plot=False)
    assert sorted(tmp_path.iterdir()) == before


def test_a_bank_is_only_for_what_it_answers(teacher, tmp_path):
    prompt = FourierPromptGenerator()
    fit(teacher, 1, views=1, bank=tmp_path, prompt=prompt)
    cases = dict(same=(teacher, prompt, {}), teacher=(FrozenTeacher('embedded', size=48), prompt, {}), prompt=(teacher, FourierPromptGenerator(), {}),
                 normalised=(FrozenTeacher('embedded', size=32, mean=.4, std=.3), prompt, {}), low=(teacher, LowPassPrompt(.1), {}), lower=(teacher, LowPassPrompt(.3), {}),
                 images=(teacher, prompt, dict(n_max=13)), bs=(teacher, prompt, dict(bs=4)), size=(teacher, prompt, dict(size=40)))
    asked = {}
    for name, (t, p, kw) in cases.items():
        asked[name] = fit(t, 1, views=1, bank=tmp_path, prompt=p, dls=loaders(**kw)).asked > 0
    assert asked == {k: k != 'same' for k in cases}


def test_other_pictures_under_the_same_description_are_found(teacher, tmp_path, monkeypatch):
    from foprokd.train import views
    monkeypatch.setattr(views, 'loader_facts', lambda dl: dict(images='the same'))
    fit(teacher, 1, views=1, bank=tmp_path)
    with pytest.warns(UserWarning, match='other pictures.*asked anew'): assert fit(teacher, 1, views=1, bank=tmp_path, dls=loaders(n_max=12, size=40)).asked
    class Own(Callback): # a source of its own, which no seed reaches
        order = -50
        def before_batch(self): self.learn.xb = (self.xb[0] + np.random.default_rng().normal(),)
    fit(teacher, 1, views=1, bank=tmp_path/'own', cbs=Own())
    with pytest.warns(UserWarning, match='cannot be seeded'): fit(teacher, 1, views=1, bank=tmp_path/'own', cbs=Own())


def test_what_cannot_be_kept_is_refused(teacher, tmp_path):
    class Noisy(nn.Module):
        def __init__(self): super().__init__(); self.net = nn.Conv2d(3, 8, 3)
        def forward(self, x): return nn.functional.dropout(self.net(x), .5, training=True)
    cases = [(dict(views=0), 'views=0 must be'), (dict(views=2, prompt_student=True), 'prompt_student'), (dict(views=1, bank_dtype='int8'), 'int8'), (dict(views=1, keep='all'), "'all'")]
    for kwargs, words in cases:
        with pytest.raises(ValueError, match=words): fit(teacher, 1, **kwargs)
    with pytest.raises(ValueError, match='MixUp draws a mixture'): fit(teacher, 1, views=1, cbs=MixUp())
    with pytest.raises(ValueError, match='in two ways'): fit(FrozenTeacher(Noisy(), mean=0., std=1.), 1, views=1)
    with pytest.raises(TypeError, match='Views need a fastai training loader'):
        dls = loaders()
        plain = torch.utils.data.DataLoader([(torch.rand(3, 32, 32), i % 8) for i in range(16)], 8)
        learn = Learner(type(dls)(plain, plain, device='cpu'), Student('test_resnet', 8, teacher.num_features), loss_func=BalancedSoftmaxLoss([2] * 8), cbs=DistillCallback(teacher, views=1))
        with learn.no_bar(), learn.no_logging(): learn.fit(1)


def test_a_teacher_that_takes_one_size_only_is_asked_at_that_size(tmp_path):
    vit = FrozenTeacher('test_vit', pretrained=False, size='image', img_size=32)
    first, again = (fit(vit, 2, views=1, bank=tmp_path) for _ in range(2))
    assert weights(first).equal(weights(again)) and again.asked == 0


def test_an_interrupt_leaves_no_half_view_and_no_callback(teacher, tmp_path):
    class Stop(Callback):
        def after_batch(self):
            if self.training and self.epoch == 1 and self.iter == 2: raise KeyboardInterrupt
    dls = loaders()
    learn = fopro_learner(dls, 'test_resnet', teacher, IdentityPrompt(), distill_kwargs=dict(views=2, bank=tmp_path))
    with learn.no_bar(), learn.no_logging():
        with pytest.raises(KeyboardInterrupt): learn.fit(3, cbs=Stop())
        copy.deepcopy(learn)
        learn.fit(2)
    [bank] = tmp_path.iterdir()
    assert sorted(p.name for p in bank.iterdir()) == ['view_0', 'view_1'] and not learn._grab_cbs(ViewsCallback)


WORK = '''
import json, os, signal, sys, torch, multiprocessing
from fastai.vision.all import Callback, set_seed
from foprokd.data.synth import demo_dls
from foprokd.learner import fopro_learner
from foprokd.prompt import IdentityPrompt
from foprokd.teacher import FrozenTeacher
from foprokd.train.views import ViewLoader, picture_marks
at = [int(i) for i in os.environ['KILL_AT'].split()] # epoch, batch; none: never
if __name__ == '__main__':
    if os.environ['START'] == 'spawn': multiprocessing.set_start_method('spawn', force=True)
    set_seed(int(os.environ['SEED']), reproducible=True)
    dls = demo_dls(size=32, bs=8, n_max=12, ratio=3, n_valid=2, n_test=1, num_workers=int(os.environ['WORKERS']))
    class Kill(Callback):
        order = 99
        def after_batch(self):
            if self.training and [self.epoch, self.iter] == at: os.kill(os.getpid(), signal.SIGKILL)
    if os.environ['BANK'] == 'pictures':
        marks = torch.cat([picture_marks(b[0]) for b in ViewLoader(dls.train, ('view', 0, 1), range(len(dls.train) - 1, -1, -1))])
        print('RESULT', json.dumps(marks.tolist()))
        sys.exit()
    learn = fopro_learner(dls, 'test_resnet', FrozenTeacher('embedded', size=32), IdentityPrompt(), distill_kwargs=dict(views=2, bank=os.environ['BANK'] or None))
    with learn.no_bar(), learn.no_logging(): learn.fit_fopro(0, 4, checkpoint='kept', resume=True, minutes=0, cbs=Kill())
    print('RESULT', json.dumps(torch.cat([v.flatten().double() for v in learn.student.state_dict().values()]).tolist()))
'''


def work(cwd, kill_at='', bank='', seed=0, workers=0, start='fork', fresh=False):
    "The result of a run in a process of its own; None if it was killed"
    cwd.mkdir(exist_ok=True)
    done = python(WORK, cwd, fresh, KILL_AT=kill_at, BANK=bank, SEED=str(seed), WORKERS=str(workers), START=start, FOPROKD_CACHE=str(cwd/'facts'))
    if kill_at: assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL, 247), done.stderr[-2000:]
    else: assert done.returncode == 0, done.stderr[-3000:]
    return None if kill_at else json.loads(done.stdout.split('RESULT')[1])


@pytest.mark.parametrize('bank', [pytest.param('', marks=pytest.mark.long), 'answers'])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path, bank):
    whole = work(tmp_path/'whole', bank=bank)
    for at in ('1 3', '2 4'): work(tmp_path/'killed', at, bank, seed=0 if at == '1 3' else 7) # while a view is written, and while one is read
    assert work(tmp_path/'killed', bank=bank, seed=5) == whole
    parts = [p for p in (tmp_path/'killed'/(bank or '.')).rglob('.part_*')]
    assert len(parts) <= 2


@pytest.mark.long
def test_spawned_workers_show_the_same_pictures(tmp_path):
    assert work(tmp_path, bank='pictures', workers=2, start='spawn', fresh=True) == work(tmp_path, bank='pictures')
