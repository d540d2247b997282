"""What the two ImageNet MobileNets of FOPROKD_DATA prefer, on natural and on skin images, and what trained prompts amplify.

Written is a JSONL file of aggregates, one row each, that nbs/studies/01_preferences.ipynb reads:

    made         commit, machine and versions of all the others, and the command
    ring         mean sensitivity (1 - cos) by radius, per model and image set
    centroid     spectral centroid of each map, and the share of it that was measured, not interpolated
    check        coarse-to-fine maps against maps that were measured whole, on a fifth of the skin images
    band         `PromptResponse.frame` of octaves removed, weakened and amplified, per model and image set, with a probe
    agreement    rank correlations of the mean maps between models and between image sets
    gain         radial profile of the log gain of each trained prompt
    relation     rank correlation of each prompt with the sensitivity of the teacher that it was trained for, and with that
                 sensitivity times the mean power of the images, which is what a factor on an amplitude is worth
    alike        rank correlations of the prompts with each other
    spectra      the same with what each class has more of than the mean of the classes
    before_after feature shift and probe under each prompt, the probe fitted on plain images or under the prompt (refit);
                 `pooled` is the mean over the prompts of the loss of balanced accuracy, images resampled

    python benchmarks/frequency_reading.py runs/skin --grid studies/skin_methods.yaml --only FoPro-KD --out results/skin_frequency.jsonl
"""
import argparse
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from foprokd.frequency.atlas import frequency_atlas, open_model
from foprokd.frequency.bands import prompt_response
from foprokd.frequency.class_spectra import class_spectra
from foprokd.study.experiment import run_folder
from foprokd.frequency.reading import rank_correlation, read_prompt
from foprokd.study.grid import read_grid
from foprokd.data.images import open_rgb
from foprokd.prompt import FourierPromptGenerator
from foprokd.measure.rows import provenance
from foprokd.frequency.sensitivity import sensitivity_map
from foprokd.study.sources import load_data
from foprokd.spectrum import to_spectrum

DATA = Path(os.environ['FOPROKD_DATA'])
SIZE, MEASURES = 64, ['cosine', 'l2', 'balanced accuracy', 'loss']


def pixels(files):
    "(N,3,64,64) pixels of files or bytes"
    return torch.stack([torch.from_numpy(np.array(open_rgb(f, size=SIZE))).permute(2, 0, 1) for f in files]) / 255


def skin(df, n):
    "`n` images of each class of a table, of different lesions"
    df = df.sample(frac=1, random_state=0).drop_duplicates('group')
    return df.groupby('label').head(n).sort_values(['label', 'image'])


def natural(n, classes=16):
    "`n` images of each of the first classes of Tiny-ImageNet's validation part"
    with zipfile.ZipFile(DATA/'tiny_imagenet.zip') as z:
        names = sorted(o for o in z.namelist() if '/val/' in f'/{o}' and o.lower().endswith(('.jpg', '.jpeg', '.png')))
        df = pd.DataFrame(dict(image=names, label=[o.split('/')[-2] for o in names]))
        df = df[df.label.isin(sorted(df.label.unique())[:classes])].groupby('label').head(n)
        return pixels([z.read(o) for o in df.image]), df.label.to_numpy()


