"""Which share of an epoch the trainer waits for data, from originals and from resized copies, without and with worker processes.

Makes synthetic 600x450 JPEGs (as `cache_speed.py`), and trains a student by EKD on them, one epoch per source and number of workers in
turns, nothing remembered in memory. A callback takes the time from the end of one step to the beginning of the next; what
of it the batch transforms need (augmentation and normalisation, on the device) is counted apart, by a transform before
the first and one after the last. The rest is waiting: reading, decoding, resizing, collating, and the start of worker
processes in every epoch.

    python benchmarks/data_wait.py
    python benchmarks/data_wait.py --student resnet18 --teacher resnet50 --size 224 --batch 16 --n 160 --rounds 2
"""
import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from cache_speed import make_originals, table
from fastai.callback.core import Callback
from fastai.vision.core import TensorImage, Transform

from foprokd.data.loaders import image_dls, lesion_transforms
from foprokd.learner import fopro_learner
from foprokd.prompt import IdentityPrompt
from foprokd.study.settings import parse_kwargs


class First(Transform):
    "A batch transform that only looks at the clock, before the others"
    order, when = -1000, 0.

    def encodes(self, x: TensorImage):
        self.when = now()
        return x


class Last(First):
    "The same after the others (fastai keeps one transform of a class)"
    order = 1000


class Waiting(Callback):
    "Seconds from the end of a step to the beginning of the next, and those of the batch transforms within"
    order, run_valid = -100, False

    def __init__(self, first, last): self.first, self.last = first, last

    def before_train(self): self.waited, self.transformed, self.start, self.end = 0., 0., now(), now()

    def before_batch(self):
        self.waited += now() - self.end
        self.transformed += self.last.when - self.first.when

    def after_train(self): self.total = now() - self.start


class StepEnd(Callback):
    "The end of a step, after all other callbacks"
    order, run_valid = 1000, False

    def after_batch(self): self.learn.waiting.end = now()


def now():
    "Seconds, when all that was asked of the device is done"
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return time.perf_counter()


def learner(args, df, workers, folder):
    "A learner of EKD on one kind of loaders"
    marks = First(), Last()
    dls = image_dls(df, args.size, args.batch, num_workers=workers, cache=False, cache_dir=folder,
                    aug=[marks[0], *lesion_transforms(), marks[1]])
    torch.manual_seed(0)
    learn = fopro_learner(dls, args.student, args.teacher, IdentityPrompt(), counts=[10] * 8,
                          teacher_kwargs=dict(size='image', **parse_kwargs(args.teacher_kwargs)),
                          cbs=[Waiting(*marks), StepEnd()])
    learn.recorder.valid_metrics = False
    return learn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--student', default='test_resnet', help='timm name')
    parser.add_argument('--teacher', default='mobilenetv1_025', help='timm name, embedded or checkpoint')
    parser.add_argument('--teacher-kwargs', default='pretrained=False', help='name=value ..., for FrozenTeacher and timm')
    parser.add_argument('--size', type=int, default=64, help='pixels')
    parser.add_argument('--batch', type=int, default=64, help='images')
    parser.add_argument('--n', type=int, default=1000, help='images, of which nine in ten train')
    parser.add_argument('--rounds', type=int, default=3, help='epochs of each kind that count, after one that does not')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='worker processes of the loaders')
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    try:
        df = make_originals(work/'originals', args.n)
        kinds = {(s, k): learner(args, df, k, f) for s, f in (('originals', None), ('copies', work/'copies')) for k in args.workers}
        seconds = {o: [] for o in kinds}
        for i in range(args.rounds + 1):
            for o, learn in kinds.items():
                with learn.no_bar(), learn.no_logging(): learn.fit(1)
                w = learn.waiting
                if i: seconds[o].append((w.total, w.waited - w.transformed, w.transformed))
        print(f'{args.student} with {args.teacher}, batches of {args.batch} images of {args.size} px, torch {torch.__version__}, '
              f'{"cuda" if torch.cuda.is_available() else "cpu"}, {torch.get_num_threads()} threads')
        rows = []
        for (s, k), ts in seconds.items():
            share = [statistics.median(t[i] / t[0] for t in ts) for i in (1, 2)]
            rows.append((s, k, f'{statistics.median(t[0] for t in ts):.1f}', f'{share[0]:.0%}', f'{share[1]:.0%}', f'{1 - sum(share):.0%}'))
        print(table(('images from', 'workers', 'seconds an epoch', 'waiting for data', 'batch transforms', 'step'), rows))
    finally: shutil.rmtree(work)


if __name__ == '__main__': main()
