"""Which lesion each test image shows, for every draw of a grid: what `compare_draws` needs and rows do not hold.

Lesions are numbered in the order of their names over all draws, so that a lesion has one number in all of them.

    FOPROKD_DATA=... python benchmarks/draw_lesions.py --grid studies/skin_draws.yaml --out results/skin_draws_lesions.json
"""
import argparse
import json
from pathlib import Path

import numpy as np

from foprokd.measure.rows import pack_ints, pack_predictions
from foprokd.study.experiment import _names
from foprokd.study.grid import read_grid
from foprokd.study.sources import load_data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--grid', required=True)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    found = {}
    for cfg in {c.split_seed: c for c, _ in read_grid(args.grid)}.values():
        df = load_data(cfg)
        test = (df.split == 'test').to_numpy()
        names, group = _names(df)[test].tolist(), df.group if 'group' in df else df.image
        digest = pack_predictions([0], [0], names)['test_hash'] # the name of these test images in rows
        found[digest] = group[test].astype(str).to_numpy()
    known = np.unique(np.concatenate([*found.values()]))
    args.out.write_text(json.dumps({k: pack_ints(np.searchsorted(known, v)) for k, v in found.items()}, indent=1) + '\n')
    print(f'{len(found)} draws, {len(known):,} lesions')


if __name__ == '__main__': main()
