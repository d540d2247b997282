"""What importing costs, beside fastai and timm: processes in turns, CPU seconds (user and system), medians, after one round that warms the disk.

    python benchmarks/import_speed.py --rounds 7
"""
import argparse
import os
import platform
import statistics
import subprocess
import sys

CODES = {'nothing': 'pass', 'import foprokd': 'import foprokd', 'fastai.vision.all': 'import fastai.vision.all', 'fastai.vision.all, timm': 'import fastai.vision.all, timm',
         'foprokd.learner': 'from foprokd.learner import fopro_learner'}


def seconds(code):
    "CPU seconds of a process that runs `code`"
    before = os.times()
    subprocess.run([sys.executable, '-c', code], check=True, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=7)
    rounds = parser.parse_args().rounds
    times = {k: [] for k in CODES}
    for i in range(rounds + 1):
        for k, code in CODES.items():
            t = seconds(code)
            if i: times[k].append(t)
    base = statistics.median(times['fastai.vision.all'])
    print(f'| import | CPU seconds, median of {rounds} | lowest | median of the ratios to fastai.vision.all |\n|---|---:|---:|---:|')
    for k, v in times.items():
        ratio = statistics.median(a / b for a, b in zip(v, times['fastai.vision.all']))
        print(f'| {k} | {statistics.median(v):.3f} | {min(v):.3f} | {ratio:.3f} |')
    print(f'\nPython {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; processes in turns.')
