"""Makes the files that every later version has to read, see `tests/test_frozen.py`: `python tests/frozen/make.py tests/frozen/X.Y.Z`.

Run it once with a version that is to be kept, in one thread, and never again for that version. Formats that came after the last release lie in
`unreleased/`, made by `python tests/frozen/make.py --new tests/frozen/unreleased`; a release takes their place: remove that folder then."""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.optimizer import SGD
from fastai.torch_core import set_seed

from foprokd.data.synth import demo_dls
from foprokd.frequency.sensitivity import SensitivityMap
from foprokd.learner import fopro_learner
from foprokd.measure.rows import append_row
from foprokd.prompt import FourierPromptGenerator
from foprokd.student import load_student
from foprokd.study.grid import read_grid
from foprokd.study.settings import settings_hash
from foprokd.train.bank import AnswerBank, ViewWriter

STUDENT = dict(channels=(8, 8, 8, 16), stem_width=8)  # of timm's test_resnet: small enough to be committed


class Stop(Callback):
    "Ctrl-C after so many epochs"
    def __init__(self, epochs): self.left = epochs

    def before_epoch(self):
        if not self.left: raise KeyboardInterrupt
        self.left -= 1


def make_learner(folder):
    "The learner of all these files"
    set_seed(0, reproducible=True)
    torch.set_num_threads(1)
    learn = fopro_learner(demo_dls(), 'test_resnet', teacher='embedded', student_kwargs=STUDENT, path=folder)
    learn.logger = lambda *_: None
    return learn


def phases(folder): return dict(explore=1, distill=3, lr=3e-3, checkpoint=folder/'run', minutes=1e3)


