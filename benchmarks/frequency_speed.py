"""How much the sensitivity map and the explorer cost beyond the forward passes that they cannot do without.

    python benchmarks/frequency_speed.py --teacher mobilenetv1_025 --teacher-kwargs 'pad_type=same bn_eps=1e-3' --size 64 --images 64
    python benchmarks/frequency_speed.py --teacher resnet50 --teacher-kwargs 'pretrained=False' --size 96 --only update

Ratios are taken inside one run, map and bare passes in turn, because machines are shared; weights do not matter for time, so
`--ckpt` may be left out with pretrained=False.
"""
import argparse
import statistics
import time

import numpy as np
import torch

from foprokd.prompt import FourierPromptGenerator
from foprokd.frequency.sensitivity import sensitivity_map, unique_frequencies
from foprokd.study.settings import parse_kwargs
from foprokd.data.synth import synth_images
from foprokd.teacher import FrozenTeacher
from foprokd.frequency.explorer import ExplorerScene
from foprokd.frequency.explorer_view import FrequencyExplorer


def seconds(f):
    "Wall-clock time of a call"
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


@torch.no_grad()
def map_speed(teacher, x, chunk, rounds):
    "Seconds of the map and of its bare passes, in turn"
    n = len(unique_frequencies(x.shape[-2:])) * len(x)
    batch = torch.cat([x] * -(-chunk // len(x)))[:chunk]

    def bare():
        for i in range(0, n, chunk): teacher(batch[:min(chunk, n - i)])
    pairs = [(seconds(lambda: sensitivity_map(teacher, x, chunk=chunk, progress=False)), seconds(bare)) for _ in range(rounds)]
    for m, b in pairs: print(f'map {m:.1f} s for {n} passes, bare {b:.1f} s, ratio {m/b:.2f}', flush=True)
    print(f'median ratio {statistics.median(m/b for m, b in pairs):.2f}', flush=True)


@torch.no_grad()
def update_speed(teacher, x, rounds):
    "Milliseconds of one update of the explorer and of the one bare pass that it needs"
    ex = FrequencyExplorer(ExplorerScene(x, teacher, FourierPromptGenerator(init_std=.5).eval(), labels=[str(i % 8) for i in range(len(x))]))
    gains = iter(np.linspace(.1, 3.9, rounds + 3))

    def move(): ex.controls['gain'].value = float(next(gains))
    for _ in range(3): move(); teacher(x[:1])
    both = [(seconds(move), seconds(lambda: teacher(x[:1]))) for _ in range(rounds)]
    m, b = (1000 * statistics.median(o) for o in zip(*both))
    print(f'update {m:.1f} ms (slowest {1000 * max(o[0] for o in both):.0f}), bare pass {b:.1f} ms, ratio {m/b:.2f}, {m - b:.1f} ms beyond it')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', default='embedded', help='timm name, embedded or checkpoint')
    parser.add_argument('--ckpt', help='local weights')
    parser.add_argument('--teacher-kwargs', default='', help='name=value ..., for FrozenTeacher and timm')
    parser.add_argument('--size', type=int, default=64, help='side of the images, pixels')
    parser.add_argument('--images', type=int, default=64, help='images')
    parser.add_argument('--chunk', type=int, default=256, help='passes at once')
    parser.add_argument('--rounds', type=int, default=3, help='repetitions of the map; the update takes ten times as many')
    parser.add_argument('--only', choices=['map', 'update'], help='measure one of the two')
    args = parser.parse_args()
    teacher = FrozenTeacher(args.teacher, ckpt=args.ckpt, size='image', **parse_kwargs(args.teacher_kwargs))
    x = torch.from_numpy(synth_images(np.arange(args.images) % 8, size=args.size)).permute(0, 3, 1, 2) / 255
    print(f'{teacher.name}, {args.images} images of {args.size} px, {torch.get_num_threads()} threads, torch {torch.__version__}')
    if args.only != 'update': map_speed(teacher, x, args.chunk, args.rounds)
    if args.only != 'map': update_speed(teacher, x[:24], 10 * args.rounds)


if __name__ == '__main__': main()
