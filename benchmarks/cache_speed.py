"""How much faster DataLoaders are from the resized copies of a data set than from its originals: one script, one run.

    python benchmarks/cache_speed.py                     # 2,000 images, about five minutes on two cores
    python benchmarks/cache_speed.py --n 400 --rounds 1  # a quick look

Makes synthetic 600x450 JPEGs (smooth fields plus noise, quality 90, the weight of a dermoscopy image), builds the copies of each size, and runs `image_dls` from originals (A) and from copies (B) in turns,
A B B A ..., without any memory cache and without augmentation (which costs the same for both and runs on the accelerator in training). It asserts that both give the same batches, and prints Markdown tables.
Everything lies in the page cache: this measures decoding and the loaders, not the disk.
"""
import argparse
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
warnings.filterwarnings('ignore')

import fastai
import numpy as np
import pandas as pd
import PIL
import torch
from PIL import Image

from foprokd.data.loaders import image_dls
from foprokd.data.images import open_rgb
from foprokd.data.resized import ResizedImages

WIDTH, HEIGHT = 600, 450


def natural(seed):
    "One image (450,600,3): a smooth coloured field, a dark blob, and sensor noise that the channels mostly share"
    rng = np.random.default_rng(seed)
    field = Image.fromarray(rng.integers(90, 230, (7, 9, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), Image.BICUBIC)
    y, x = np.mgrid[-1:1:HEIGHT*1j, -1:1:WIDTH*1j]
    blob = 1 / (1 + np.exp(((x - rng.normal(0, .1))**2 + (y - rng.normal(0, .1))**2 - .25) / .05))
    a = np.asarray(field) * (1 - .5 * blob[..., None]) + rng.normal(0, 4.5, (HEIGHT, WIDTH, 1)) + rng.normal(0, 1.5, (HEIGHT, WIDTH, 3))
    return Image.fromarray(a.clip(0, 255).astype(np.uint8))


def make_originals(folder, n):
    "The label table of `n` new JPEGs in `folder`"
    folder.mkdir()
    files = [str(folder/f'{i:05}.jpg') for i in range(n)]
    with ThreadPoolExecutor(os.cpu_count()) as pool: list(pool.map(lambda i: natural(i).save(files[i], quality=90), range(n)))
    return pd.DataFrame(dict(image=files, label=[f'class{i % 8}' for i in range(n)], split=['valid' if i % 10 == 9 else 'train' for i in range(n)]))


def reset_peak():
    "Start the kernel's record of this process's peak memory anew (Linux)"
    try: Path('/proc/self/clear_refs').write_text('5')
    except OSError: pass


def peak_mb():
    "Peak memory of this process since `reset_peak`, MB (Linux)"
    try: return next(int(o.split()[1]) for o in Path('/proc/self/status').read_text().splitlines() if o.startswith('VmHWM')) / 1024
    except (OSError, StopIteration): return float('nan')


def epoch(dls):
    "One pass over the training loader: images a second, CPU milliseconds an image (with worker processes), peak MB of this process"
    reset_peak()
    n, t, cpu = 0, time.perf_counter(), sum(os.times()[:4])
    for x, *_ in dls.train: n += len(x)
    return n / (time.perf_counter() - t), 1e3 * (sum(os.times()[:4]) - cpu) / n, peak_mb()


def same_batches(a, b):
    "Assert that two loaders give the same validation batches"
    for (xa, ya), (xb, yb) in zip(a.valid, b.valid, strict=True): assert torch.equal(xa, xb) and torch.equal(ya, yb)


def table(head, rows):
    "Markdown table"
    line = lambda cells: '| ' + ' | '.join(map(str, cells)) + ' |'
    return '\n'.join([line(head), '|' + '---|' * len(head), *map(line, rows)])


def median_ms(func, items):
    "Median time of a call, milliseconds"
    times = []
    for o in items:
        t = time.perf_counter()
        func(o)
        times.append(time.perf_counter() - t)
    return 1e3 * float(np.median(times))


def formats(files, size, folder):
    "One row per file format: time to read one image, kilobytes, how many different file sizes"
    folder.mkdir()
    rows = [('original, `open_rgb`', size, f'{median_ms(lambda f: open_rgb(f, size), files):.2f}', f'{np.mean([os.path.getsize(f) for f in files])/1e3:.0f}', '')]
    for name, ext, kw in (('PPM', 'ppm', {}), ('BMP', 'bmp', {}), ('TIFF', 'tif', {}), ('PNG, level 1', 'png', dict(compress_level=1))):
        made = [str(folder/f'{i}.{ext}') for i in range(len(files))]
        for f, m in zip(files, made): open_rgb(f, size).save(m, **kw)
        ms, lengths = median_ms(lambda f: Image.open(f).load(), made), {os.path.getsize(m) for m in made}
        rows.append((f'{name}, Pillow', size, f'{ms:.3f}', f'{np.mean([os.path.getsize(m) for m in made])/1e3:.0f}', len(lengths)))
    copies = ResizedImages(folder/'copies', size)
    copies.build(files)
    for what in ('open', 'read'): rows.append((f'`ResizedImages.{what}`', size, f'{median_ms(getattr(copies, what), files):.3f}', f'{copies.nbytes/1e3:.0f}', 1))
    return rows


def build(files, size, folder, workers):
    "Seconds of one build from nothing"
    t = time.perf_counter()
    res = ResizedImages(folder, size).build(files, workers=workers)
    assert res == dict(made=len(files), found=0, failed=[])
    return time.perf_counter() - t


def build_in_processes(files, size, folder):
    "Seconds of one build from nothing in two spawned processes, as another design would have it"
    copies, t = ResizedImages(folder, size), time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=get_context('spawn')) as pool:
        list(pool.map(partial(ResizedImages.build, copies, workers=0), [files[i:i+50] for i in range(0, len(files), 50)]))
    assert not copies.missing(files)
    return time.perf_counter() - t


