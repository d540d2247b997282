"""How `foprokd_predict` compares with fastai's own way of using an exported model: start, speed, memory, size on disk.

A student is trained for a moment on images of the demo set (96 x 96 pixels, JPEG) and exported twice: by `learn.export` (for `load_learner`) and as ONNX. A
fresh virtual environment gets onnxruntime, numpy and Pillow and, without dependencies, this package. Then both read the
same N images, each in processes of its own, in turn: fastai with `load_learner` and `get_preds`, and `foprokd_predict` of
the fresh environment. Of each process the seconds until it is ready, images per second after that, and the peak memory are
taken; medians of `--rounds` are printed, with the ratio. The answers are compared.

    python benchmarks/predict_speed.py --images 1000
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FASTAI = '''
import time; start = time.time()
import json, resource, sys
from pathlib import Path
from fastai.vision.all import load_learner
pickle, folder, out = sys.argv[1:]
learn = load_learner(pickle)
files = sorted(Path(folder).iterdir())
ready = time.time()
with learn.no_bar(): probs = learn.get_preds(dl=learn.dls.test_dl(files, bs=32, num_workers=0))[0]
end = time.time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
json.dump(dict(start=ready - start, seconds=end - ready, mib=peak, probs=probs.tolist()), open(out, 'w'))
'''

OURS = '''
import time; start = time.time()
import json, resource, sys
from foprokd.deploy.onnx_student import OnnxStudent
from foprokd.deploy.picture import find_images
student = OnnxStudent(sys.argv[1], threads=int(sys.argv[4]))
ready = time.time()
rows = list(student.predict(find_images([sys.argv[2]])))
end = time.time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
json.dump(dict(start=ready - start, seconds=end - ready, mib=peak, probs=[list(r['probabilities'].values()) for r in rows]), open(sys.argv[3], 'w'))
'''

TRAIN = '''
import sys
from pathlib import Path
from PIL import Image
from fastai.vision.all import ImageDataLoaders, Normalize, Resize, imagenet_stats
from foprokd.learner import fopro_learner
from foprokd.data.synth import demo_classes, synth_images
out, arch, size, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def write(n, place, seed):
    labels = [i % len(demo_classes) for i in range(n)]
    for i in range(0, n, 100):
        for j, im in enumerate(synth_images(labels[i:i + 100], size=96, seed=seed + i)):
            file = place(demo_classes[labels[i + j]])/f'{i + j:05}.jpg'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(im).save(file, quality=92)
write(400, lambda c: out/'train'/c, 1)
write(n, lambda c: out/'images', 1000)
dls = ImageDataLoaders.from_folder(out/'train', valid_pct=.2, seed=0, item_tfms=Resize(size, 'squish'), bs=32, num_workers=0,
                                   batch_tfms=[Normalize.from_stats(*imagenet_stats)])
learn = fopro_learner(dls, arch, teacher='embedded')
with learn.no_bar(): learn.fit_fopro(1, 2)
learn.path = out
learn.export('student.pkl')
learn.export_student(out/'student.onnx')
'''


def run(python, code, *args, **env):
    "Run code in a process of its own; its seconds from start to end"
    start = time.time()
    subprocess.run([str(python), '-c', code, *map(str, args)], check=True, env={**os.environ, **env}, stderr=subprocess.DEVNULL)
    return time.time() - start


def fresh(folder):
    "A virtual environment with onnxruntime, numpy, Pillow and the package alone; what it weighs, in MB"
    venv.create(folder, with_pip=True)
    pip = [folder/'bin'/'python', '-m', 'pip', 'install', '-q']
    before = size_of(folder)
    subprocess.run([*pip, 'onnxruntime', 'numpy', 'pillow'], check=True)
    subprocess.run([*pip, '--no-deps', ROOT], check=True)
    return size_of(folder) - before


def size_of(folder):
    "MB of all files"
    return sum(f.stat().st_size for f in Path(folder).rglob('*') if f.is_file() and not f.is_symlink()) / 1e6


def main():
    "Train, install, run both in turn, print"
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--images', type=int, default=1000)
    p.add_argument('--arch', default='test_resnet')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--threads', type=int, default=2)
    args = p.parse_args()
    threads = dict(OMP_NUM_THREADS=str(args.threads))
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        run(sys.executable, TRAIN, tmp, args.arch, args.size, args.images)
        weight = fresh(tmp/'venv')
        python, took = tmp/'venv'/'bin'/'python', dict(fastai=[], foprokd=[])
        for _ in range(args.rounds):
            wall = run(sys.executable, FASTAI, tmp/'student.pkl', tmp/'images', tmp/'a.json', **threads)
            took['fastai'].append(json.loads((tmp/'a.json').read_text()) | dict(wall=wall))
            wall = run(python, OURS, tmp/'student.onnx', tmp/'images', tmp/'b.json', args.threads, PYTHONPATH='')
            took['foprokd'].append(json.loads((tmp/'b.json').read_text()) | dict(wall=wall))
        start = time.time()
        command = [tmp/'venv'/'bin'/'foprokd_predict', tmp/'student.onnx', tmp/'images', '--csv', tmp/'out.csv', '--threads', str(args.threads), '--quiet']
        subprocess.run(list(map(str, command)), check=True, env={**os.environ, 'PYTHONPATH': ''})
        whole = time.time() - start
        rows = list(csv.DictReader(open(tmp/'out.csv', newline='')))
        a, b = (took[k][-1]['probs'] for k in took)
        apart = max(abs(x - y) for u, v in zip(a, b) for x, y in zip(u, v))
        flips = sum(u.index(max(u)) != v.index(max(v)) for u, v in zip(a, b))
        print(f"{len(rows)} rows by the command line in {whole:.1f} s; environment {weight:.0f} MB beside pip; largest difference "
              f"{apart:.1e}, {flips} other classes; student.pkl {(tmp/'student.pkl').stat().st_size/1e6:.2f} MB, student.onnx "
              f"{(tmp/'student.onnx').stat().st_size/1e6:.2f} MB")
        for key, unit in (('start', 's until ready'), ('seconds', 's for the images'), ('wall', 's in all'), ('mib', 'MiB peak')):
            m = {k: statistics.median(r[key] for r in took[k]) for k in took}
            print(f"{unit:18} fastai {m['fastai']:8.2f}   foprokd_predict {m['foprokd']:8.2f}   ratio {m['foprokd']/m['fastai']:.2f}")


if __name__ == '__main__': main()
