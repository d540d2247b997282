"""Time and memory of looking at 25,000 files: verification, leakage report, and both again from memory.

    python benchmarks/scan_25k.py [--n 25000] [--width 600] [--height 450] [--workers 2] [--folder DIR]

The files are synthetic JPEGs of the size and weight of dermoscopy images, made in DIR (a temporary folder if none is
named) and removed at the end. Damaged files, copies and crossing groups are planted, and the script fails if the report
misses one or names one too many. It prints a Markdown table.
"""
import argparse
import io
import os
import platform
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from foprokd.data.leakage import leakage_report, leakage_summary
from foprokd.data.scan import scan_images, usable_rows, verify_images

GRAIN = np.random.default_rng(0).normal(0, 7, (1024, 1024)).astype(np.int16)
PLANTED = 50 # of each kind of copy, and of each kind of damage


def picture(i, size):
    "A smooth random field with grain, different for each `i`"
    rng = np.random.default_rng([1, i])
    field = Image.fromarray(rng.integers(30, 225, (9, 12, 3)).astype(np.uint8)).resize(size, Image.BICUBIC)
    y, x = rng.integers(0, 1024 - size[1]), rng.integers(0, 1024 - size[0])
    grain = GRAIN[y:y + size[1], x:x + size[0], None]
    return Image.fromarray(np.clip(np.asarray(field).astype(np.int16) + grain, 0, 255).astype(np.uint8))


def write(folder, first, last, size):
    "The files of a range"
    for i in range(first, last): picture(i, size).save(folder/f'{i:06}.jpg', quality=90)


def make(folder, n, size, workers):
    "All files and their label table, with what was planted"
    images = folder/'images'
    images.mkdir(parents=True)
    edges = np.linspace(0, n, 4 * workers + 1).astype(int)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(write, [images] * 4 * workers, edges[:-1], edges[1:], [size] * 4 * workers))
    files = [images/f'{i:06}.jpg' for i in range(n)]
    split = np.where(np.arange(n) % 5 == 0, 'test', 'train')
    df = pd.DataFrame(dict(image=list(map(str, files)), label=[f'c{i % 8}' for i in range(n)], group=[f'g{i}' for i in range(n)], split=split))
    if n < 8 * PLANTED: raise SystemExit(f'n={n} is too few for {PLANTED} plants of each kind')
    train, test = np.flatnonzero(split == 'train'), np.flatnonzero(split == 'test')
    plans = iter(zip(train, test, strict=False))
    for _, (a, b) in zip(range(PLANTED), plans): files[b].write_bytes(files[a].read_bytes())
    for _, (a, b) in zip(range(PLANTED), plans):
        png = io.BytesIO()
        Image.open(files[a]).save(png, 'PNG', compress_level=1)
        df.loc[b, 'image'] = str(files[b].with_suffix('.png'))
        files[b].with_suffix('.png').write_bytes(png.getvalue())
        files[b].unlink()
    for _, (a, b) in zip(range(PLANTED), plans): Image.open(files[a]).save(files[b], quality=70)
    for _, (a, b) in zip(range(PLANTED), plans): df.loc[b, 'group'] = df.group[a]
    for k, (_, (a, _)) in enumerate(zip(range(3 * PLANTED), plans)):
        data = files[a].read_bytes()
        files[a].write_bytes([b'', data[:len(data) // 2], b'no image at all'][k % 3])
    return df


def memory():
    "Largest resident set so far, MB: this process, and the largest of its workers"
    return [round(resource.getrusage(who).ru_maxrss / 1024) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def main():
    p = argparse.ArgumentParser()
    for name, value in dict(n=25000, width=600, height=450, workers=2).items(): p.add_argument(f'--{name}', type=int, default=value)
    p.add_argument('--folder', type=Path)
    args = p.parse_args()
    folder = Path(tempfile.mkdtemp()) if args.folder is None else args.folder
    rows, cache = [], folder/'facts.sqlite'

    def timed(what, act):
        start = time.perf_counter()
        res = act()
        seconds = time.perf_counter() - start
        rows.append((what, seconds, *memory()))
        return res

    try:
        start = time.perf_counter()
        df = make(folder, args.n, (args.width, args.height), args.workers)
        kb = sum(os.stat(f).st_size for f in df.image) / len(df) / 1024
        print(f'{len(df)} files of {kb:.0f} KB made in {time.perf_counter() - start:.0f} s', flush=True)
        rows.append(('before', 0., *memory()))
        how = dict(cache=cache, workers=args.workers)
        report = timed('verify, first time', lambda: verify_images(df, **how))
        timed('verify, again', lambda: verify_images(df, **how))
        kept = usable_rows(df, 'drop', scan=scan_images(df.image, **how))
        leaks = timed('leakage report, files known', lambda: leakage_report(kept, **how))
        timed('leakage report, first time, nothing remembered', lambda: leakage_report(kept, cache=False, workers=args.workers))
    finally: shutil.rmtree(folder)
    assert report.problem.value_counts().to_dict() == {'empty': PLANTED, 'truncated': PLANTED, 'not an image': PLANTED}, report.problem.value_counts()
    summary = leakage_summary(leaks)
    assert summary['test-train'].tolist() == [PLANTED] * 4, summary
    print(f'\n{len(df)} JPEG files, {args.width}x{args.height}, {kb:.0f} KB each; {args.workers} workers, {os.cpu_count()} CPUs ({platform.machine()}), '
          f'Python {platform.python_version()}, torch {torch.__version__}; all planted damage and copies found, nothing else.\n')
    print('| step | seconds | files/s | peak memory of the process, MB | of its largest worker, MB |\n|---|---|---|---|---|')
    for what, s, own, child in rows: print(f'| {what} | {s:.1f} | {f"{len(df) / s:.0f}" if s else ""} | {own} | {child} |')


if __name__ == '__main__': main()