def pixels(side): return torch.randint(0, 256, (8, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def said(learn):
    "(N,C) probabilities of the validation images"
    with learn.no_bar(): return learn.get_preds()[0].numpy()


def judged(file):
    "(8,C) probabilities of a student file for the pixels, which it wants normalised by its own statistics"
    net, notes = load_student(file)
    x = pixels(64).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(notes[k]).view(1, -1, 1, 1) for k in ('mean', 'std'))
    with torch.no_grad(): return net((x - mean) / std).softmax(1).numpy()


def run(folder):
    "A row and the student behind it, by the command"
    program, kwargs = Path(sys.executable).with_name('foprokd_run'), ' '.join(f'{k}={v}'.replace(' ', '') for k, v in STUDENT.items())
    subprocess.run([program, *'--method ekd --data demo --student test_resnet --distill 2 --seeds 0 --out'.split(), folder/'runs',
                    '--student-kwargs', kwargs], check=True)
    for file in (next(folder.glob('runs/ekd*/student.safetensors')), folder/'runs'/'results.jsonl'): shutil.copy(file, folder/f'run_{file.name}')
    shutil.rmtree(folder/'runs')


SMALL = dict(channels=(4, 4, 4, 8), stem_width=4)
DEMO = dict(size=32, bs=16, n_max=16, ratio=4, n_valid=4, n_test=2)
BANK = dict(about=dict(teacher='a', seed=0), views=1, rows=3, arrays=dict(features=((2,), 'float16'), picture=((2, 2, 3), 'uint8')))
LABELS = ['image,label,group,split', *(f'{c}{i}.png,{c},lesion {c}{i // 2},{"train valid test".split()[i % 3]}' for c in ('nævus', '01', 'NA') for i in range(6))]
GRID = dict(yaml='title: kept\nseeds: [0, 1]\nshared: {data: demo, student: test_resnet, size: 32}\nruns:\n  - method: [ekd, bsm]\n  - {method: fopro, prompt: learned, name: "fopro {lr}", lr: 2.0e-3, seeds: [3]}\n',
            toml='seeds = [0]\n[shared]\ndata = "demo"\n[[runs]]\nmethod = "kd"\nmethod_kwargs = "temperature=4"\n')


def small_learner(folder):
    "The learner of the files of `new`: a rung of the ladder, an optimizer without state"
    set_seed(0, reproducible=True)
    torch.set_num_threads(1)
    learn = fopro_learner(demo_dls(**DEMO), 'test_resnet', prompt=FourierPromptGenerator(rung='radial'), student_kwargs=SMALL, opt_func=SGD, path=folder)
    learn.logger = lambda *_: None
    return learn


def small_phases(folder): return dict(explore=1, distill=2, lr=3e-2, checkpoint=folder/'small', minutes=1e3)


def bank(folder): return AnswerBank(folder/'bank', **BANK)


def answers_of_bank(): return dict(features=np.arange(6, dtype='float16').reshape(3, 2) / 4, picture=np.arange(36, dtype='uint8').reshape(3, 2, 2, 3))


def the_map(): return SensitivityMap(*(np.random.default_rng(0).random(s, np.float32) for s in ((2, 8, 5), (2, 8, 5), 2)), np.ones((8, 5), bool), 8, .1, 'a', np.array([0, 1]))


def grids(folder): return {f'{c.method} {c.name}': [settings_hash(c), seeds] for k in GRID for c, seeds in read_grid(folder/f'grid.{k}')}


def small_run(folder):
    "A run as the command leaves it, and a row of one that failed"
    program, kwargs = Path(sys.executable).with_name('foprokd_run'), ' '.join(f'{k}={v}'.replace(' ', '') for k, v in SMALL.items())
    flags = '--method ekd --data demo --n-max 16 --imbalance 4 --size 32 --bs 16 --student test_resnet --distill 1 --seeds 0 --quiet'.split()
    subprocess.run([program, *flags, '--student-kwargs', kwargs, '--out', folder/'runs'], check=True)
    (folder/'run').mkdir()
    for name in ('student.safetensors', 'test_predictions.npz', 'history.json'): shutil.copy(next(folder.glob(f'runs/ekd*/{name}')), folder/'run'/name)
    [row] = map(json.loads, (folder/'runs'/'results.jsonl').read_text().splitlines())
    append_row(row, folder/'rows.jsonl')
    failed = {k: row[k] for k in ('name', 'method', 'settings_hash', 'settings')}
    append_row(dict(failed, seed=1, failed='ValueError: no luck'), folder/'rows.jsonl')
    shutil.rmtree(folder/'runs')


def new(out):
    "Every format that `main` did not know in 0.1.0, small, in one archive: most of a small pickle or checkpoint is the same few words"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as d:
        fill(Path(d)/'formats')
        shutil.make_archive(out/'formats', 'xztar', Path(d)/'formats')


def fill(folder):
    "The files of `new`"
    folder.mkdir()
    learn = small_learner(folder)
    try:
        with learn.no_bar(): learn.fit_fopro(**small_phases(folder), cbs=Stop(1))
    except KeyboardInterrupt: pass
    shutil.copytree(folder/'small', folder/'small_kept', ignore=shutil.ignore_patterns('lock'))
    for old in sorted((folder/'small_kept').glob('*.ckpt'))[:-1]: old.unlink()
    learn = small_learner(folder)
    with learn.no_bar(): learn.fit_fopro(**small_phases(folder), resume=True)
    shutil.rmtree(folder/'small')
    learn.export('learner.pkl')
    learn.export_student(folder/'timm')
    learn.export_student(folder/'fp32.onnx')
    learn.quantize_student(folder/'fp32.onnx', folder/'int8.onnx')
    (folder/'fp32.onnx').unlink()
    learn.prompt.save(folder/'rung.prompt.safetensors')
    the_map().save(folder/'map.safetensors')
    view = ViewWriter(bank(folder), 0)
    view.put(0, **answers_of_bank())
    view.close()
    for k, text in GRID.items(): (folder/f'grid.{k}').write_text(text)
    (folder/'labels.csv').write_text('\n'.join(LABELS) + '\n', encoding='utf-8')
    (folder/'prior.json').write_text(json.dumps({c: i + 1 for i, c in enumerate(learn.dls.vocab)}))
    small_run(folder)
    from foprokd.deploy.onnx_student import OnnxStudent
    student, x = OnnxStudent(folder/'int8.onnx', threads=1), pixels(32)
    prior = json.loads((folder/'prior.json').read_text())
    with torch.no_grad(): prompted = learn.prompt.cpu()(x.permute(0, 3, 1, 2)[:2] / 255)
    np.savez_compressed(folder/'formats.npz', valid=said(learn), int8=student.probabilities(x.numpy()), tilted=OnnxStudent(folder/'int8.onnx', prior=prior).probabilities(x.numpy()), prompted=prompted[..., ::4, ::4])
    (folder/'formats.json').write_text(json.dumps(dict(grid=grids(folder), python=list(sys.version_info[:2])), indent=1) + '\n')


def main(folder):
    import onnxruntime
    folder.mkdir(parents=True)
    learn = make_learner(folder)
    try:
        with learn.no_bar(): learn.fit_fopro(**phases(folder), cbs=Stop(2))
    except KeyboardInterrupt: pass
    shutil.copytree(folder/'run', folder/'kept', ignore=shutil.ignore_patterns('lock'))
    learn = make_learner(folder)
    with learn.no_bar(): learn.fit_fopro(**phases(folder), resume=True)
    shutil.rmtree(folder/'run')
    for name in ('student.onnx', 'student.safetensors'): learn.export_student(folder/name)
    learn.save((folder/'learner').resolve(), with_opt=False)
    learn.prompt.save(folder/'prompt.safetensors')
    session = onnxruntime.InferenceSession(folder/'student.onnx', providers=['CPUExecutionProvider'])
    [images, *_] = session.get_inputs()
    x = pixels(64)
    run(folder)
    np.savez_compressed(folder/'answers.npz', run=judged(folder/'run_student.safetensors'), valid=said(learn), onnx=session.run(None, {images.name: x.numpy()})[0],
                        prompted=learn.prompt.cpu()(x.permute(0, 3, 1, 2)[:2] / 255, torch.zeros(2, learn.prompt.z_dim)).detach().numpy())


    new(folder)


if __name__ == '__main__': (new if sys.argv[1] == '--new' else main)(Path(sys.argv[-1]).resolve())
