"A learner exported in one process and loaded in another: same predictions, no teacher in the file."
import json
import zipfile

import numpy as np
import pytest

from conftest import python

TRAIN = '''
import json
from pathlib import Path
from PIL import Image
from fastai.vision.all import ImageDataLoaders, Resize
from foprokd.data.synth import synth_images
from foprokd.learner import fopro_learner

labels = [i % 3 for i in range(48)]
for i, (im, y) in enumerate(zip(synth_images(labels, size=32, seed=0), labels)):
    Path(f'images/{"abc"[y]}').mkdir(parents=True, exist_ok=True)
    Image.fromarray(im).save(f'images/{"abc"[y]}/{i:02}.png')
dls = ImageDataLoaders.from_folder('images', valid_pct=.25, seed=0, item_tfms=Resize(32), bs=8, num_workers=0)
learn = fopro_learner(dls, 'test_resnet', teacher='embedded')
with learn.no_bar(), learn.no_logging(): learn.fit_fopro(explore=1, distill=1)
learn.export('student.pkl')
name, i, probs = learn.predict('images/a/00.png')
json.dump([str(learn.path), name, int(i), [float(p) for p in probs]], open('said.json', 'w'))
'''

PREDICT = '''
import json
from pathlib import Path
from fastai.vision.all import load_learner
path = json.load(open('said.json'))[0]
learn = load_learner(Path(path)/'student.pkl')
name, i, probs = learn.predict('images/a/00.png')
kinds = sorted({type(m).__name__ for m in learn.model.modules()})
json.dump([name, int(i), [float(p) for p in probs], kinds, learn.model.training], open('heard.json', 'w'))
'''


@pytest.fixture(scope='module')
def said(tmp_path_factory):
    "Folder in which a first process has trained and exported"
    cwd = tmp_path_factory.mktemp('export')
    res = python(TRAIN, cwd)
    assert res.returncode == 0, res.stderr[-3000:]
    return cwd


def test_another_process_predicts_the_same(said):
    res = python(PREDICT, said, fresh=True)
    assert res.returncode == 0, res.stderr[-3000:]
    _, name, i, probs = json.loads((said/'said.json').read_text())
    name2, i2, probs2, kinds, training = json.loads((said/'heard.json').read_text())
    assert (name, i) == (name2, i2)
    np.testing.assert_allclose(probs, probs2, atol=1e-6)
    assert abs(sum(probs) - 1) < 1e-5 and not training
    assert 'FrozenTeacher' not in kinds


def test_the_file_holds_no_teacher(said):
    path = json.loads((said/'said.json').read_text())[0]
    with zipfile.ZipFile(said/path/'student.pkl') as z:
        pickle = next(z.read(n) for n in z.namelist() if n.endswith('data.pkl'))
    assert b'FrozenTeacher' not in pickle
