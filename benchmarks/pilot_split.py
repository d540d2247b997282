"""A table for pilots: the study's split without its test lesions.

The study (nbs/55) looks at its test lesions once. Whatever is tried before that is judged on images of the study's
training part that the study does not train on. This writes a CSV in which the study's test images are missing, and
`test` stands for those left-over images (of lesions that are not trained on).

    python benchmarks/pilot_split.py $FOPROKD_DATA/skin runs/pilot_few.csv --imbalance 10 --n-max 100
"""
import argparse
from pathlib import Path

import pandas as pd

from foprokd.study.config import DataConfig
from foprokd.study.sources import load_data

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('data', help='folder with labels.csv')
parser.add_argument('out', type=Path, help='CSV to write; image paths in it are relative to the data folder')
parser.add_argument('--imbalance', type=float, required=True)
parser.add_argument('--n-max', type=int)
parser.add_argument('--valid', type=float, default=.05)
parser.add_argument('--test', type=float, default=.4)
args = parser.parse_args()

shared = dict(data=args.data, group_col='lesion_id', valid=args.valid, test=args.test)
whole = load_data(DataConfig(**shared))
study = load_data(DataConfig(**shared, imbalance=args.imbalance, n_max=args.n_max))
part = dict(zip(study.image, study.split))
whole['split'] = whole.image.map(part).fillna('left over')
trained = set(whole.group[whole.split == 'train'])
keep = whole.split.isin(['train', 'valid']) | ((whole.split == 'left over') & ~whole.group.isin(trained))
pilot = whole[keep].copy()
pilot['split'] = pilot.split.replace('left over', 'test')
pilot['image'] = [Path(f).relative_to(Path(args.data).resolve()).as_posix() for f in pilot.image]
n = pilot[pilot.split == 'test'].label.value_counts().reindex(sorted(whole.label.unique()), fill_value=0)
if n.min() < 10:
    raise SystemExit(f'Too little is left over to judge a pilot by: {n.min()} images of {n.idxmin()}. Cut the training part smaller.')
assert not set(pilot.image) & set(study.image[study.split == 'test'])
args.out.parent.mkdir(parents=True, exist_ok=True)
pilot.rename(columns=dict(group='lesion_id')).to_csv(args.out, index=False)
print(pd.crosstab(pilot.label, pilot.split).to_string())