def builds(files, sizes, work):
    "One row per size: images a second with threads and with processes, and what the copies take on disk; leaves copies in `work/cache`"
    rows = []
    for size in sizes:
        one, two, spawned = build(files, size, work/'one', 0), build(files, size, work/'cache', 2), build_in_processes(files, size, work/'spawned')
        for o in ('one', 'spawned'): shutil.rmtree(work/o)
        t = time.perf_counter()
        copies = ResizedImages(work/'cache', size)
        assert not copies.missing(files)
        look = time.perf_counter() - t
        rows.append((size, f'{len(files)/one:.0f}', f'{len(files)/two:.0f}', f'{len(files)/spawned:.0f}', f'{two:.1f}', f'{len(files)*copies.nbytes/1e6:.0f}', f'{1e6*look/len(files):.0f}'))
    return rows


def loaders(df, sizes, workers, bs, rounds, cache):
    "One row per size and number of workers: images a second from originals and from copies, their ratio, memory"
    rows = []
    for size in sizes:
        for k in workers:
            make = lambda **kw: image_dls(df, size, bs, num_workers=k, cache=False, aug=[], device='cpu', **kw)
            a, b = make(), make(cache_dir=cache)
            same_batches(a, b)
            got = {0: [], 1: []}
            for r in range(rounds):
                for which in ((0, 1), (1, 0))[r % 2]: got[which].append(epoch((a, b)[which]))
            (sa, ca, ma), (sb, cb, mb) = (np.array(got[i]).T for i in (0, 1))
            ratios = sb / sa
            rows.append((size, k, f'{np.median(sa):.0f}', f'{np.median(sb):.0f}', f'**{np.median(ratios):.1f}**', f'{ratios.min():.1f}-{ratios.max():.1f}', f'{np.median(ca):.2f}', f'{np.median(cb):.2f}', f'{ma.max():.0f}', f'{mb.max():.0f}'))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--n', type=int, default=2000, help='images')
    parser.add_argument('--rounds', type=int, default=5, help='epochs from each source, in turns')
    parser.add_argument('--bs', type=int, default=64, help='batch size')
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 224], help='pixels')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='worker processes of the loaders')
    parser.add_argument('--threads', type=int, default=1, help='torch threads; more of them wait in circles on the cores that worker processes need')
    parser.add_argument('--folder', default=None, help='where the files are made; a temporary folder')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        df = make_originals(work/'originals', args.n)
        files = list(df.image)
        kb = np.mean([os.path.getsize(f) for f in files]) / 1e3
        print(f'{args.n} originals of {WIDTH}x{HEIGHT}, {kb:.0f} kB each; batches of {args.bs}; medians of {args.rounds} epochs. {platform.machine()}, {os.cpu_count()} CPUs, '
              f'{torch.get_num_threads()} torch threads; Python {platform.python_version()}, torch {torch.__version__}, fastai {fastai.__version__}, Pillow {PIL.__version__}.\n')
        print(table(('one image', 'size', 'ms', 'kB', 'different lengths'), [o for s in args.sizes for o in formats(files[:200], s, work/f'formats{s}')]), end='\n\n')
        print(table(('size', 'built, images/s, 1 thread', '2 threads', '2 spawned processes', 'seconds, 2 threads', 'MB on disk', 'us to find one'), builds(files, args.sizes, work)), end='\n\n')
        rows = loaders(df, args.sizes, args.workers, args.bs, args.rounds, work/'cache')
        print(table(('size', 'workers', 'originals, images/s', 'copies, images/s', 'ratio', 'range', 'CPU ms/image, originals', 'CPU ms/image, copies', 'peak MB, originals', 'peak MB, copies'), rows), end='\n\n')
        worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f'Largest worker process: {worker:.0f} MB.')
    finally: shutil.rmtree(work)


if __name__ == '__main__': main()
