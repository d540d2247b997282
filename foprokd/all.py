"""What a notebook needs, in one line: `from foprokd.all import *` gives fastai's vision namespace and the names of ours that a notebook about
long-tailed images uses. Written by hand, as fastai's own `all` modules are; what is not here is imported from its page."""
from fastai.vision.all import *

from .adversarial import AdversarialCallback
from .data.labels import read_labels
from .data.loaders import image_dls, test_dl
from .data.longtail import class_counts, class_groups
from .data.splits import split_data
from .data.synth import demo_dls
from .distill import DistillCallback
from .explore import ExploreCallback, explore_learner
from .frequency.controls import BandPrompt, HighPassPrompt, LowPassPrompt, RandomPrompt
from .learner import FoProLearner, fopro_learner
from .losses import (BalancedSoftmaxLoss, LogitAdjustedLoss, akd_loss, balanced_softmax_loss, cosine_distance, ekd_loss,
                     fpg_loss, logit_adjusted_loss, mode_seeking, soft_target_loss)
from .measure.metrics import evaluate, longtail_metrics
from .pixels import PixelSpace
from .prompt import FourierPromptGenerator, IdentityPrompt, SpectralPrompt
from .student import Student, load_student
from .teacher import FrozenTeacher
