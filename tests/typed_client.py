"What a user writes, for mypy in tests/test_types.py; it is never run. Each line that ends in a comment `wrong` has to be refused, no other."
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.vision.all import DataLoaders
from torch import Tensor, nn

from foprokd.frequency.atlas import Atlas, frequency_atlas
from foprokd.distill import DistillCallback
from foprokd.explore import ExploreCallback
from foprokd.learner import FoProLearner, fopro_learner
from foprokd.losses import balanced_softmax_loss, ekd_loss
from foprokd.measure.metrics import evaluate
from foprokd.pixels import PixelSpace
from foprokd.deploy.onnx_student import OnnxStudent
from foprokd.prompt import FourierPromptGenerator, IdentityPrompt, SpectralPrompt
from foprokd.train.plan import fopro_schedule
from foprokd.frequency.sensitivity import SensitivityMap
from foprokd.student import Student
from foprokd.teacher import FrozenTeacher


def train(dls: DataLoaders) -> Path:
    learn: FoProLearner = fopro_learner(dls, 'resnet18', teacher='resnet50.a1_in1k', prompt=FourierPromptGenerator(strength=.5))
    phases: list[dict[str, Any]] = learn.fit_fopro(explore=5, distill=40, checkpoint=Path('runs'), resume=True)
    learn.show_prompts(n=2)
    learn.save('best')
    learn = learn.load('best')
    file: Path = learn.export_student('student.onnx', calibration=True)
    small: Path = learn.quantize_student(file)
    learn.deploy_report(file, small)
    print(len(phases), learn.lr_find(), [p.name for p in fopro_schedule(5, 40)])
    fopro_learner(dls, nn.Identity(), teacher=Path('moco.safetensors'), teacher_kwargs={'size': 224})
    fopro_learner(dls, 'resnet18', teacher=3)  # wrong
    learn.fit_fopro(explore='5')  # wrong
    learn.fit_fopro(epochs=5)  # wrong
    learn.export_student(3)  # wrong
    n: int = learn.export_student('student.onnx')  # wrong
    return file


def parts(dls: DataLoaders, x: Tensor, y: Tensor) -> Tensor:
    teacher = FrozenTeacher('embedded', dtype=torch.bfloat16)
    student = Student('resnet18', n_out=8, teacher_dim=teacher.num_features)
    prompt: SpectralPrompt = FourierPromptGenerator(mode='gain', z_dim=16)
    feats, prior = teacher.with_prior(prompt(PixelSpace.from_dls(dls)(x)))
    logits, projected, aux = student(x, heads=True)
    total, terms = ekd_loss(logits, aux, projected, feats, y, counts=[10, 5, 2], lam=3.)
    loss: Tensor = total + balanced_softmax_loss(logits, y, [10, 5, 2], reduction='sum') + prior + terms['feat']
    deployed: nn.Module = student.deploy()
    own: list[DistillCallback | ExploreCallback] = [DistillCallback(teacher, prompt), ExploreCallback(w_prior=.5)]
    again: FourierPromptGenerator = FourierPromptGenerator.from_file('prompt.safetensors')
    again.save('prompt.safetensors')
    FrozenTeacher(3)  # wrong
    FrozenTeacher('embedded', size=2.5)  # wrong
    FourierPromptGenerator(strenght=.5)  # wrong
    Student('resnet18', n_out='8')  # wrong
    ekd_loss(logits, aux, projected, feats, y)  # wrong
    balanced_softmax_loss('logits', y, [10, 5, 2])  # wrong
    IdentityPrompt().forward('image')  # wrong
    teacher.with_prior([1, 2])  # wrong
    print(deployed, own)
    return loss


def look(x: Tensor, images: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    atlas: Atlas = frequency_atlas({'ours': 'embedded'}, x, Path('atlas'), gains=(0., 2.))
    atlas.plot()
    print(atlas.frame(), SensitivityMap.load('map.safetensors').radial())
    scores: dict[str, Any] = evaluate(np.eye(3), [0, 1, 2], counts=[10, 5, 2], n_boot=100)
    clinic = OnnxStudent('student.onnx', threads=2)
    probs = clinic.probabilities(images)
    print(scores['balanced_accuracy'], probs.shape, clinic.classes)
    frequency_atlas(['embedded'], x, 'atlas')  # wrong
    evaluate(np.eye(3), [0, 1, 2], n_boots=100)  # wrong
    atlas.plot(3, 4, 5, 6, 7, 8, 9)  # wrong
    OnnxStudent('student.onnx', threads='2')  # wrong
    clinic.probabilities('image.png')  # wrong