def sample(n):
    "`n` images of ImageNet, evenly over its classes, reduced from 128 px: no JPEG blocks of 64-px pictures"
    with zipfile.ZipFile(DATA/'imagenet_sample.zip') as z:
        names = sorted(o for o in z.namelist() if o.endswith('.jpg'))
        return pixels([z.read(o) for o in names[::len(names) // n][:n]])


def models(size):
    "The two teachers"
    common = dict(pad_type='same', bn_eps=1e-3, mean=.5, std=.5, size=size)
    folder = DATA/'teachers'
    return {'MobileNet 0.25': dict(model='mobilenetv1_025', ckpt=folder/'mobilenet_v1_025.safetensors', **common),
            'MobileNet 1.0': dict(model='mobilenetv1_100', ckpt=folder/'mobilenet_v1_100_trunk12.safetensors', **common)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', type=Path, help='folder of the runs, with their prompts')
    parser.add_argument('--grid', required=True, help='grid file that names the run')
    parser.add_argument('--only', default='FoPro-KD', help='name of the run in that file')
    parser.add_argument('--atlas', type=Path, default=Path('runs/atlas'), help='folder of the atlas, which goes on where it was killed')
    parser.add_argument('--step', type=int, default=4, help='of the sensitivity maps')
    parser.add_argument('--out', type=Path, required=True, help='JSONL file to write')
    args = parser.parse_args()
    command = ' '.join(['python', *sys.argv]).replace(str(DATA), '$FOPROKD_DATA')
    rows = [dict(kind='made', command=command, **provenance())]
    add = lambda kind, frame, **kw: rows.extend(dict(kind=kind, **kw, **r) for r in frame.to_dict('records'))
    cfg, seeds = next((c, s) for c, s in read_grid(args.grid, out=str(args.runs)) if c.name == args.only)
    test = load_data(cfg).query('split == "test"') # no prompt was trained on these lesions
    df = skin(test, 20)
    x_skin, y_skin = pixels(df.image), df.label.to_numpy()
    sets = {'natural': natural(10), 'sample': (sample(160), None), 'skin': (x_skin, y_skin)}
    maps = dict(step=args.step, progress=False)
    atlases, teacher = {}, {'MobileNet 0.25 at 96': dict(models(96)['MobileNet 0.25'])}
    for name, (x, y) in sets.items():
        wanted = {**models('image'), **(teacher if name == 'skin' else {})}
        report = lambda *o: print(name, *o, flush=True)
        atlases[name] = a = frequency_atlas(wanted, x, args.atlas, labels=y, **maps, report=report)
        f = a.frame()
        add('ring', f[f.what == 'ring'][['model', 'freq', 'value', 'lower', 'upper']], images=name, n=len(x))
        add('band', a.bands[a.bands.measure.isin(MEASURES)].drop(columns=['angle', 'prompt']), images=name, n=len(x))
        rows += [dict(kind='centroid', images=name, model=k, measured=m.measured.mean(), **m.centroid()) for k, m in a.maps.items()]
        add('agreement', a.agreement(), images=name)
    for m in models('image'):
        for one, two in ('natural', 'sample'), ('natural', 'skin'), ('sample', 'skin'):
            a, b = (atlases[o].maps[m] for o in (one, two))
            rows.append(dict(kind='agreement', a=one, b=two, images=m, **rank_correlation(a.cosine, b.cosine, SIZE)))
    for k, spec in models('image').items(): # what was interpolated, against all of it
        whole = sensitivity_map(open_model(spec), x_skin[::5], progress=False)
        m = sensitivity_map(open_model(spec), x_skin[::5], **maps)
        rho = rank_correlation(m.cosine, whole.cosine, SIZE, n_boot=0)['rho']
        a, b = (o.mean().ravel()[1:] for o in (m, whole))
        rows.append(dict(kind='check', model=k, n=len(whole.norm), measured=m.measured.mean(), rho=rho,
                         mean_off=float(abs(a / b - 1).mean()), max_off=float(abs(a - b).max() / b.max())))
        print(rows[-1], flush=True)
    m, spectra = atlases['skin'].maps['MobileNet 0.25 at 96'], class_spectra(skin(test, 100), size=SIZE, part='test')
    net = open_model(teacher['MobileNet 0.25 at 96'])
    power, prompts, gains = to_spectrum(x_skin).abs().square().mean((0, 1)).numpy(), {}, {}
    for seed in seeds:
        prompts[seed] = prompt = FourierPromptGenerator.from_file(run_folder(cfg, seed)/'prompt.safetensors').eval()
        torch.manual_seed(seed)
        r = read_prompt(prompt, x_skin)
        add('gain', r.radial(), seed=seed)
        rows += [dict(kind='alike', a=o, b=seed, **rank_correlation(r.log_gain, g, SIZE)) for o, g in gains.items()]
        gains[seed] = r.log_gain
        for against, other in ('sensitivity', m.cosine), ('sensitivity x power', m.cosine * power):
            rows.append(dict(kind='relation', against=against, seed=seed, **rank_correlation(r.log_gain, other, SIZE)))
        add('spectra', r.class_relation(spectra), seed=seed)
    for refit in False, True:
        torch.manual_seed(0)
        res = prompt_response(net, x_skin, prompts, labels=y_skin, views=8, refit=refit)
        f = res.frame()
        add('before_after', f[f.measure.isin(MEASURES)].rename(columns=dict(prompt='seed')), refit=refit)
        accuracy = np.nanmean(res.recalls(res.draws()), 2)
        loss = accuracy[:, 0] - accuracy[:, 1:].mean(1)
        rows.append(dict(kind='pooled', refit=refit, plain=accuracy[0, 0], value=loss[0],
                         **dict(zip(('lower', 'upper'), np.quantile(loss[1:], [.025, .975])))))
    short = lambda v: round(v, 5) if isinstance(v, float) else v
    args.out.write_text(''.join(json.dumps({k: short(v) for k, v in o.items() if v == v}) + '\n' for o in rows))


if __name__ == '__main__': main()
