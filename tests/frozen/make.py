"""Makes the files that every later version has to read, see `tests/test_frozen.py`: `python tests/frozen/make.py FOLDER`.

Run it once with a version that is to be kept, in one thread, and never again for that version."""
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed

from foprokd.data.synth import demo_dls
from foprokd.learner import fopro_learner
from foprokd.student import load_student

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


if __name__ == '__main__': main(Path(sys.argv[1]))
