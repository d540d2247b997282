"""A folder of photographs for `studies/natural_draws.yaml`: the first images of twenty classes of Tiny-ImageNet, as they are.

    FOPROKD_DATA=... python benchmarks/natural_set.py --out natural
"""
import argparse
import os
import zipfile
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='folder to write, one folder a class')
    parser.add_argument('--classes', type=int, default=20)
    parser.add_argument('--each', type=int, default=120, help='images of a class')
    args = parser.parse_args()
    with zipfile.ZipFile(Path(os.environ['FOPROKD_DATA'])/'tiny_imagenet.zip') as z:
        by = {}
        for n in sorted(n for n in z.namelist() if '/train/' in '/' + n and n.lower().endswith(('.jpeg', '.jpg', '.png'))):
            by.setdefault(Path(n).parts[-2], []).append(n)
        for c in list(by)[::len(by) // args.classes][:args.classes]:
            (args.out/c).mkdir(parents=True, exist_ok=True)
            for n in by[c][:args.each]: (args.out/c/Path(n).name).write_bytes(z.read(n))


if __name__ == '__main__': main()
