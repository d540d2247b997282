"""What `search_prompt` says on four sets, and whether images that it has not seen agree.

    skin         327 dermoscopy images of eight classes, 100 to 10 of each, no lesion on two sides
    blurred      the same, blurred by a Gaussian of 2 pixels
    natural      ImageNet photographs of twenty classes, 60 to 6 of each, which need no prompt
    disguised    the same photographs with the mean colour and the contrast of the skin images

For each draw of training images (another split of lesions, another sample) and each teacher: the sentence, its seconds, and the
gain of the choice in balanced accuracy on held-out images, by a probe that is fitted on all training images (logistic regression,
C=.003). Intervals are over draws and lesions (`compare_draws`). The last lines: every candidate's gain on held-out images, and the rank
correlation of the two gains over candidates and draws.

    FOPROKD_DATA=... python benchmarks/prompt_worth.py --first 1000 --draws 12 --out results/skin_worth.jsonl
"""
import argparse
import io
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import spearmanr
from torchvision.transforms.functional import gaussian_blur

from foprokd.data.images import open_rgb
from foprokd.data.longtail import longtail_counts
from foprokd.frequency.bands import linear_probe
from foprokd.frequency.voice import view_features
from foprokd.frequency.worth import candidate_prompts, search_prompt
from foprokd.measure.draws import compare_draws
from foprokd.measure.rows import pack_ints, provenance, unpack_ints
from foprokd.teacher import FrozenTeacher


def _pixels(arrays):
    "(N,3,H,W) pixels in [0,1]"
    return torch.stack([torch.from_numpy(np.array(a)).permute(2, 0, 1) for a in arrays]).float() / 255

def skin(root, size):
    "Pixels, labels, lesions"
    df = pd.read_csv(root/'skin'/'labels.csv')
    return _pixels(open_rgb(str(root/'skin'/f), size=size) for f in df.image), pd.factorize(df.label, sort=True)[0], pd.factorize(df.lesion_id)[0]

