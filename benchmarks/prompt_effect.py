"""What the prompts of finished runs do to the teacher's features, and whether they make the classes easier to tell.

For each FoPro-KD run of a folder: the learned prompt, the random one of equal norm, fixed low-pass and high-pass, and
the identity, on the run's own data and teacher. Written are, per run and prompt,

    moved    1 - cos between the features of a test image with and without prompt
    spread   1 - cos between two prompted views of the same test image (other latents)
    apart    1 - cos between the features of two different test images, without prompt
    probe    balanced accuracy, on test images, of a logistic regression on the features of the training images
             (scikit-learn, balanced class weights, C by 5-fold cross-validation on the training images), both prompted;
             with latents, features are the mean over VIEWS of them
    crossed  the same probe, trained on prompted images and tested on plain ones

    python benchmarks/prompt_effect.py runs/skin --grid studies/skin_methods.yaml --only FoPro-KD --out results/skin_prompts.jsonl
"""
import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from fastai.torch_core import set_seed
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foprokd.study.experiment import run_folder
from foprokd.study.wiring import learner_from_config
from foprokd.study.grid import read_grid
from foprokd.losses import cosine_distance
from foprokd.pixels import PixelSpace
from foprokd.frequency.controls import HighPassPrompt, LowPassPrompt, RandomPrompt
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt
from foprokd.measure.rows import provenance
from foprokd.study.sources import load_data

VIEWS = 8


def pixels(learn, df, part):
    "Images (N,3,size,size) in [0,1] without augmentation, and labels"
    dl = learn.dls.test_dl(df[df.split == part].reset_index(drop=True), with_labels=True)
    space = PixelSpace.from_dls(learn.dls)
    batches = [(space(x), y) for x, y in dl]
    return [torch.cat([torch.Tensor(o) for o in b]) for b in zip(*batches)]


@torch.no_grad()
def features(teacher, prompt, x, views):
    "(views, N, d) features of prompted images"
    return torch.stack([torch.cat([teacher(prompt(b)) for b in x.split(128)]) for _ in range(views)])


def far(a, b):
    "Mean 1 - cos"
    return float(cosine_distance(a, b)) / 2


def probe(f_train, y_train):
    "A linear probe with balanced class weights"
    clf = LogisticRegressionCV(Cs=7, cv=5, class_weight='balanced', scoring='balanced_accuracy', max_iter=300)
    return make_pipeline(StandardScaler(), clf).fit(f_train, y_train)


def measure(teacher, prompt, train, test, plain):
    "The numbers of one prompt"
    views = 1 if prompt.z_dim is None else VIEWS
    (x, y), (xt, yt) = train, test
    f, ft = features(teacher, prompt, x, views), features(teacher, prompt, xt, views)
    clf = probe(f.mean(0).numpy(), y.numpy())
    score = lambda g: round(float(balanced_accuracy_score(yt.numpy(), clf.predict(g.numpy()))), 4)
    return dict(moved=round(far(ft[0], plain), 4), spread=round(far(ft[0], ft[-1]), 4),
                apart=round(far(plain, plain.roll(len(plain) // 2, 0)), 4), probe=score(ft.mean(0)), crossed=score(plain))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', type=Path, help='folder of the runs, with their prompts')
    parser.add_argument('--grid', required=True, help='grid file that names the run')
    parser.add_argument('--only', default='FoPro-KD', help='name of the run in that file')
    parser.add_argument('--out', type=Path, required=True, help='JSONL file to write')
    args = parser.parse_args()
    warnings.simplefilter('ignore', ConvergenceWarning); warnings.simplefilter('ignore', FutureWarning)
    cfg, seeds = next((c, s) for c, s in read_grid(args.grid, out=str(args.runs)) if c.name == args.only)
    df = load_data(cfg)
    lines, made = [], provenance()
    for seed in seeds:
        learn = learner_from_config(cfg, df, seed)
        train, test = pixels(learn, df, 'train'), pixels(learn, df, 'test')
        plain = features(learn.teacher, IdentityPrompt(), test[0], 1)[0]
        learned = FourierPromptGenerator.from_file(run_folder(cfg, seed)/'prompt.safetensors').eval()
        set_seed(seed)
        prompts = {'learned': learned, 'random, equal norm': RandomPrompt(like=learned), 'low-pass .15': LowPassPrompt(.15),
                   'high-pass .15': HighPassPrompt(.15), 'identity': IdentityPrompt()}
        for name, prompt in prompts.items():
            lines.append(dict(prompt=name, seed=seed, views=VIEWS, **measure(learn.teacher, prompt, train, test, plain), **made))
            print(lines[-1], flush=True)
    args.out.write_text(''.join(json.dumps(o) + '\n' for o in lines))


if __name__ == '__main__': main()
