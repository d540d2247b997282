"""From real skin lesions to files for a laptop: students of three kinds are trained, exported, quantised and measured.

Per kind of network (a CNN, a mobile CNN, a ViT) one row is appended to a JSONL file:

    parity     file against Learner on all validation images (5 % of the images), at both sizes of `--sizes`: largest
               difference of a probability, images whose class differs, both for the Pillow resize and for the graph's
    batches    largest difference between images taken alone and in batches of 2 to 64
    int8       agreement, balanced accuracy and recall per group of the 8-bit file against the 32-bit one on the test
               images, with 95 % intervals over lesions
    calibrated expected calibration error before and after, and coverage of the conformal sets, on the test images
    report     parameters, MACs, bytes, latency and throughput of teacher, student and 8-bit student, taken in turn

Students of the first size are trained by FoPro-KD from the MobileNet-v1 1.0 of FOPROKD_DATA on the training part at 1:100
(lesions kept together, 40 % test); those of the second size for two epochs only, since parity does not ask how good they are.
Trained weights are kept in `--runs`, so that a second call measures again without training.

    OMP_NUM_THREADS=2 python benchmarks/deploy_skin.py --out results/skin_deploy.jsonl
"""
import argparse
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from fastai.torch_core import set_seed

from foprokd.data.labels import read_labels
from foprokd.data.loaders import image_dls, test_dl
from foprokd.learner import fopro_learner
from foprokd.deploy.policy import image_sources
from foprokd.deploy.onnx_student import OnnxStudent
from foprokd.deploy.quantize import format_report
from foprokd.measure.rows import append_row, provenance
from foprokd.data.splits import split_data

DATA = Path(os.environ['FOPROKD_DATA'])
KINDS = dict(cnn='resnet10t', mobile='mobilenetv3_small_050', vit='test_vit')
TEACHER = dict(ckpt=DATA/'teachers'/'mobilenet_v1_100_trunk12.safetensors', size=64, pad_type='same', bn_eps=1e-3,
               mean=.5, std=.5)


def skin(seed=0):
    "The lesion-disjoint table: 5 % validation, 40 % test, training part cut to 1:100"
    df = read_labels(DATA/'skin', group_col='lesion_id', bad=None)
    return split_data(df, valid=.05, test=.4, seed=seed, imbalance=100)


def student(arch, size, df, runs, explore, distill, seed=0):
    "A trained Learner, from its weights if they are there"
    set_seed(seed)
    dls = image_dls(df, size=size, bs=64, seed=seed)
    kwargs = dict(img_size=size) if 'vit' in arch else {}
    learn = fopro_learner(dls, arch, teacher='mobilenetv1_100', teacher_kwargs=TEACHER, student_kwargs=kwargs, path=runs)
    name = f'{arch}_{size}_{explore}_{distill}_{seed}'
    if (runs/'models'/f'{name}.pth').exists(): return learn.load(name)
    with learn.no_bar(): learn.fit_fopro(explore, distill, lr=3e-3)
    learn.save(name)
    return learn


def arguments():
    "The command line"
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--kinds', nargs='+', default=list(KINDS), choices=KINDS)
    p.add_argument('--sizes', nargs=2, type=int, default=[64, 96])
    p.add_argument('--explore', type=int, default=3)
    p.add_argument('--distill', type=int, default=20)
    p.add_argument('--runs', type=Path, default=Path('runs/deploy'))
    p.add_argument('--out', type=Path, default=Path('results/skin_deploy.jsonl'))
    p.add_argument('--train-only', action='store_true')
    return p.parse_args()


def batches(file, dl):
    "Largest difference between the first 64 images one by one and in batches of 2 to 64"
    student = OnnxStudent(file)
    x = np.stack([student.open(o) for o in image_sources(dl)[:64]])
    alone = np.concatenate([student.probabilities(x[i:i + 1]) for i in range(len(x))])
    return max(float(np.abs(student.probabilities(x[:n]) - alone[:n]).max()) for n in (2, 3, 7, 16, 32, 64))


def measure(kind, learners, df, args):
    "Export, quantise, time: the row"
    main, dl = learners[0], test_dl(learners[0].dls, df)
    files = [learn.export_student(args.runs/f'{kind}_{size}.onnx', calibration=True, test=dl if learn is main else None)
             for learn, size in zip(learners, args.sizes)]
    notes = [OnnxStudent(f).notes for f in files]
    small = main.quantize_student(files[0], n=512, test=dl)
    table = main.deploy_report(files[0], small, test=dl)
    kept = ('calibration', 'conformal', 'metrics', 'counts', 'arch', 'n_parameters')
    return dict(kind=kind, sizes=args.sizes, explore=args.explore, distill=args.distill,
                parity={s: asdict(n.parity) for s, n in zip(args.sizes, notes)},
                batches={s: batches(f, learn.dls.valid) for f, s, learn in zip(files, args.sizes, learners)},
                **{k: getattr(notes[0], k) for k in kept}, int8=asdict(OnnxStudent(small).notes.int8),
                report=table.astype(object).where(table.notna(), None).to_dict('records'))


def main():
    "Train what is missing, then measure"
    args, df = arguments(), skin()
    args.runs.mkdir(parents=True, exist_ok=True)
    for kind in args.kinds:
        epochs = (args.explore, args.distill), (0, 2)
        learners = [student(KINDS[kind], s, df, args.runs, *e) for s, e in zip(args.sizes, epochs)]
        print(kind, 'trained', flush=True)
        if args.train_only: continue
        row = measure(kind, learners, df, args)
        append_row(row | provenance(), args.out)
        print(format_report(row['int8']['report']))
        print(pd.DataFrame(row['report']).to_string(), row['parity'], row['batches'], sep='\n', flush=True)


if __name__ == '__main__': main()