def natural(root, size, classes=20, each=120):
    "The first images of some classes of Tiny-ImageNet, each a group of its own"
    with zipfile.ZipFile(root/'tiny_imagenet.zip') as z:
        names = sorted(n for n in z.namelist() if '/train/' in '/' + n and n.lower().endswith(('.jpeg', '.jpg', '.png')))
        by = {}
        for n in names: by.setdefault(Path(n).parts[-2], []).append(n)
        kept = [(c, n) for c in list(by)[::len(by) // classes][:classes] for n in by[c][:each]]
        px = _pixels(Image.open(io.BytesIO(z.read(n))).convert('RGB').resize((size, size), Image.BILINEAR) for _, n in kept)
    return px, pd.factorize(np.array([c for c, _ in kept]))[0], np.arange(len(kept))

def draw(labels, group, counts, seed, test=.4):
    "Indices of training and of test images; a group is on one side"
    rng = np.random.default_rng(seed)
    held = np.isin(group, rng.permutation(np.unique(group))[:int(test * len(np.unique(group)))])
    order = pd.Series(labels).value_counts().index
    train = [rng.permutation(np.flatnonzero(~held & (labels == c)))[:n] for c, n in zip(order, counts)]
    return np.sort(np.concatenate(train)), np.flatnonzero(held)

def held_out(teacher, px, labels, train, test, prompt=None):
    "Predictions of a probe for held-out images; each is looked at once, as it lies"
    fit, ask = (view_features(teacher, px[o], prompt, 1)[:, 0] for o in (train, test))
    return linear_probe().fit(fit, labels[train]).predict(ask)

def teachers(root):
    "Those that ship: a MobileNet of ImageNet, and the embedded one of Tiny-ImageNet"
    kwargs = dict(pad_type='same', bn_eps=1e-3, mean=.5, std=.5, size='image')
    return dict(mobilenet=FrozenTeacher('mobilenetv1_025', ckpt=root/'teachers'/'mobilenet_v1_025.safetensors', **kwargs),
                embedded=FrozenTeacher('embedded', size='image'))

def sets(root, size):
    "Name -> pixels, labels, groups, counts of training images"
    px, y, g = skin(root, size)
    few = longtail_counts(100, 8, 10).tolist()
    yield 'skin', px, y, g, few
    yield 'blurred', torch.cat([gaussian_blur(o, [13, 13], [2., 2.]) for o in px.split(512)]), y, g, few
    mean, spread = px.mean((0, 2, 3)), px[:2000].var((2, 3)).mean(0).sqrt()
    px, y, g = natural(root, size)
    long = longtail_counts(60, 20, 10).tolist()
    yield 'natural', px, y, g, long
    own, width = px.mean((0, 2, 3)), px.var((2, 3)).mean(0).sqrt()
    scale, move = (spread / width)[:, None, None], mean[:, None, None]
    yield 'disguised', (px - own[:, None, None]) * scale + move, y, g, long

def against(rows, one, other=lambda r: 'identity'):
    "`compare_draws` of two prompts of each row, given by functions of the row"
    get = lambda r, name: unpack_ints(r['preds'][name])
    return compare_draws([(unpack_ints(r['truth']), get(r, one(r)), get(r, other(r)), unpack_ints(r['lesions'])) for r in rows])

def interval(rows, one):
    "Gain over the identity, in points"
    if len(rows) < 2: return '-'
    r = against(rows, one)
    return f"{100 * r['diff']:+.1f} ({100 * r['lower']:.1f} to {100 * r['upper']:.1f})"

def balanced(truth, preds):
    "Mean recall"
    return float(np.mean([(preds == c)[truth == c].mean() for c in np.unique(truth)]))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--draws', type=int, default=5)
    parser.add_argument('--first', type=int, default=0, help='seed of the first draw')
    parser.add_argument('--size', type=int, default=96, help='pixels')
    parser.add_argument('--test', type=int, default=1200, help='at most so many test images')
    parser.add_argument('--sets', nargs='+', default=['skin', 'blurred', 'natural', 'disguised'])
    parser.add_argument('--out', type=Path, help='JSON lines; what is there is not done again')
    args = parser.parse_args()
    root = Path(os.environ['FOPROKD_DATA'])
    done = [json.loads(o) for o in args.out.read_text().splitlines()] if args.out and args.out.exists() else []
    rows, made = list(done), provenance()
    known = {(r['set'], r['teacher'], r['draw']) for r in done}
    for name, px, y, g, counts in sets(root, args.size):
        if name not in args.sets: continue
        for k, teacher in teachers(root).items():
            for d in range(args.first, args.first + args.draws):
                if (name, k, d) in known: continue
                train, test = draw(y, g, counts, d)
                test = np.random.default_rng(d).permutation(test)[:args.test]
                start = time.perf_counter()
                tried = candidate_prompts(px[train], teacher)
                told = search_prompt(px[train], y[train], g[train], teacher, tried)
                seconds = time.perf_counter() - start
                preds = {p: held_out(teacher, px, y, train, test, q) for p, q in {'identity': None, **tried}.items()}
                score = {p: balanced(y[test], v) for p, v in preds.items()}
                row = dict(set=name, teacher=k, draw=d, size=args.size, images=len(train), chosen=told.name, said=str(told),
                           seconds=round(seconds, 1), score=score, truth=pack_ints(y[test]), lesions=pack_ints(g[test]),
                           preds={p: pack_ints(v) for p, v in preds.items()}, told=dict(zip(told.table.prompt, told.table.gain)),
                           prior=dict(zip(told.table.prompt, told.table.prior)), git_commit=made['git_commit'], git_dirty=made['git_dirty'],
                           machine=made['machine'], time=made.get('time'))
                rows.append(row)
                if args.out:
                    with args.out.open('a') as f: f.write(json.dumps(row, default=float) + '\n')
                print(name, k, d, f'{seconds:.0f} s', told, f"held out {100 * (score[told.name] - score['identity']):+.1f}", flush=True)
    report([r for r in rows if r['set'] in args.sets])

def report(rows):
    "Tables"
    names, sets = list(rows[0]['told']), dict.fromkeys((r['set'], r['teacher']) for r in rows)
    print('\n| set | teacher | draws | seconds | takes a prompt | gain of the choice | of the candidate that looked best |\n|---|---|---|---|---|---|---|')
    for s, k in sets:
        own = [r for r in rows if (r['set'], r['teacher']) == (s, k)]
        print(f"| {s} | {k} | {len(own)} | {np.median([r['seconds'] for r in own]):.0f} | {sum(r['chosen'] != 'identity' for r in own)} | "
              f"{interval(own, lambda r: r['chosen'])} | {interval(own, lambda r: max(r['told'], key=r['told'].get))} |")
    print('\nheld out, each candidate\n\n| set | teacher | identity | ' + ' | '.join(names) + ' |\n|' + '---|' * (3 + len(names)))
    for s, k in sets:
        own = [r for r in rows if (r['set'], r['teacher']) == (s, k)]
        print(f"| {s} | {k} | {np.mean([r['score']['identity'] for r in own]):.3f} | " + ' | '.join(interval(own, lambda r: n) for n in names) + ' |')
    pairs = [(r['told'][n], r['prior'].get(n, np.nan), r['score'][n] - r['score']['identity']) for r in rows for n in names]
    a, p, b = map(np.array, zip(*pairs))
    print(f'\nrank correlation with the gain held out: {spearmanr(a, b)[0]:.2f} of the gain told, {spearmanr(-p, b)[0]:.2f} of the prior')

if __name__ == '__main__': main()
